"""Layers in the wild: normalised by channel, pooled within a frame, with CS231n's index matrices, returning nothing."""

from __future__ import annotations

import numpy as np
import pytest
from dropin_cases import assert_layers_agree, assert_same, define, outcome, taken

from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.auditing import Auditor

BY_CHANNEL = """
import numpy as np


class BatchNormalization:
    def __init__(self, gamma, beta, rho=0.9):
        self.gamma, self.beta, self.rho = gamma, beta, rho
        self.moving_mean = self.moving_var = None

    def forward(self, x, train_flg=True):
        if x.ndim == 4:
            N, C, H, W = x.shape
            rows = x.transpose(0, 2, 3, 1).reshape(N * H * W, C)
            return self.normalize(rows, train_flg).reshape(N, H, W, C).transpose(0, 3, 1, 2)
        return self.normalize(x, train_flg)

    def normalize(self, x, train_flg, epsilon=1e-8):
        if self.moving_mean is None:
            self.moving_mean, self.moving_var = np.zeros(x.shape[1]), np.zeros(x.shape[1])
        if train_flg:
            mu = np.mean(x, axis=0)
            x_mu = x - mu
            var = np.mean(x_mu ** 2, axis=0)
            self.std = np.sqrt(var + epsilon)
            x_std = x_mu / self.std
            self.batch_size, self.x_mu, self.x_std = x.shape[0], x_mu, x_std
            self.moving_mean = self.rho * self.moving_mean + (1 - self.rho) * mu
            self.moving_var = self.rho * self.moving_var + (1 - self.rho) * var
        else:
            x_std = (x - self.moving_mean) / np.sqrt(self.moving_var + epsilon)
        return self.gamma * x_std + self.beta

    def backward(self, dout):
        if dout.ndim == 4:
            N, C, H, W = dout.shape
            rows = dout.transpose(0, 2, 3, 1).reshape(N * H * W, C)
            return self.gradient(rows).reshape(N, H, W, C).transpose(0, 3, 1, 2)
        return self.gradient(dout)

    def gradient(self, dout):
        self.dbeta = dout.sum(axis=0)
        self.dgamma = np.sum(self.x_std * dout, axis=0)
        scaled = self.gamma * dout / self.std
        through = np.sum(self.gamma * dout * self.x_mu, axis=0) / (self.std * self.std) / self.std / self.batch_size
        dx = scaled - self.x_mu * through
        return dx - np.sum(dx, axis=0) / self.batch_size
"""

POOLING = """
import numpy as np


def windows_of(x, high, wide, stride, pad, fill):
    N, C, H, W = x.shape
    out_h, out_w = (H + 2 * pad - high) // stride + 1, (W + 2 * pad - wide) // stride + 1
    padded = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)], "constant", constant_values=fill)
    col = np.zeros((N, C, high, wide, out_h, out_w))
    for y in range(high):
        for i in range(wide):
            col[:, :, y, i] = padded[:, :, y:y + stride * out_h:stride, i:i + stride * out_w:stride]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(-1, high * wide)


def images_of(col, shape, high, wide, stride, pad):
    N, C, H, W = shape
    out_h, out_w = (H + 2 * pad - high) // stride + 1, (W + 2 * pad - wide) // stride + 1
    col = col.reshape(N, out_h, out_w, C, high, wide).transpose(0, 3, 4, 5, 1, 2)
    images = np.zeros((N, C, H + 2 * pad + stride - 1, W + 2 * pad + stride - 1))
    for y in range(high):
        for i in range(wide):
            images[:, :, y:y + stride * out_h:stride, i:i + stride * out_w:stride] += col[:, :, y, i]
    return images[:, :, pad:H + pad, pad:W + pad]


class MaxPooling:
    def __init__(self, pool_h, pool_w, stride=1, pad=0):
        self.pool_h, self.pool_w, self.stride, self.pad = pool_h, pool_w, stride, pad

    def forward(self, x):
        N, C, H, W = x.shape
        out_h = (H + 2 * self.pad - self.pool_h) // self.stride + 1
        out_w = (W + 2 * self.pad - self.pool_w) // self.stride + 1
        col = windows_of(x, self.pool_h, self.pool_w, self.stride, self.pad, FILL)
        self.x, KEEP self.arg_max = x, KEPT np.argmax(col, axis=1)
        return np.max(col, axis=1).reshape(N, out_h, out_w, C).transpose(0, 3, 1, 2)

    def backward(self, dout):
        dout = dout.transpose(0, 2, 3, 1)
        dcol = np.zeros((dout.size, self.pool_h * self.pool_w))
        dcol[np.arange(dcol.shape[0]), self.arg_max] = dout.flatten()
        return images_of(dcol, self.x.shape, self.pool_h, self.pool_w, self.stride, self.pad)
"""

