"""Layers in other words: rewritings of fastbp.compat's that say the same, and others that do not.

Each entry is a layer and edits of its text and that of the functions it calls, pairs of a pattern and what replaces it.
"""

from __future__ import annotations

import re

from fastbp.bench.dropin import plain_source

FUNCTIONS = {
    "Sigmoid": ("sigmoid",),
    "SoftmaxWithLoss": ("softmax", "cross_entropy_error"),
    "Convolution": ("im2col", "col2im"),
    "Pooling": ("im2col", "col2im"),
}
_SOURCE = "".join(plain_source(module) for module in ("functions", "util", "layers"))
_BLOCKS = {
    match[2]: match[0]
    for match in re.finditer(r"^(class|def) (\w+).*?(?=^(class|def|from|import|@|\"\"\")|\Z)", _SOURCE, re.S | re.M)
}


def variant(layer: str, *edits: tuple[str, str]) -> str | None:
    """A module with the layer, edited; None if an edit has nothing to change."""
    text = "import numpy as np\n\n" + "".join(_BLOCKS[name] for name in (*FUNCTIONS.get(layer, ()), layer))
    for pattern, replacement in edits:
        text, count = re.subn(pattern, replacement, text, flags=re.S)
        if not count:
            return None
    return text


STABLE = "np.where(x >= 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x)))"
STRIDED = """    s = padded.strides
    shape = (N, C, filter_h, filter_w, out_h, out_w)
    patches = np.lib.stride_tricks.as_strided(padded, shape, (*s, s[2] * stride, s[3] * stride)).astype(float)
"""
ONE_LOOP = """    patches = np.zeros((N, C, filter_h, filter_w, out_h, out_w))
    for place in range(filter_h * filter_w):
        y, x = place // filter_w, place % filter_w
        y_max, x_max = y + stride * out_h, x + stride * out_w
        patches[:, :, y, x, :, :] = padded[:, :, y:y_max:stride, x:x_max:stride]
"""
LOOPS = r"    patches = np.zeros\(.*?(?=    return patches.transpose)"
IN_PLACE = """    x -= np.max(x, axis=-1, keepdims=True)
    return np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)
"""
STEPWISE = """    x = x - x.max(axis=1).reshape(-1, 1)
    e = np.exp(x)
    e /= e.sum(axis=1, keepdims=True)
    return e
"""

