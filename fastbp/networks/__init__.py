"""Networks, and keeping them: saved files, ONNX, the book's pickles."""

from ._mlp import MLP, TwoLayerNet
from ._saving import load, load_book_params
from ._tensor_files import SavedFileError

__all__ = ["MLP", "SavedFileError", "TwoLayerNet", "load", "load_book_params"]
