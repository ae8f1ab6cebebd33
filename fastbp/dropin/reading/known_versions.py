"""The known versions of the book's layers and functions, by the digest of their code (see `recognition`).

They are all that the public history of the book's repository has, oreilly-japan/deep-learning-from-scratch, from July 2016
to November 2024, and fastbp.compat's own. Where they differ in what they compute, the note says how; each keeps its own
behaviour.
"""

from __future__ import annotations

from typing import NamedTuple


class KnownVersion(NamedTuple):
    """What a definition is: `kind` is the book's name for it."""

    kind: str
    note: str = ""


NO_EPSILON = "2016: log(y) without 1e-7"
COMPAT = "a copy of fastbp.compat"
CHANNELS = "July 2016: images as (C, N * H * W)"

KNOWN_VERSIONS = {
    "b28a854e08b261deef2ac8dc": KnownVersion("Relu"),
    "c46314d6db3a2bd5f36ccfb3": KnownVersion("Sigmoid"),
    "002776e5b87d8233a935f362": KnownVersion("Affine"),
    "9de9066d0303848298ec049c": KnownVersion("SoftmaxWithLoss"),
    "1fffafd23fdf6e7410e8ff37": KnownVersion("Dropout"),
    "7b7984907273702093032e74": KnownVersion("BatchNormalization", CHANNELS),
    "1be73f78a3bf5a279814fc90": KnownVersion("BatchNormalization"),
    "e3ea5993d854c4aeab5266ab": KnownVersion("Convolution", "July 2016"),
    "a85cdb0b2e5710554a3c119e": KnownVersion("Convolution"),
    "0f24f671f42b1879f68b364f": KnownVersion("Pooling", "until 2020: stride=1"),
    "b6af64d92b12f2ee155f1594": KnownVersion("Pooling"),
    "931c359f0604d3356284d3b1": KnownVersion("sigmoid"),
    "2507eafbc032fb7fddd8491a": KnownVersion("softmax", "until 2020"),
    "4902c29b4823fa30caf93d8b": KnownVersion("softmax"),
    "eb002e4a43112def9e31195c": KnownVersion("cross_entropy_error", NO_EPSILON),
    "37a83b7d0d1b53a13aa21367": KnownVersion("cross_entropy_error"),
    "c6bb8545004409a92116b627": KnownVersion("im2col"),
    "25a1ab6e6dde49e89d8f78b5": KnownVersion("col2im"),
    "df191b1bbab6bc138ef14b62": KnownVersion("softmax", COMPAT),
    "f1ea66b47bb578ef9c3732f8": KnownVersion("cross_entropy_error", COMPAT),
    "afa3533ed5148bb732970bc0": KnownVersion("Relu", COMPAT),
    "9af6baba48a37d88c2919281": KnownVersion("Sigmoid", COMPAT),
    "9dd6eba1e87d01d6c07cc2a8": KnownVersion("Affine", COMPAT),
    "507ddaa7c2c41bb62d9b8712": KnownVersion("SoftmaxWithLoss", COMPAT),
    "afe6f913b81db229de4e1957": KnownVersion("Dropout", COMPAT),
    "edc1acbcbd0810da2e523247": KnownVersion("BatchNormalization", COMPAT),
    "e46dc77e57e171f20b309a4e": KnownVersion("Convolution", COMPAT),
    "a5a3872be153ced5971f358d": KnownVersion("Pooling", COMPAT),
    "cd559052e516eeaa4cc1f3c1": KnownVersion("im2col", COMPAT),
    "a8eb9d08bda053206d0b0d01": KnownVersion("col2im", COMPAT),
}