INDEXED = """
import numpy as np


def indices(shape, high, wide, stride, pad):
    N, C, H, W = shape
    assert (H + 2 * pad - high) % stride == 0
    assert (W + 2 * pad - wide) % stride == 0
    out_h, out_w = (H + 2 * pad - high) // stride + 1, (W + 2 * pad - wide) // stride + 1
    rows = np.tile(np.repeat(np.arange(high), wide), C).reshape(-1, 1)
    rows = rows + stride * np.repeat(np.arange(out_h), out_w).reshape(1, -1)
    columns = np.tile(np.arange(wide), high * C).reshape(-1, 1)
    columns = columns + stride * np.tile(np.arange(out_w), out_h).reshape(1, -1)
    return np.repeat(np.arange(C), high * wide).reshape(-1, 1), rows, columns


def to_columns(x, high, wide, stride=1, pad=0):
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant")
    k, i, j = indices(x.shape, high, wide, stride, pad)
    return padded[:, k, i, j].transpose(0, 2, 1).reshape(-1, high * wide * x.shape[1])


def to_images(col, shape, high, wide, stride=1, pad=0):
    N, C, H, W = shape
    padded = np.zeros((N, C, H + 2 * pad, W + 2 * pad), dtype=col.dtype)
    k, i, j = indices(shape, high, wide, stride, pad)
    np.add.at(padded, (slice(None), k, i, j), col.reshape(N, -1, C * high * wide).transpose(0, 2, 1))
    if pad == 0:
        return padded
    return padded[:, :, pad:-pad, pad:-pad]


class Convolution:
    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def forward(self, x):
        FN, C, FH, FW = self.W.shape
        N, C, H, W = x.shape
        out_h, out_w = (H + 2 * self.pad - FH) // self.stride + 1, (W + 2 * self.pad - FW) // self.stride + 1
        self.x, self.col = x, to_columns(x, FH, FW, self.stride, self.pad)
        self.rows = self.W.reshape(FN, -1).T
        return (np.dot(self.col, self.rows) + self.b).reshape(N, out_h, out_w, -1).transpose(0, 3, 1, 2)

    def backward(self, dout):
        FN, C, FH, FW = self.W.shape
        dout = dout.transpose(0, 2, 3, 1).reshape(-1, FN)
        self.db = np.sum(dout, axis=0)
        self.dW = np.dot(self.col.T, dout).transpose(1, 0).reshape(FN, C, FH, FW)
        return to_images(np.dot(dout, self.rows.T), self.x.shape, FH, FW, self.stride, self.pad)
"""

KEEPING = """
import numpy as np


class Dense:
    def __init__(self, weights, biases):
        self.weights, self.biases = weights, biases

    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.dot(inputs, self.weights) + self.biases

    def backward(self, dvalues):
        self.dweights = np.dot(self.inputs.T, dvalues)
        self.dbiases = np.sum(dvalues, axis=0, keepdims=True)
        self.dinputs = np.dot(dvalues, self.weights.T)


class ReLU:
    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.maximum(0, inputs)

    def backward(self, dvalues):
        self.dinputs = dvalues.copy()
        self.dinputs[self.inputs <= 0] = 0


class Last:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.x = x
        return np.dot(x, self.W) + self.b

    def backward(self, dout):
        self.dW, self.db = np.dot(self.x.T, dout), np.sum(dout, axis=0)
"""