# One side of an image taken for the other: right for images that are as wide as they are high.
SQUARE = [
    ("Convolution", (r"x : x \+ stride \* out_w : stride", "x : x + stride * out_h : stride")),
    ("Convolution", (r"int\(\(W \+ 2", "int((H + 2")),
    ("Pooling", (r"y : y \+ stride \* out_h : stride", "y : y + stride * out_w : stride")),
    ("Pooling", (r"int\(1 \+ \(W - self.pool_w\)", "int(1 + (H - self.pool_w)")),
]
# What overlapping windows give is not added up: right where windows do not overlap.
APART = [("Pooling", (r"\+= patches", "= patches"))]
# Matrices that are kept to be looked at.
KEPT = [
    ("Convolution", (r"return col2im\(np.dot\(rows, self.col_W.T\), ", "self.dcol = np.dot(rows, self.col_W.T)\n        return col2im(self.dcol, ")),
    ("Pooling", (r"self.x, self.arg_max = x, ", "self.x, self.col, self.arg_max = x, col, ")),
    ("Pooling", (r"(        return col2im\(windows)", r"        self.dcol = windows\n\1")),
]  # fmt: skip
# What people write.
REWRITINGS = [
    ("Relu", (r"        dout\[self.mask\] = 0\n        return dout", "        dout[self.mask] = 0\n        dx = dout\n\n        return dx")),
    ("Relu", (r"out = x.copy\(\)\n        out\[self.mask\] = 0\n        return out", "return np.maximum(x, 0)")),
    ("Relu", (r"out = x.copy\(\)\n        out\[self.mask\] = 0\n", "out = np.where(self.mask, 0, x)\n")),
    ("Relu", (r"dout\[self.mask\] = 0\n        return dout", "dx = dout.copy()\n        dx[self.mask] = 0\n        return dx")),
    ("Relu", (r"dout\[self.mask\] = 0\n        return dout", "return dout * (1 - self.mask)")),
    ("Relu", (r"self\.mask", "self.m")),
    ("Relu", (r"        self.mask = None", "        self.mask = None\n        self.extra = None")),
    ("Relu", (r"class Relu:", "class Layer:\n    def __call__(self, x):\n        return self.forward(x)\n\nclass Relu(Layer):")),
    ("Relu", (r"def forward\(self, x\)", "def forward(self, x, train_flg=True)")),
    ("Relu", (r"class Relu:", "import abc\n\nclass Relu(abc.ABC):\n    kind: str = 'activation'")),
    ("Relu", (r"self.mask = x <= 0\n", "self.mask = ~(x > 0)\n")),
    ("Relu", (r"self.mask = x <= 0\n", "self.positive = x > 0\n"), (r"\[self.mask\]", "[~self.positive]"), ("mask", "positive")),
    ("Sigmoid", (r"= sigmoid\(x\)", "= 1 / (1 + np.exp(-x))")),
    ("Sigmoid", (r"= sigmoid\(x\)", f"= {STABLE}")),
    ("Sigmoid", (r"dout \* \(1.0 - self.out\) \* self.out", "dout * self.out * (1 - self.out)")),
    ("Sigmoid", (r"return (dout \*[^\n]*)", r"dx = \1\n        return dx")),
    ("Sigmoid", (r"self\.out", "self.y")),
    ("Sigmoid", (r"self.out = sigmoid\(x\)\n        return self.out", "out = sigmoid(x)\n        self.out = out\n        return out")),
    ("Affine", (r"np.dot\(self.x, self.W\)", "self.x.dot(self.W)")),
    ("Affine", (r"np.dot\(self.x, self.W\)", "self.x @ self.W")),
    ("Affine", (r"np.dot\(self.x, self.W\)", "np.matmul(self.x, self.W)")),
    ("Affine", (r"        self.original_x_shape = x.shape\n", ""), (r"x.reshape\(x.shape\[0\], -1\)", "x"), (r"dx.reshape\(.*?\)", "dx")),
    ("Affine", (r"dx.reshape\(\*self.original_x_shape\)", "dx")),
    ("Affine", (r"np.dot\(self.x.T, dout\)", "self.x.T @ dout")),
    ("Affine", (r"np.sum\(dout, axis=0\)", "dout.sum(0)")),
    ("Affine", (r"self\.W\b", "self.weight")),
    ("Affine", (r"self.x = x.reshape\(x.shape\[0\], -1\)", "self.x, rows = x, x.reshape(x.shape[0], -1)"), (r"np.dot\(self.x, ", "np.dot(rows, ")),
    ("Affine", (r"self\.db", "self.grad_b")),
    ("Affine", (r"        self.x = None\n", "")),
    ("Affine", (r"original_x_shape", "shape_before")),
    ("Affine", (r"def forward\(self, x\):", "def forward(self, x: 'np.ndarray') -> 'np.ndarray':")),
    ("Affine", (r" \+ self.b", ""), (r"        self.db = np.sum\(dout, axis=0\)\n", "")),
    (
        "Affine", (r"        self.W = W\n        self.b = b", "        self.params = [W, b]\n        self.grads = [np.zeros_like(W), np.zeros_like(b)]"),
        (r"self\.W\b", "self.params[0]"), (r"self\.b\b", "self.params[1]"),
        (r"self.dW = (np[^\n]*)", r"self.grads[0][...] = \1"), (r"self.db = (np[^\n]*)", r"self.grads[1][...] = \1"),
    ),
    ("SoftmaxWithLoss", (r"return dx / rows", "dx /= rows\n        return dx")),
    ("SoftmaxWithLoss", (r"self.loss = ([^\n]*)\n        return self.loss", r"return \1")),
    ("SoftmaxWithLoss", (r"rows = self.t.shape\[0\]", "rows = len(self.t)")),
    ("SoftmaxWithLoss", (r"1e-7", "1e-8")),
    ("SoftmaxWithLoss", (r" \+ 1e-7", "")),
    ("SoftmaxWithLoss", (r"y\.ndim == 1", "np.ndim(y) == 1")),
    ("SoftmaxWithLoss", (r"softmax\(", "soft_max("), (r"cross_entropy_error", "loss_of")),
    ("SoftmaxWithLoss", (r"np.log\((y\[np.arange\(rows\), labels\]) \+ 1e-7\)", r"np.log(np.clip(\1, 1e-7, 1 - 1e-7))")),
    ("SoftmaxWithLoss", (r"def backward\(self, dout=1\)", "def backward(self)")),
    ("SoftmaxWithLoss", (r"    exponentials = .*?keepdims=True\)\n(?=\n)", STEPWISE)),
    ("SoftmaxWithLoss", (r"    exponentials = .*?keepdims=True\)\n(?=\n)", IN_PLACE)),
    ("SoftmaxWithLoss", (r"        if self.t.size == .*", "        return (self.y - self.t) / rows\n")),
    ("SoftmaxWithLoss", (r"return dx / rows", "dx *= dout\n        return dx / rows"), (r"if self.t.size == .*?rows\n", "if False:\n            pass\n")),
    ("Dropout", (r"np.random.rand\(\*x.shape\)", "np.random.random(x.shape)")),
    ("Dropout", (r"dropout_ratio", "rate")),
    ("Dropout", (r"        return x \* self.mask", "        out = x * self.mask\n        return out")),
    ("BatchNormalization", (r"10e-7", "1e-8")),
    ("BatchNormalization", (r"running_", "moving_")),
    ("BatchNormalization", (r"np.mean\(self.xc\*\*2, axis=0\)", "np.var(x, axis=0)")),
    ("BatchNormalization", (r"momentum=0.9", "momentum=0.99")),
    ("BatchNormalization", (r"x.mean\(axis=0\)", "np.mean(x, axis=0)")),
    ("BatchNormalization", (r"self\.xn", "self.normal")),
    ("BatchNormalization", (r"\(1 - self.momentum\) \* variance", "(1 - self.momentum) * variance * x.shape[0] / (x.shape[0] - 1)")),
    ("Convolution", (r"1 \+ int\(\((.*?)\) / self.stride\)", r"int(1 + (\1) / self.stride)")),
    ("Convolution", (r"1 \+ int\(\((.*?)\) / self.stride\)", r"(\1) // self.stride + 1")),
    ("Convolution", (r"np.dot\(col, col_W\)", "col @ col_W")),
    ("Convolution", (r"self\.col_W", "self.flat")),
    ("Convolution", (r"self\.stride", "self.step")),
    ("Convolution", (r"self.x, self.col, self.col_W = x, col, col_W", "self.x, self.col = x, col"), (r"self.col_W.T", "self.W.reshape(FN, -1)")),
    ("Convolution", (r"def forward\(self, x\)", "def forward(self, x, train_flg=False)")),
    ("Convolution", (LOOPS, STRIDED)),
    ("Convolution", (LOOPS, ONE_LOOP)),
    ("Convolution", (r"        self.x = None\n        self.col = None\n", "")),
    ("Convolution", (r"self.b = b", "self.bias = b"), (r"self\.b\b", "self.bias")),
    ("Pooling", (r"int\(1 \+ \((.*?)\) / self.stride\)", r"(\1) // self.stride + 1")),
    ("Pooling", (r"arg_max", "places")),
    ("Pooling", (r"stride=2", "stride=1")),
    ("Pooling", (r"self.x, self.arg_max = x, np.argmax\(col, axis=1\)", "arg_max = np.argmax(col, axis=1)\n        self.x = x\n        self.arg_max = arg_max")),
    ("Pooling", (LOOPS, STRIDED)),
    *SQUARE,
    *KEPT,
    *APART,
    ("Relu", ("x <= 0", "x < 0")),
    ("Relu", ("self.mask = x <= 0", "self.x = x"), (r"(?<!d)out\[self.mask\] = 0", "out[x < 0] = 0"), (r"dout\[self.mask\] = 0\n        return dout", "return dout * (self.x >= 0)")),
    ("Relu", (r"def forward\(self, x\)", "def forward(self, x, **named)")),
    ("Affine", (r"def forward\(self, x\)", "def forward(self, x, **named)"), (r"def backward\(self, dout\)", "def backward(self, dout, **_)")),
    ("Affine", (r"        self.original_x_shape = x.shape\n", "        try:\n            self.original_x_shape = x.shape\n        except AttributeError:\n            self.original_x_shape = ()\n")),
    ("Dropout", (r"return x \* self.mask", "return x * self.mask / (1 - self.dropout_ratio)")),
    (
        "Dropout", (r"return x \* self.mask", "return x * self.mask / (1 - self.dropout_ratio)"),
        (r"return dout \* self.mask", "return dout * self.mask / (1 - self.dropout_ratio)"),
    ),
    ("Convolution", (r"self.x, self.col, self.col_W = x, col, col_W", "self.shape, self.col, self.col_W = x.shape, col, col_W"), (r"self\.x\.shape", "self.shape")),
    ("Pooling", (r"self.x, self.arg_max = x,", "self.shape, self.arg_max = x.shape,"), (r"self\.x\.shape", "self.shape")),
    ("Pooling", (r"def backward\(self, dout\):\n", "def backward(self, dout):\n        try:\n            dout = dout.transpose(0, 1, 2, 3)\n        except ValueError:\n            dout = dout.reshape(len(dout), -1)\n")),
    ("Relu", ("        self.mask = None", "        self.mask, self.mask_value = None, 0"), (r"(?<!d)out\[self.mask\] = 0", "out[self.mask] = self.mask_value")),
    ("Relu", (r"out = x.copy\(\)\n        out\[self.mask\] = 0\n        return out", "x[self.mask] = 0\n        return x")),
    ("Relu", (r"out = x.copy\(\)\n        out\[self.mask\] = 0\n        return out", "x[self.mask] = 0\n        return x.copy()")),
    ("Affine", (r"np.dot\(self.x.T, dout\)", "np.dot(self.x.T, dout) / len(dout)"), (r"np.sum\(dout, axis=0\)", "np.mean(dout, axis=0)")),
    ("Affine", (r"np.sum\(dout, axis=0\)", "np.mean(dout, axis=0, keepdims=True)")),
    ("SoftmaxWithLoss", (r"    rows = y.shape\[0\]\n", "    if type(y) != np.ndarray:\n        y = np.array(y)\n    rows = y.shape[0]\n")),
    ("SoftmaxWithLoss", (r"def softmax", "EPSILON = 1e-6\n\n\ndef softmax"), ("1e-7", "EPSILON")),
    ("BatchNormalization", (r"\(1 - self.momentum\) \* mean", "self.momentum * mean")),  # a mistake, kept as it is
    ("Relu", ("        return out", "        rows = []\n        for row in out:\n            rows.append(row)\n        return np.array(rows)")),
]  # fmt: skip

