"""The book's common/layers.py. What is written here is what runs for arguments that the kernels do not take."""

import numpy as np

from ._book import accelerated as _accelerated
from .functions import *
from .functions import cross_entropy_error, sigmoid, softmax
from .util import col2im, im2col


@_accelerated
class Relu:
    """max(x, 0); `mask` is x <= 0. backward sets dout to 0 there, in place, and returns it."""

    def __init__(self):
        self.mask = None

    def forward(self, x):
        """x (any shape) -> the same shape and dtype."""
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        """dout, of forward's shape -> dout itself, changed."""
        dout[self.mask] = 0
        return dout


@_accelerated
class Sigmoid:
    """1 / (1 + exp(-x)), kept in `out`."""

    def __init__(self):
        self.out = None

    def forward(self, x):
        """x (any shape) -> `out`."""
        self.out = sigmoid(x)
        return self.out

    def backward(self, dout):
        """dout, of forward's shape -> dout * (1 - out) * out."""
        return dout * (1.0 - self.out) * self.out


@_accelerated
class Affine:
    """x @ W + b, W (D, M), b (M,). After backward, `dW` and `db` hold the gradients."""

    def __init__(self, W, b):
        self.W = W
        self.b = b
        self.x = None
        self.original_x_shape = None
        self.dW = None
        self.db = None

    def forward(self, x):
        """x (N, ...), D numbers in each row -> (N, M)."""
        self.original_x_shape = x.shape
        self.x = x.reshape(x.shape[0], -1)
        return np.dot(self.x, self.W) + self.b

    def backward(self, dout):
        """dout (N, M) -> dx, in the shape of forward's x."""
        dx = np.dot(dout, self.W.T)
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        return dx.reshape(*self.original_x_shape)


@_accelerated
class SoftmaxWithLoss:
    """Softmax and cross-entropy error; `y` is the softmax, `t` the labels, `loss` the error."""

    def __init__(self):
        self.loss = None
        self.y = None
        self.t = None

    def forward(self, x, t):
        """x (N, C), t: class indices (N,) or one-hot (N, C) -> the error, a scalar."""
        self.t = t
        self.y = softmax(x)
        self.loss = cross_entropy_error(self.y, self.t)
        return self.loss

    def backward(self, dout=1):
        """(y - t) / N, (N, C); dout is ignored."""
        rows = self.t.shape[0]
        if self.t.size == self.y.size:
            return (self.y - self.t) / rows
        dx = self.y.copy()
        dx[np.arange(rows), self.t] -= 1
        return dx / rows


@_accelerated
class Dropout:
    """Dropout (Srivastava et al., arXiv:1207.0580); `mask` is np.random.rand(*x.shape) > dropout_ratio."""

    def __init__(self, dropout_ratio=0.5):
        self.dropout_ratio = dropout_ratio
        self.mask = None

    def forward(self, x, train_flg=True):
        """x (any shape) -> x * mask, or when predicting x * (1 - dropout_ratio)."""
        if not train_flg:
            return x * (1.0 - self.dropout_ratio)
        self.mask = np.random.rand(*x.shape) > self.dropout_ratio
        return x * self.mask

    def backward(self, dout):
        """dout, of forward's shape -> dout * mask."""
        return dout * self.mask