def normal(*shape, dtype=np.float64):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def test_batch_normalisation_by_channel(both):
    plain, fast, counts = both(BY_CHANNEL)
    layers = [module.BatchNormalization(normal(5), normal(5)) for module in (plain, fast)]
    images, rows = normal(6, 5, 4, 3), normal(8, 5)
    calls = [
        ("forward", images),
        ("backward", 2 * images),
        ("forward", images, False),
        ("forward", rows),
        ("backward", rows),
    ]
    assert_layers_agree(layers, [*calls, *calls])
    assert taken(counts, "BatchNormalization.forward") == 6
    assert taken(counts, "BatchNormalization.backward") == 4


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("axis=0)\n            x_mu", "axis=1, keepdims=True)\n            x_mu"),
        ("transpose(0, 2, 3, 1)", "transpose(0, 3, 2, 1)"),
        ("/ self.batch_size\n        dx", "/ len(dout[0])\n        dx"),
    ],
)
def test_what_normalises_otherwise_is_not_taken_for_it(both, part, other):
    plain, fast, counts = both(BY_CHANNEL.replace(part, other))
    layers = [module.BatchNormalization(normal(5), normal(5)) for module in (plain, fast)]
    images = normal(6, 5, 4, 3)
    assert_layers_agree(layers, [("forward", images), ("backward", images)] * 2)
    assert min(one.calls - one.passed for one in counts.values()) == 0


@pytest.mark.parametrize("keeps", [("", ""), ("self.col,", "col,")])
@pytest.mark.parametrize(("fill", "is_known"), [("0", True), ("-np.inf", True), ("-1", False)])
def test_pooling_within_a_frame(both, fill, is_known, keeps):
    source = POOLING.replace("FILL", fill).replace("KEEP ", keeps[0] + " ").replace("KEPT", keeps[1])
    plain, fast, counts = both(source)
    for pad, window in ((1, (2, 2)), (2, (3, 4)), (1, (3, 2))):
        layers = [module.MaxPooling(*window, 2, pad) for module in (plain, fast)]
        x = normal(3, 2, 7, 6) - 2  # zeros of the frame are larger than most
        out = layers[0].forward(x)
        assert_layers_agree(layers, [("forward", x), ("backward", normal(*out.shape))])
    assert taken(counts, "MaxPooling.forward") == 3 * is_known
    assert taken(counts, "MaxPooling.backward") == 3 * is_known


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_convolution_by_index_matrices_where_whole_windows_fill_the_image(both, dtype):
    """In the style of CS231n: of other images it raises its AssertionError, as before."""
    plain, fast, counts = both(INDEXED)
    for stride, pad, side in ((1, 0, 7), (2, 1, 7), (2, 0, 8)):
        layers = [module.Convolution(normal(4, 3, 3, 3), normal(4), stride, pad) for module in (plain, fast)]
        x = (10 * normal(2, 3, side, side)).astype(dtype)
        if side == 8:
            for layer in layers:
                with pytest.raises(AssertionError):
                    layer.forward(x)
            continue
        out = layers[0].forward(x)
        assert_layers_agree(layers, [("forward", x), ("backward", normal(*out.shape))])
    assert taken(counts, "Convolution.forward") == taken(counts, "Convolution.backward") == 2


def test_a_convolution_without_a_bias(both):
    source = INDEXED.replace(" + self.b", "").replace("W, b, stride", "W, stride").replace("self.W, self.b", "self.W")
    source = source.replace("        self.db = np.sum(dout, axis=0)\n", "")
    plain, fast, counts = both(source)
    layers = [module.Convolution(normal(4, 3, 3, 3)) for module in (plain, fast)]
    out = layers[0].forward(normal(2, 3, 7, 7))
    assert_layers_agree(layers, [("forward", normal(2, 3, 7, 7)), ("backward", normal(*out.shape))] * 2)
    assert taken(counts, "Convolution.forward") == taken(counts, "Convolution.backward") == 2


def test_an_assertion_about_something_else_is_not_passed_over(both):
    source = INDEXED.replace("assert (H + 2 * pad - high) % stride == 0", "assert C * N == 2 * C")
    plain, fast, _ = both(source)
    layers = [module.Convolution(normal(4, 3, 3, 3), normal(4)) for module in (plain, fast)]
    for count in (2, 3):
        results = [outcome(layer.forward, normal(count, 3, 7, 7)) for layer in layers]
        assert_same(results[1], results[0], "out")


