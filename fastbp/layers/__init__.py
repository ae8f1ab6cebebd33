"""The layers of the book ゼロから作るDeep Learning (common/layers.py), on either backend.

A layer checks its arguments, caches what backward needs, and calls one kernel forward and one backward. Results are
new arrays in the dtype that NumPy's own arithmetic would give. Departures from the book, on purpose:

- `Relu.backward` leaves the caller's dout as it is; the book's sets it to 0 in place and returns it.
- Class indices out of range, negative ones too, are an error; NumPy would count negative ones from the end.
- `Sigmoid` does not warn of overflow.
- For a single sample, x (C,), `SoftmaxWithLoss.backward` divides by one sample; the book's divides by C.
"""

from ._activations import Elu, Gelu, GeluTanh, Identity, LeakyRelu, Relu, Sigmoid, Silu, Softplus, Tanh
from ._affine import Affine
from ._images import AveragePooling, Convolution, Flatten, Pooling
from ._losses import (
    AbsoluteErrorWithLoss,
    HuberWithLoss,
    IdentityWithLoss,
    PoissonWithLoss,
    SigmoidWithLoss,
    SoftmaxWithLoss,
)
from ._regularization import BatchNormalization, Dropout

__all__ = [
    "AbsoluteErrorWithLoss",
    "Affine",
    "AveragePooling",
    "BatchNormalization",
    "Convolution",
    "Dropout",
    "Elu",
    "Flatten",
    "Gelu",
    "GeluTanh",
    "HuberWithLoss",
    "Identity",
    "IdentityWithLoss",
    "LeakyRelu",
    "PoissonWithLoss",
    "Pooling",
    "Relu",
    "Sigmoid",
    "SigmoidWithLoss",
    "Silu",
    "SoftmaxWithLoss",
    "Softplus",
    "Tanh",
]
