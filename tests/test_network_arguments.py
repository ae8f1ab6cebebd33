"""What is wrong with the layers, arguments and images of a network of any layers is said."""

from __future__ import annotations

import numpy as np
import pytest
from networks_cases import LABELS, conv_net, trained

import fastbp
from fastbp import Sequential, Trainer, nn


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], ValueError, "layers must hold at least one layer"),
        ("relu", TypeError, "layers must be a list of layers"),
        ([nn.Affine(3), "relu"], TypeError, r"layers\[1\] must be a layer of fastbp.nn \(Affine, .*, Tanh\)"),
        ([nn.Relu], TypeError, r"layers\[0\] must be a layer, got the class Relu; write Relu\(...\)"),
        (
            [nn.Conv(3, 9), nn.Affine(4)],
            ValueError,
            r"layers\[0\], Conv\(3, 9\): its window \(9, 9\) is larger",
        ),
        (
            [nn.Affine(3), nn.MaxPool(2)],
            ValueError,
            r"layers\[1\], MaxPool\(2\): it needs images, .* has shape \(3,\)",
        ),
        (
            [nn.Conv(3, 3)],
            ValueError,
            r"layers\[-1\], Conv\(3, 3\), gives an array of shape \(3, 6, 6\) for each sample",
        ),
    ],
)
def test_layers_that_do_not_fit_are_named(layers, error, message):
    with pytest.raises(error, match=message):
        conv_net(layers)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Affine(0), ValueError, "units must be at least 1, got 0"),
        (lambda: nn.Conv(3, 2.5), TypeError, "size must be an integer, got 2.5"),
        (lambda: nn.Conv(3, (1, 2, 3)), ValueError, "size must be one number or two"),
        (lambda: nn.Conv(3, 3, pad=-1), ValueError, "pad must be at least 0, got -1"),
        (lambda: nn.MaxPool(2, stride=0), ValueError, "stride must be at least 1, got 0"),
        (lambda: nn.Dropout(1), ValueError, "ratio must be at least 0 and below 1"),
        (lambda: nn.BatchNorm("high"), TypeError, "momentum must be a number"),
        (lambda: nn.Affine(3, weight_init_std="lecun"), ValueError, "weight_init_std must be one of 'he', 'xavier'"),
        (lambda: Sequential(28, [nn.Affine(3)]), TypeError, "input_shape must be a sequence"),
        (lambda: Sequential((), [nn.Affine(3)]), ValueError, "input_shape must hold at least one size"),
        (lambda: Sequential((0,), [nn.Affine(3)]), ValueError, r"input_shape\[0\] must be at least 1"),
        (lambda: fastbp.MultiLayerNet(20, 10, 4), TypeError, "hidden_size_list must be a list of widths"),
        (lambda: fastbp.MultiLayerNet(20, [10], 4, "swish"), ValueError, "activation must be one of 'relu'"),
        (lambda: fastbp.MultiLayerNet(20, [0], 4), ValueError, "units must be at least 1, got 0"),
        (lambda: fastbp.DeepConvNet((1, 2, 2)), ValueError, r"layers\[14\], MaxPool\(2\): its window"),
        (lambda: Trainer(conv_net(), dropout=0.5), ValueError, r"put nn.Dropout\(0.5\) among the layers"),
    ],
)
def test_wrong_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 8, 8, 2), r"must have shape \(N, 2, 8, 8\), .* got \(5, 8, 8, 2\): the channels come last, x.transpose"),
        ((5, 128), r"got \(5, 128\): x.reshape\(-1, 2, 8, 8\) has it"),
        ((5, 8, 8), r"must have shape \(N, 2, 8, 8\), images as \(N, channels, height, width\), got \(5, 8, 8\)$"),
        ((2, 8, 8), r"got \(2, 8, 8\)"),
        ((), r"got \(\)"),
    ],
)
def test_images_in_another_layout_are_told_what_is_expected(shape, message):
    network = conv_net()
    for call in (network.predict, lambda x: trained(network, data=(x, LABELS[: len(x)] if np.ndim(x) else LABELS))):
        with pytest.raises(ValueError, match=message):
            call(np.zeros(shape))
