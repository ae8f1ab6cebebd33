"""fastbp: backpropagation written by hand in NumPy, at compiled speed, with proof that the answers did not change."""

from ._version import __version__
from .backends import default_backend, set_default_backend, set_num_threads, use_backend
from .dropin import accelerate, accelerated, load_ipython_extension, unload_ipython_extension
from .gradients import check_gradients, numerical_gradient
from .image_layers import Convolution, Pooling
from .layers import (
    AbsoluteErrorWithLoss,
    Affine,
    HuberWithLoss,
    Identity,
    IdentityWithLoss,
    LeakyRelu,
    PoissonWithLoss,
    Relu,
    Sigmoid,
    SigmoidWithLoss,
    SoftmaxWithLoss,
    Tanh,
)
from .networks import MLP, TwoLayerNet
from .optimizers import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop
from .regularization_layers import BatchNormalization, Dropout
from .saving import load, load_book_params
from .tensor_files import SavedFileError
from .training import Evaluation, History, Trainer

__all__ = [
    "MLP",
    "SGD",
    "AbsoluteErrorWithLoss",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Affine",
    "BatchNormalization",
    "Convolution",
    "Dropout",
    "Evaluation",
    "History",
    "HuberWithLoss",
    "Identity",
    "IdentityWithLoss",
    "LeakyRelu",
    "Momentum",
    "Nesterov",
    "PoissonWithLoss",
    "Pooling",
    "RMSprop",
    "Relu",
    "SavedFileError",
    "Sigmoid",
    "SigmoidWithLoss",
    "SoftmaxWithLoss",
    "Tanh",
    "Trainer",
    "TwoLayerNet",
    "__version__",
    "accelerate",
    "accelerated",
    "check_gradients",
    "default_backend",
    "load",
    "load_book_params",
    "load_ipython_extension",
    "numerical_gradient",
    "set_default_backend",
    "set_num_threads",
    "unload_ipython_extension",
    "use_backend",
]
