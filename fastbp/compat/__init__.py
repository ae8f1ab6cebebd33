"""The modules of the book's `common` folder on compiled kernels: one changed import in a script.

    from fastbp.compat.layers import *          # was: from common.layers import *

functions, gradient, layers, multi_layer_net, multi_layer_net_extend, optimizer, trainer and util have the book's names,
those that a star import of the book's module brings along (np, im2col, ...) among them. Arguments, attributes, draws of
random numbers and results are the book's, to rounding; arguments that the kernels do not take are computed by NumPy.

Where the book changed over the years, they follow its current version (November 2024):

- `cross_entropy_error`, and with it `SoftmaxWithLoss`, take the logarithm of y + 1e-7; until 2017 of y.
- `softmax` works along the last axis, whatever the rank; until 2020 a single vector or rows.
- `sum_squared_error` was called mean_squared_error until 2019.
- `Pooling` has a stride of 2 by default; until 2020 of 1.
- `Nesterov` changes the parameters before the velocity; until 2021 after it.
- The optimizer that the book's trainer calls 'rmsprpo' in its first known versions is 'rmsprop'.
- `BatchNormalization` takes images as (N, C * H * W); in July 2016 as (C, N * H * W).
"""