@_accelerated
class BatchNormalization:
    """Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167) of x (N, D) or (N, C, H, W), as (N, C * H * W).

    The variance is biased, 10e-7 is added to it; `running_mean` and `running_var` begin at 0.
    """

    def __init__(self, gamma, beta, momentum=0.9, running_mean=None, running_var=None):
        self.gamma = gamma
        self.beta = beta
        self.momentum = momentum
        self.input_shape = None
        self.running_mean = running_mean
        self.running_var = running_var
        self.batch_size = None
        self.xc = None
        self.std = None
        self.dgamma = None
        self.dbeta = None

    def forward(self, x, train_flg=True):
        """x (N, D) or (N, C, H, W) -> the same shape."""
        self.input_shape = x.shape
        if x.ndim != 2:
            N, _, _, _ = x.shape
            x = x.reshape(N, -1)
        if self.running_mean is None:
            _, D = x.shape
            self.running_mean = np.zeros(D)
            self.running_var = np.zeros(D)
        xn = self._normalize(x) if train_flg else (x - self.running_mean) / np.sqrt(self.running_var + 10e-7)
        return (self.gamma * xn + self.beta).reshape(*self.input_shape)

    def _normalize(self, x):
        mean = x.mean(axis=0)
        self.xc = x - mean
        variance = np.mean(self.xc**2, axis=0)
        self.std = np.sqrt(variance + 10e-7)
        self.xn = self.xc / self.std
        self.batch_size = x.shape[0]
        self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mean
        self.running_var = self.momentum * self.running_var + (1 - self.momentum) * variance
        return self.xn

    def backward(self, dout):
        """dout, of forward's shape -> dx; sets `dgamma` and `dbeta`."""
        if dout.ndim != 2:
            N, _, _, _ = dout.shape
            dout = dout.reshape(N, -1)
        self.dbeta = dout.sum(axis=0)
        self.dgamma = np.sum(self.xn * dout, axis=0)
        dxn = self.gamma * dout
        dstd = -np.sum(dxn * self.xc / (self.std * self.std), axis=0)
        dxc = dxn / self.std + (2.0 / self.batch_size) * self.xc * (0.5 * dstd / self.std)
        dx = dxc - np.sum(dxc, axis=0) / self.batch_size
        return dx.reshape(*self.input_shape)


@_accelerated
class Convolution:
    """x (N, C, H, W) with the filters W (FN, C, FH, FW) and b (FN,). `col` is the matrix of patches, `col_W` of filters."""

    def __init__(self, W, b, stride=1, pad=0):
        self.W = W
        self.b = b
        self.stride = stride
        self.pad = pad
        self.x = None
        self.col = None
        self.col_W = None
        self.dW = None
        self.db = None

    def forward(self, x):
        """x (N, C, H, W) -> (N, FN, OH, OW), OH = (H + 2 pad - FH) // stride + 1."""
        FN, _, FH, FW = self.W.shape
        N, _, H, W = x.shape
        out_h = 1 + int((H + 2 * self.pad - FH) / self.stride)
        out_w = 1 + int((W + 2 * self.pad - FW) / self.stride)
        col = im2col(x, FH, FW, self.stride, self.pad)
        col_W = self.W.reshape(FN, -1).T
        out = np.dot(col, col_W) + self.b
        self.x, self.col, self.col_W = x, col, col_W
        return out.reshape(N, out_h, out_w, -1).transpose(0, 3, 1, 2)

    def backward(self, dout):
        """dout, of forward's shape -> dx; sets `dW` and `db`."""
        FN, C, FH, FW = self.W.shape
        rows = dout.transpose(0, 2, 3, 1).reshape(-1, FN)
        self.db = np.sum(rows, axis=0)
        self.dW = np.dot(self.col.T, rows).transpose(1, 0).reshape(FN, C, FH, FW)
        return col2im(np.dot(rows, self.col_W.T), self.x.shape, FH, FW, self.stride, self.pad)


@_accelerated
class Pooling:
    """The largest number of each window of pool_h x pool_w; `arg_max` (N * OH * OW * C,) is its place in the window."""

    def __init__(self, pool_h, pool_w, stride=2, pad=0):
        self.pool_h = pool_h
        self.pool_w = pool_w
        self.stride = stride
        self.pad = pad
        self.x = None
        self.arg_max = None

    def forward(self, x):
        """x (N, C, H, W) -> (N, C, OH, OW), OH = (H - pool_h) // stride + 1."""
        N, C, H, W = x.shape
        out_h = int(1 + (H - self.pool_h) / self.stride)
        out_w = int(1 + (W - self.pool_w) / self.stride)
        col = im2col(x, self.pool_h, self.pool_w, self.stride, self.pad).reshape(-1, self.pool_h * self.pool_w)
        out = np.max(col, axis=1).reshape(N, out_h, out_w, C).transpose(0, 3, 1, 2)
        self.x, self.arg_max = x, np.argmax(col, axis=1)
        return out

    def backward(self, dout):
        """dout, of forward's shape -> dx: each number where its maximum was."""
        dout = dout.transpose(0, 2, 3, 1)
        size = self.pool_h * self.pool_w
        windows = np.zeros((dout.size, size))
        windows[np.arange(self.arg_max.size), self.arg_max.flatten()] = dout.flatten()
        rows = dout.shape[0] * dout.shape[1] * dout.shape[2]
        return col2im(windows.reshape(rows, -1), self.x.shape, self.pool_h, self.pool_w, self.stride, self.pad)
