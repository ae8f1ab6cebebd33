"""Training: the trainer, its callbacks, optimizers, and several processes together."""

from ._callbacks import (
    Callback,
    CSVLog,
    EarlyStopping,
    JSONLinesLog,
    LearningRate,
    LivePlot,
    cosine_decay,
    inverse_scaling,
    step_decay,
)
from ._distributed import shard
from ._optimizers import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSprop
from ._run import Evaluation, History
from ._trainer import Trainer

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "CSVLog",
    "Callback",
    "EarlyStopping",
    "Evaluation",
    "History",
    "JSONLinesLog",
    "LearningRate",
    "LivePlot",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSprop",
    "Trainer",
    "cosine_decay",
    "inverse_scaling",
    "shard",
    "step_decay",
]