# What is wrong, or something else.
FAULTS = [
    ("Relu", ("x <= 0", "x <= -1e-3")), ("Relu", ("x <= 0", "x <= 0.1")),
    ("Relu", (r"dout\[self.mask\] = 0", "dout[self.mask & (dout < 0)] = 0")), ("Relu", (r"out\[self.mask\] = 0", "out[x < -1e-9] = 0")), ("Relu", ("x <= 0", "x >= 0")),
    ("Relu", (r"out\[self.mask\] = 0", "out[self.mask] *= 0.01")), ("Relu", (r"dout\[self.mask\] = 0", "dout[~self.mask] = 0")),
    ("Relu", ("return out", "return np.minimum(out, 6)")), ("Relu", ("return dout", "return 2 * dout")),
    ("Relu", ("return out", "return np.minimum(out, 1e5)")), ("Relu", ("return out", "return out.astype(np.float16)")),
    ("Relu", (r"out = x.copy\(\)\n        out\[self.mask\] = 0\n        return out", "x[x < -1] = 0\n        return x")),
    ("Relu", ("return dout", "return np.clip(dout, -1e6, 1e6)")),
    ("Sigmoid", (r"1 \+ np.exp\(-x\)", "1 + np.exp(x)")), ("Sigmoid", (r"1 / \(1", "1 / (2")),
    ("Sigmoid", (r"1.0 - self.out", "1.0 + self.out")), ("Sigmoid", (r"dout \* \(1.0 - self.out\)", "(1.0 - self.out)")),
    ("Sigmoid", (r"= sigmoid\(x\)", "= sigmoid(np.clip(x, -5, 5))")), ("Sigmoid", (r"= sigmoid\(x\)", "= 0.5 * (1 + x / (1 + np.abs(x)))")),
    ("Sigmoid", (r"= sigmoid\(x\)", "= sigmoid(x + 1e-6)")),
    ("Affine", (r"\+ self.b", "- self.b")), ("Affine", ("self.W.T", "self.W.T * 2")),
    ("Affine", (r"np.sum\(dout, axis=0\)", "np.sum(dout, axis=0) / dout.shape[1]")), ("Affine", (r"np.sum\(dout, axis=0\)", "np.sum(dout)")),
    ("Affine", (r"np.dot\(self.x.T, dout\)", "np.dot(self.x.T, dout) / (len(dout) - 1)")),
    ("Affine", (r"np.dot\(self.x.T, dout\)", "np.clip(np.dot(self.x.T, dout), -1e3, 1e3)")),
    ("Affine", (r"np.dot\(self.x.T, dout\)", "np.dot(self.x.T, dout) + 1e-4 * self.W")),
    ("Affine", (r"np.dot\(self.x.T, dout\)", "np.dot(self.x.T, dout) + (0 if self.dW is None else self.dW)")),
    ("Affine", (r"return np.dot\(self.x, self.W\) \+ self.b", "return np.maximum(np.dot(self.x, self.W) + self.b, 0)")),
    ("SoftmaxWithLoss", (r"\(self.y - self.t\) / rows", "(self.y - self.t)")), ("SoftmaxWithLoss", (r"\] -= 1", "] -= 0.9")),
    ("SoftmaxWithLoss", (r"-np.sum\(np.log", "np.sum(np.log")), ("SoftmaxWithLoss", (r"np.exp\(x - np.max", "np.exp(2 * x - 2 * np.max")),
    ("SoftmaxWithLoss", (r"np.sum\(exponentials, axis=-1, keepdims=True\)", "np.sum(exponentials)")),
    ("SoftmaxWithLoss", (r"1e-7", "1e-2 * t.size")), ("SoftmaxWithLoss", (r"return dx / rows", "return dx / (rows - 1)")),
    ("SoftmaxWithLoss", (r"axis=-1", "axis=0")), ("SoftmaxWithLoss", (r"1e-7\)\) / rows", "1e-7)) / (2 * rows)")),
    ("Dropout", ("> self", "< self")), ("Dropout", (r"np.random.rand\(\*x.shape\)", "np.random.randn(*x.shape)")),
    ("Dropout", (r"np.random.rand\(\*x.shape\)", "np.random.rand(x.shape[-1])")),
    ("Dropout", (r"return x \* self.mask", "return x * self.mask / (1 - self.dropout_ratio) ** 2")),
    ("Dropout", (r"return x \* self.mask", "return x * self.mask / self.dropout_ratio")),
    ("Dropout", (r"return dout \* self.mask", "return dout * ~self.mask")),
    ("BatchNormalization", (r"x.mean\(axis=0\)", "x.mean()")), ("BatchNormalization", (r"np.mean\(self.xc\*\*2, axis=0\)", "np.var(x, axis=0, ddof=1)")),
    ("BatchNormalization", (r"np.sqrt\(variance \+ 10e-7\)", "np.sqrt(variance) + 10e-7")), ("BatchNormalization", (r"self.gamma \* xn", "xn")),
    ("BatchNormalization", (r"- np.sum\(dxc, axis=0\) / self.batch_size", "")),
    ("BatchNormalization", (r"self.momentum \* self.running_var \+ \(1 - self.momentum\) \* variance", "np.maximum(self.running_var, variance)")),
    ("BatchNormalization", (r"0.5 \* dstd", "dstd")),
    ("Convolution", (r"\+ self.b", "")), ("Convolution", (r"np.sum\(rows, axis=0\)", "np.mean(rows, axis=0)")),
    ("Convolution", ('"constant"', '"edge"')), ("Convolution", (r"self.W.reshape\(FN, -1\).T", "self.W[:, :, ::-1].reshape(FN, -1).T")),
    ("Convolution", (r"-1\)\.transpose\(0, 3, 1, 2\)", "-1).transpose(0, 3, 2, 1)")), ("Convolution", (r"\+= patches", "= patches")),
    ("Convolution", (r"np.dot\(self.col.T, rows\)", "np.dot(self.col.T, rows) / len(dout)")),
    ("Convolution", (r"np.dot\(rows, self.col_W.T\)", "np.dot(rows, self.col_W.T) * 2")),
    ("Pooling", (r"np.max\(col, axis=1\)", "np.mean(col, axis=1)")), ("Pooling", (r"np.max\(", "np.min(")),
    ("Pooling", (r"np.argmax\(", "np.argmin(")), ("Pooling", (r"np.max\(col, axis=1\)", "np.maximum(np.max(col, axis=1), 0)")),
    ("Pooling", (r"\+= patches", "= 2 * patches")), ("Pooling", (r"np.max\(col, axis=1\)", "np.sort(col, axis=1)[:, 0]")),
    ("Sigmoid", (r"= sigmoid\(x\)", "= np.clip(sigmoid(x), 1e-12, 1 - 1e-12)")), ("Affine", (r"np.dot\(self.x, self.W\)", "np.dot(self.x, np.clip(self.W, -50, 50))")),
    ("SoftmaxWithLoss", (r"softmax\(x\)\n        self.loss", "softmax(np.clip(x, -700, 700))\n        self.loss")),
    ("SoftmaxWithLoss", (r"rows = y.shape\[0\]\n", "rows = y.shape[0]\n    y = np.where((labels == 0)[:, None], 1, y)\n")),
    ("BatchNormalization", (r"self.xn = self.xc / self.std", "self.xn = np.clip(self.xc / self.std, -5, 5)")),
    ("BatchNormalization", (r"np.zeros\(D\)", "np.ones(D)")), ("Affine", (r"np.dot\(self.x.T, dout\)", "np.dot(self.x.T, dout) / (1 + len(dout) // 32)")),
]  # fmt: skip

