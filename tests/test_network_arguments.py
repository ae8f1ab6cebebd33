"""What is wrong with the layers, arguments and images of a network of any layers is said."""

from __future__ import annotations

import numpy as np
import pytest
from networks_cases import IMAGES, LABELS, conv_net, trained

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
        ([nn.Affine(3), fastbp.SoftmaxWithLoss()], TypeError, r"got the loss SoftmaxWithLoss; .*loss='cross_entropy'"),
        (
            [fastbp.BatchNormalization(np.ones(2), np.zeros(2)), nn.Affine(4)],
            TypeError,
            r"layers\[0\], BatchNormalization: running_mean must be an array of real numbers .*, got NoneType",
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
        (lambda: fastbp.MultiLayerNet(20, [10], 4, use_dropout=0.2), TypeError, "use_dropout must be True or False"),
        (lambda: fastbp.SimpleConvNet(conv_param=30), TypeError, "conv_param must be a dict such as"),
        (lambda: nn.MaxPool((3, 2)), ValueError, "stride must be given for a window that is not square"),
        (lambda: nn.Conv(3, [3, "a"]), TypeError, "size must be an integer, got 'a'"),
        (lambda: nn.Dropout(0.5, inverted="no"), TypeError, "inverted must be True or False, got 'no'"),
        (lambda: nn.BatchNorm(per_channel=1), TypeError, "per_channel must be True or False, got 1"),
        (lambda: conv_net(weight_init_std=None), TypeError, "weight_init_std must be a number, 'he' or 'xavier'"),
        (
            lambda: Sequential((5, 7), [nn.BatchNorm(), nn.Affine(3)]),
            ValueError,
            r"layers\[0\], BatchNorm\(\): it needs",
        ),
        (lambda: conv_net(seed=np.random.default_rng(0)), TypeError, "seed must be None, an integer or a sequence"),
        (lambda: Trainer(conv_net(), seed=1.5), TypeError, "seed must be an integer, got 1.5"),
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


def test_numbers_of_numpy_are_numbers(tmp_path):
    """They can be kept in files, too."""
    layers = [
        nn.Conv(np.int64(3), (np.int32(3), 3), pad=np.uint8(1)),
        nn.MaxPool(np.int64(2)),
        nn.BatchNorm(np.float32(0.5)),
    ]
    layers += [
        nn.LeakyRelu(np.float64(0.25)),
        nn.Dropout(np.float32(0.5), np.bool_(True)),
        nn.Affine(np.int16(4), np.float32(0.1)),
    ]
    network = conv_net(layers, seed=np.int64(3))
    network.save(tmp_path / "n.safetensors")
    trained(network, 5, {"seed": np.int64(1)}, checkpoint=tmp_path / "run.ckpt")
    assert repr(fastbp.load(tmp_path / "n.safetensors")) == repr(network)
    assert "LeakyRelu(0.25)" in repr(network)


@pytest.mark.parametrize("seed", [2**70, [1, 2], np.int64(5)])
def test_any_seed_is_dropouts_too(seed):
    first, second = (
        conv_net([nn.Dropout(0.5), nn.Affine(4)], seed=seed).gradient(IMAGES, LABELS)["W1"] for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("layers", [[nn.BatchNorm(), nn.Dropout(0.5), nn.Affine(4)], [nn.Affine(4)]])
def test_what_is_wrong_with_a_batch_is_seen_before_anything_changes(layers):
    network = conv_net(layers)
    statistics = network.statistics.copy()
    for call in (network.loss, network.gradient, network.training_loss):
        with pytest.raises(ValueError, match="x must have at least one row, got none"):
            call(IMAGES[:0], LABELS[:0])
        with pytest.raises(ValueError, match="t must hold class indices from 0 to 3, got 4"):
            call(IMAGES, LABELS + 1)
        with pytest.raises(ValueError, match=r"t must hold one class index for each row, shape \(60,\)"):
            call(IMAGES, LABELS[:3])
    np.testing.assert_array_equal(network.statistics, statistics)
    assert network.step == 0
    assert network.loss(IMAGES, LABELS[:, None]) == network.loss(IMAGES, LABELS)


def test_the_books_networks_take_its_positional_arguments():
    network = fastbp.MultiLayerNet(20, [10], 4, "relu", "relu", 0.1, True, 0.3, True)
    assert [type(layer).__name__ for layer in network.layers.values()][:4] == [
        "Affine",
        "BatchNormalization",
        "Relu",
        "SeededDropout",
    ]
    small = {"filter_num": 2, "filter_size": 3, "pad": 1, "stride": 1}
    assert fastbp.DeepConvNet((1, 8, 8), small, small, small, small, small, small, 7, 5).params["W8"].shape == (7, 5)
