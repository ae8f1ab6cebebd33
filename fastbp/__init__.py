"""fastbp: backpropagation written by hand in NumPy, at compiled speed, with proof that the answers did not change."""

from .backends import default_backend, set_default_backend, set_num_threads, use_backend
from .gradients import check_gradients, numerical_gradient
from .layers import Affine, Relu, Sigmoid, SoftmaxWithLoss
from .networks import MLP, TwoLayerNet
from .optimizers import SGD
from .training import Evaluation, History, Trainer

__all__ = [
    "MLP",
    "SGD",
    "Affine",
    "Evaluation",
    "History",
    "Relu",
    "Sigmoid",
    "SoftmaxWithLoss",
    "Trainer",
    "TwoLayerNet",
    "check_gradients",
    "default_backend",
    "numerical_gradient",
    "set_default_backend",
    "set_num_threads",
    "use_backend",
]

__version__ = "0.1.0"
