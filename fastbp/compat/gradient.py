"""The book's common/gradient.py: gradients by central differences, h = 1e-4."""

import numpy as np

_H = 1e-4


def numerical_gradient(f, x):
    """f: a function of x, x (any shape), changed in place and restored -> df/dx, like x."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        value = x[index]
        x[index] = value + _H
        above = f(x)
        x[index] = value - _H
        below = f(x)
        gradient[index] = (above - below) / (2 * _H)
        x[index] = value
    return gradient


def numerical_gradient_2d(f, X):
    """f: a function of a row, X (n,) or (m, n) -> the gradient at each row, like X."""
    if X.ndim == 1:
        return numerical_gradient(f, X)
    gradient = np.zeros_like(X)
    for row, x in enumerate(X):
        gradient[row] = numerical_gradient(f, x)
    return gradient