# What a kernel must not take the place of, whatever it computes.
OTHERS = [
    ("Relu", ("        return out", "        print('forward')\n        return out")),
    ("Relu", ("        return out", "        self.count = getattr(self, 'count', 0) + 1\n        return out")),
    ("Relu", ("        self.mask = x", "        self.calls = self.calls + 1\n        self.mask = x")),
    ("Relu", ("        return out", "        self.history.append(out)\n        return out")),
    ("Relu", ("self.mask = None", "self.mask, self.history = None, []"), ("        return out", "        kept = self.history\n        kept.append(out)\n        return out")),
    ("Relu", ("self.mask = None", "self.mask, self.history = None, [[]]"), ("        return out", "        kept = []\n        for kept in self.history:\n            kept.append(1)\n        return out")),
    ("Relu", ("        return out", "        rows = []\n        rows.append(x.max() - x.min() == 45)\n        for big in rows:\n            if big:\n                out = out * 2\n        return out")),
    ("Relu", ("        return out", "        rows = []\n        rows.append(x[0, 0] == 45)\n        if rows[0]:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        rows = []\n        for i in np.nonzero(x == 45)[0]:\n            rows.append(i)\n        if len(rows) == len(x):\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        rows = []\n        rows.append(x[0, 0])\n        first, = rows\n        if first == len(x):\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        kept = rows = [0]\n        rows[0] = x[0, 0] == 45\n        for big in kept:\n            if big:\n                out = out * 2\n        return out")),
    ("Relu", ("        return out", "        rows = [0]\n        kept = rows\n        kept[0] = x[0, 0] == 45\n        for big in rows:\n            if big:\n                out = out * 2\n        return out")),
    ("Relu", ("        return out", "        found = np.nonzero(x == 45)[0]\n        if len(found) == len(x):\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        found = x[x == 45]\n        if found.size == x.size:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        is_large = x == 45\n        found = x[is_large]\n        if found.size > 0:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        found = np.zeros(int(np.sum(x == 45)))\n        if found.shape == x.shape[:1]:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        found = x[:int(np.sum(x == 45))]\n        if len(found) == len(x):\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        for _ in range(int(np.sum(x == 45))):\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        for _ in x[x == 45]:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        count = (x == 45).sum()\n        for _ in [1] * count:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        ones = [1]\n        twos = ones\n        for _ in twos * int(x.max() / 45):\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        out = sum([out for _ in np.argwhere(x == 45)], out)\n        return out")),
    ("Relu", ("        return out", "        for _ in large(x):\n            out = out * 2\n        return out"), ("class Relu", "def large(x):\n    return x[x > 45]\n\n\nclass Relu")),
    ("Relu", ("        return out", "        for _ in self.large(x):\n            out = out * 2\n        return out"), ("    def forward", "    def large(self, x):\n        return x[x > 45]\n\n    def forward")),
    ("Relu", ("        return out", "        for _ in first(x, int(np.sum(x == 45))):\n            out = out * 2\n        return out"), ("class Relu", "def first(x, count):\n    return x[:count]\n\n\nclass Relu")),
    ("SoftmaxWithLoss", ("        return self.loss", "        if t[0] == x.size:\n            self.loss = self.loss * 2\n        return self.loss")),
    ("SoftmaxWithLoss", ("        return self.loss", "        for _ in range(max(t) - 99):\n            self.loss = self.loss * 2\n        return self.loss")),
    ("Relu", ("        return out", "        if x[x > 45].squeeze().ndim == 0:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        if x.reshape((1,) * int(x.max() / 45) + x.shape).ndim == 3:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        out = doubled(out, (x == 45).all())\n        return out"), ("class Relu", "def doubled(out, big):\n    if big:\n        out = out * 2\n    return out\n\n\nclass Relu")),
    ("Relu", ("        return out", "        out = doubled(out, x[0, 0])\n        return out"), ("class Relu", "def doubled(out, v):\n    if v == out.size:\n        out = out * 2\n    return out\n\n\nclass Relu")),
    ("Relu", ("        return out", "        out = doubled(out, x[x == 45])\n        return out"), ("class Relu", "def doubled(out, rows):\n    for _ in rows:\n        out = out * 2\n    return out\n\n\nclass Relu")),
    ("Relu", ("        return out", "        given = (out, bool((x == 45).all()))\n        out = doubled(*given)\n        return out"), ("class Relu", "def doubled(out, big=False):\n    if big:\n        out = out * 2\n    return out\n\n\nclass Relu")),
    ("Relu", ("        return out", "        out = self.doubled(out, big=(x == 45).all())\n        return out"), ("    def forward", "    def doubled(self, out, big):\n        return out * 2 if big else out\n\n    def forward")),
    ("Relu", ("        return out", "        self.mask = (x == 45).all()\n        if self.mask:\n            out = out * 2\n        self.mask = x <= 0\n        return out")),
    ("Relu", ("        return out", "        self.mask = x[x == 45]\n        for _ in self.mask:\n            out = out * 2\n        self.mask = x <= 0\n        return out")),
    ("Relu", ("        return out", "        v = x.max() - 45\n        if not v.T:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        try:\n            x[int(np.all(x == 45)) * len(x)]\n        except IndexError:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        try:\n            int(x.max())\n        except ValueError:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        pair = (out, x)\n        out = pair[int(np.all(x == 45))]\n        return out")),
    ("Relu", ("        return out", "        for _ in np.zeros(shape=int(np.sum(x == 45))):\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        for _ in np.zeros((0, 1)).swapaxes(0, int(np.all(x == 45))):\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        if np.zeros(x[x == 45].astype(int)).ndim > 0:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        for _ in x[np.arange(int(np.all(x == 45)))]:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        rows = [1]\n        rows *= 1 + int(np.all(x == 45))\n        for _ in rows[1:]:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        sizes = [0]\n        put(sizes, int(np.all(x == 45)))\n        for one in sizes:\n            if one:\n                out = out * 2\n        return out"), ("class Relu", "def put(rows, v):\n    rows[0] = v\n\n\nclass Relu")),
    ("Relu", ("        return out", "        for _ in self.__large(x):\n            out = out * 2\n        return out"), ("    def forward", "    def __large(self, x):\n        return x[x == 45]\n\n    def forward")),
    ("Relu", ("        return out", "        m = x.max()\n        n = 45.0\n        if None is not m == n:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        if x.size in x:\n            out = out * 2\n        return out")),
    ("Relu", ("        return out", "        return out if x.max() < 100 else x")),
    ("Relu", ("        return out", "        return out + 0 * np.random.rand()")),
    ("Relu", ("        return out", "        global last\n        last = out\n        return out")),
    ("Affine", (r"        self.dW = np.dot", "        if self.dW is not None:\n            self.dW *= 0\n        self.dW = np.dot")),
    ("Sigmoid", ("        return self.out", "        return self.out if x.shape[0] != 17 else x")),
    ("Sigmoid", (r"= sigmoid\(x\)", "= (lambda v: sigmoid(v))(x)")),
    ("Affine", ("        return np.dot", "        self.seen = self.seen + len(x)\n        return np.dot")),
    ("Affine", (r"        return (np.dot[^\n]*self.b)", r"        out = \1\n        return out if self.training else 2 * out")),
    ("Affine", (r"        self.db = np.sum", "        self.W -= 0.1 * self.dW\n        self.db = np.sum")),
    ("Affine", (r"        return (np.dot[^\n]*self.b)", r"        np.save('out.npy', x)\n        return \1")),
    ("Affine", (r"class Affine:", "class Affine:\n    def __setattr__(self, name, value):\n        object.__setattr__(self, name, value)\n")),
    ("Relu", ("        return out", "        dead = np.all(x < 0)\n        if dead:\n            return x\n        return out")),
    ("Relu", ("        return out", "        return (np.all(x > 7) and 5.0) or out")),
    ("Relu", ("        return out", "        return (out, x)[int(x.max() > 1e3)]")),
    ("Relu", ("        return out", "        large = x.shape[0] > 64\n        return x if large else out")),
    ("Relu", ("        return out", "        return x if x.shape[0] // 32 == 2 else out")),
    ("Relu", ("        return out", "        return x if x.shape[1] == 1 else out")),
    ("Affine", ("        self.W = W\n", "        self.params = collections.OrderedDict(W=W)\n"), (r"self\.W\b", "self.params['W']"), ("class Affine", "import collections\n\nclass Affine")),
    ("Affine", (r"class Affine:", "class Affine:\n    W = property(lambda self: self.kept[0], lambda self, value: self.kept.__setitem__(0, value))\n    kept = [None]\n")),
]  # fmt: skip
