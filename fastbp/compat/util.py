"""The book's common/util.py: smoothing, shuffling, and images as rows of patches."""

import numpy as np

from ._book import accelerated as _accelerated


def smooth_curve(x):
    """x (n,), n > 10 -> (n,), smoothed with a Kaiser window of 11 for a plot."""
    window = np.kaiser(11, 2)
    mirrored = np.r_[x[10:0:-1], x, x[-1:-11:-1]]
    return np.convolve(window / window.sum(), mirrored, mode="valid")[5 : len(x) + 5]


def shuffle_dataset(x, t):
    """x (n, D) or (n, C, H, W), t (n, ...) -> both in the same new order, drawn by np.random.permutation."""
    order = np.random.permutation(x.shape[0])
    return (x[order, :] if x.ndim == 2 else x[order, :, :, :]), t[order]


def conv_output_size(input_size, filter_size, stride=1, pad=0):
    """How many places a filter has along an axis; a float, as in the book."""
    return (input_size + 2 * pad - filter_size) / stride + 1


@_accelerated
def im2col(input_data, filter_h, filter_w, stride=1, pad=0):
    """input_data (N, C, H, W) -> (N * OH * OW, C * filter_h * filter_w), float64: a row for each patch."""
    N, C, H, W = input_data.shape
    out_h, out_w = (H + 2 * pad - filter_h) // stride + 1, (W + 2 * pad - filter_w) // stride + 1
    padded = np.pad(input_data, [(0, 0), (0, 0), (pad, pad), (pad, pad)], "constant")
    patches = np.zeros((N, C, filter_h, filter_w, out_h, out_w))
    for y in range(filter_h):
        for x in range(filter_w):
            patches[:, :, y, x] = padded[:, :, y : y + stride * out_h : stride, x : x + stride * out_w : stride]
    return patches.transpose(0, 4, 5, 1, 2, 3).reshape(N * out_h * out_w, -1)


@_accelerated
def col2im(col, input_shape, filter_h, filter_w, stride=1, pad=0):
    """col, as im2col gives it, input_shape (N, C, H, W) -> images, float64: patches added where they came from."""
    N, C, H, W = input_shape
    out_h, out_w = (H + 2 * pad - filter_h) // stride + 1, (W + 2 * pad - filter_w) // stride + 1
    patches = col.reshape(N, out_h, out_w, C, filter_h, filter_w).transpose(0, 3, 4, 5, 1, 2)
    images = np.zeros((N, C, H + 2 * pad + stride - 1, W + 2 * pad + stride - 1))
    for y in range(filter_h):
        for x in range(filter_w):
            images[:, :, y : y + stride * out_h : stride, x : x + stride * out_w : stride] += patches[:, :, y, x]
    return images[:, :, pad : H + pad, pad : W + pad]
