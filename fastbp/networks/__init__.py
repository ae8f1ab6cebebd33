"""Networks, and keeping them: saved files, ONNX, the book's pickles."""

from ._book import DeepConvNet, MultiLayerNet, SimpleConvNet
from ._mlp import MLP, TwoLayerNet
from ._network import Network
from ._saving import load, load_book_params
from ._sequential import Sequential
from ._tensor_files import SavedFileError

__all__ = [
    "MLP",
    "DeepConvNet",
    "MultiLayerNet",
    "Network",
    "SavedFileError",
    "Sequential",
    "SimpleConvNet",
    "TwoLayerNet",
    "load",
    "load_book_params",
]