def test_layers_that_keep_their_results_and_return_nothing(both):
    plain, fast, counts = both(KEEPING)
    x, dout = normal(6, 4), normal(6, 3)
    dense = [module.Dense(normal(4, 3), normal(1, 3)) for module in (plain, fast)]
    assert_layers_agree(dense, [("forward", x), ("backward", dout)] * 2)
    assert_layers_agree([module.ReLU() for module in (plain, fast)], [("forward", x), ("backward", x[::-1])] * 2)
    assert_layers_agree(
        [module.Last(normal(4, 3), normal(3)) for module in (plain, fast)], [("forward", x), ("backward", dout)]
    )
    names = [f"{layer}.{method}" for layer in ("Dense", "ReLU", "Last") for method in ("forward", "backward")]
    assert [taken(counts, name) for name in names] == [2, 2, 2, 2, 1, 1]


def test_arguments_that_a_layer_takes_and_does_not_read(both):
    source = KEEPING.replace("def forward(self, x)", "def forward(self, x, **named)")
    plain, fast, counts = both(source)
    x = normal(6, 4)
    layers = [module.Last(normal(4, 3), normal(3)) for module in (plain, fast)]
    for _ in range(3):
        results = [layer.forward(x, train_flg=True, other=object()) for layer in layers]
        assert_same(results[1], results[0], "out")
        assert_same(layers[1].forward(x=x, train_flg=False), results[0], "out")
    assert taken(counts, "Last.forward") == 6
    with pytest.raises(TypeError, match="positional"):
        layers[1].forward(x, 1)


def test_arguments_that_a_layer_reads_leave_it_alone(both):
    source = KEEPING.replace("def forward(self, x)", "def forward(self, x, **named)").replace(
        "return np.dot(x, self.W) + self.b", "return np.dot(x, self.W) + named.get('b', self.b)"
    )
    plain, fast, counts = both(source)
    layers = [module.Last(normal(4, 3), normal(3)) for module in (plain, fast)]
    for named in ({}, {"b": 1.0}):
        results = [layer.forward(normal(6, 4), **named) for layer in layers]
        assert_same(results[1], results[0], "out")
    assert taken(counts, "Last.forward") == 0


@pytest.mark.parametrize("reads", ["self.b", "named['b']"])
def test_an_audit_hands_on_what_is_named(tmp_path, reads):
    source = KEEPING.replace("def forward(self, x)", "def forward(self, x, **named)").replace(
        "W) + self.b", f"W) + {reads}"
    )
    auditor = Auditor()
    start_accelerating(auditor)
    try:
        layer = define(source, tmp_path).Last(normal(4, 3), np.zeros(3))
    finally:
        stop_accelerating()
    for _ in range(2):
        assert_same(layer.forward(normal(6, 4), b=0.0), normal(6, 4) @ normal(4, 3), "out")
    audit = auditor.audits["Last.forward"]
    assert audit.calls - audit.passed == (2 if reads == "self.b" else 0)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_pixels_that_are_integers(both, dtype):
    plain, fast, counts = both(KEEPING)
    layers = [module.Last(normal(4, 3), normal(3)) for module in (plain, fast)]
    x = (100 * np.abs(normal(6, 4))).astype(dtype)
    assert_layers_agree(layers, [("forward", x), ("backward", normal(6, 3))] * 2)
    assert taken(counts, "Last.forward") == taken(counts, "Last.backward") == 2


def test_matrices_by_columns_stay_so(both):
    """As NumPy's results do: what comes after them, a product for one, takes other time for other layouts."""
    source = """
import numpy as np


class Relu:
    def forward(self, x):
        self.mask = x <= 0
        return np.where(self.mask, 0, x)

    def backward(self, dout):
        return np.where(self.mask, 0, dout)
"""
    plain, fast, counts = both(source)
    layers, x = [module.Relu() for module in (plain, fast)], normal(7, 5).T
    for _ in range(2):
        outs = [layer.forward(x) for layer in layers]
        dxs = [layer.backward(2 * x) for layer in layers]
        for one in (outs, dxs, [layer.mask for layer in layers]):
            assert_same(one[1], one[0], "result")
            assert one[1].flags.f_contiguous == one[0].flags.f_contiguous
    assert taken(counts, "Relu.forward") == taken(counts, "Relu.backward") == 2
