"""The book's networks: its weights, its names, its losses, its files."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from networks_cases import RNG

import fastbp


def test_the_books_networks_draw_and_name_their_weights_as_it_does():
    """From NumPy's global state, in this order; checked against the book's own classes for chapters 6 to 8."""
    np.random.seed(0)
    simple, deep = fastbp.SimpleConvNet(), fastbp.DeepConvNet()
    multi = fastbp.MultiLayerNet(20, [10, 8], 4, "sigmoid", "sigmoid", 0.1, use_batchnorm=True)
    np.random.seed(0)
    shapes = [(30, 1, 5, 5), (4320, 100), (100, 10)]
    for number, shape in enumerate(shapes, 1):
        np.testing.assert_array_equal(simple.params[f"W{number}"], 0.01 * np.random.randn(*shape))
    inputs = [1 * 9, 16 * 9, 16 * 9, 32 * 9, 32 * 9, 64 * 9, 64 * 4 * 4, 50]
    for number, fan_in in enumerate(inputs, 1):
        W = deep.params[f"W{number}"]
        np.testing.assert_array_equal(W, np.sqrt(2 / fan_in) * np.random.randn(*W.shape))
    for number, (rows, columns) in enumerate([(20, 10), (10, 8), (8, 4)], 1):
        expected = np.sqrt(1 / rows) * np.random.randn(rows, columns)
        np.testing.assert_array_equal(multi.params[f"W{number}"], expected)
    assert list(multi.params)[:4] == ["W1", "b1", "gamma1", "beta1"]
    assert {network.dtype.name for network in (simple, deep, multi)} == {"float64"}
    assert multi.l2 == 0.1
    with pytest.raises(
        ValueError, match="conv_param_2 must have filter_num, filter_size, pad, stride, got none for pad"
    ):
        fastbp.DeepConvNet(conv_param_2={"filter_num": 16, "filter_size": 3, "stride": 1})


def test_the_multi_layer_net_is_that_of_the_compat_modules():
    """Weight decay and batch normalisation: the losses and gradients of fastbp.compat, which has the book's interface."""
    from fastbp.compat.multi_layer_net_extend import MultiLayerNetExtend

    settings = (12, [9, 8], 4, "relu", "relu", 0.1)
    np.random.seed(3)
    theirs = MultiLayerNetExtend(*settings, use_batchnorm=True)
    np.random.seed(3)
    ours = fastbp.MultiLayerNet(*settings, use_batchnorm=True)
    x, t = RNG.random((20, 12)), RNG.integers(0, 4, 20)
    for key, gradient in theirs.gradient(x, t).items():
        np.testing.assert_allclose(ours.gradient(x, t)[key], gradient, rtol=1e-9, atol=1e-12, err_msg=key)
    assert ours.training_loss(x, t) == pytest.approx(theirs.loss(x, t, train_flg=True), rel=1e-12)


def test_the_books_pickles_fit(tmp_path, monkeypatch):
    """The lines of docs/networks.md, with a file as the book's save_params writes it."""
    monkeypatch.chdir(tmp_path)
    saved = fastbp.DeepConvNet(seed=5)
    (tmp_path / "ch08").mkdir()
    (tmp_path / "ch08" / "deep_convnet_params.pkl").write_bytes(pickle.dumps(dict(saved.params)))
    x_test, t_test = RNG.random((30, 1, 28, 28)), RNG.integers(0, 10, 30)
    page = (Path(__file__).parents[1] / "docs" / "networks.md").read_text("utf-8")
    names = {"fastbp": fastbp, "x_test": x_test, "t_test": t_test}
    exec(re.search(r"```py\n(.*?)```", page, re.DOTALL)[1], names)
    np.testing.assert_array_equal(names["network"].predict(x_test), saved.predict(x_test))
