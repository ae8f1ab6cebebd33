"""Networks and optimizers under the drop-in, and what fastbp.compat brings."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from dropin_cases import MODULES, assert_same, load_common, normal, outcome

import fastbp
from fastbp.bench.dropin import write_common
from fastbp.dropin.objects import arguments
from fastbp.dropin.objects.arguments import PASS
from fastbp.dropin.operations.optimizers import RULES, UPDATES, updating
from fastbp.dropin.reading import dropped_gradient


@pytest.fixture
def folder(tmp_path):
    write_common(tmp_path)
    return tmp_path


class Network:
    """Whose gradient goes through its layers from the last to the first, as the book's does."""

    def __init__(self, layers, seen):
        self.layers, self.seen = layers, seen

    def gradient(self, dout):
        for layer in reversed(list(self.layers.values()) if isinstance(self.layers, dict) else self.layers):
            dout = layer.backward(dout)
            self.seen.append(dout)


@pytest.mark.parametrize("container", [list, lambda layers: dict(enumerate(layers))])
def test_the_gradient_of_the_images_is_left_out_only_where_it_is_dropped(folder, container):
    """The book's networks drop it; who goes through the layers himself gets it."""
    with fastbp.accelerated():
        layers = load_common(folder)["layers"]
    dropping = dropped_gradient.dropping_first_gradient(Network.gradient)
    affine, x, dout = layers.Affine(normal(20, 30), np.zeros(30)), normal(40, 20), normal(40, 30)
    affine.forward(x)
    network = Network(container([affine]), seen := [])
    network.gradient(dout)
    assert np.isfinite(seen[-1]).all()
    dropping(network, dout)
    assert np.isnan(seen[-1]).all()
    assert seen[-1].shape == x.shape
    assert not arguments.is_computed(seen[-1])
    assert_same(affine.dW, x.T @ dout, "dW")
    network.gradient(dout)
    assert np.isfinite(seen[-1]).all()
    square = layers.Affine(normal(30, 30), np.zeros(30))
    square.forward(normal(40, 30))
    dropping(Network(container([square, square]), seen), dout)  # the same layer twice: the first result is used
    assert np.isfinite(seen[-2]).all()
    assert np.isfinite(seen[-1]).all()
    convolution = layers.Convolution(normal(30, 2, 2, 2), np.zeros(30))
    convolution.forward(normal(40, 2, 2, 2))
    dropping(Network(container([convolution]), seen), normal(40, 30, 1, 1))
    assert np.isnan(seen[-1]).all()
    assert seen[-1].shape == (40, 2, 2, 2)
    with pytest.raises(AttributeError):
        dropping(Network(container([affine, None]), seen), dout)
    affine.backward(dout)
    assert arguments.is_computed(affine.backward(dout))


DROPPING = [
    "layers = list(self.layers.values())\nlayers.reverse()\nfor layer in layers:\n    dout = layer.backward(dout)",
    "for one in reversed(self.layers):\n    dout = one.backward(dout)\nreturn self.grads",
    "for layer in list(self.layers.values())[::-1]:\n    dout = layer.backward(dout)",
    "for layer in reversed(list(self.layers.values())):\n    dout = layer.backward(dout)\nreturn 3",
    "backwards = list(reversed(self.layers))\nfor layer in backwards:\n    dout = layer.backward(dout)",
    "others = self.layers.copy()\nothers.reverse()\nfor layer in others:\n    dout = layer.backward(dout)",
]
NOT_DROPPING = [
    "for layer in reversed(self.layers):\n    dout = layer.backward(dout)\nreturn dout",
    "for layer in self.layers:\n    dout = layer.backward(dout)",
    "for layer in reversed(self.layers):\n    dout = layer.backward(dout)\n    self.seen.append(dout)",
    "for layer in reversed(self.layers):\n    dout = layer.backward(dout)\nself.dx = dout",
    "for layer in reversed(self.layers):\n    dout = layer.backward(dout)\nself.first.backward(dout)",
    "for layer in reversed(self.layers[1:]):\n    dout = layer.backward(dout)",
    "layers = self.layers[::-1]\nlayers.reverse()\nfor layer in layers:\n    dout = layer.backward(dout)",
    "layers = self.layers.copy()\nlayers.reverse()\nlayers.pop()\nfor layer in layers:\n    dout = layer.backward(dout)",
    "for layer in reversed(self.layers):\n    dout = layer.backward(dout)\nelse:\n    pass\nreturn [dout for _ in 'a']",
    "show = lambda: dout\nfor layer in reversed(self.layers):\n    dout = layer.backward(dout)\nshow()",
    "for layer in reversed(self.layers):\n    dout = self.other.backward(dout)",
    "for _ in range(2):\n    for layer in reversed(self.layers):\n        dout = layer.backward(dout)",
]


def method_of(body, folder):
    file = folder / "network.py"
    file.write_text("def gradient(self, dout):\n" + "".join(f"    {line}\n" for line in body.split("\n")), "utf-8")
    names = {}
    exec(compile(file.read_text("utf-8"), str(file), "exec"), names)
    return names["gradient"]


@pytest.mark.parametrize("body", DROPPING)
def test_methods_that_drop_the_gradient_of_their_input_are_found(body, tmp_path):
    assert dropped_gradient.layers_of_dropped(method_of(body, tmp_path)) == "layers"


@pytest.mark.parametrize("body", NOT_DROPPING)
def test_methods_that_use_the_gradient_of_their_input_are_not(body, tmp_path):
    assert dropped_gradient.layers_of_dropped(method_of(body, tmp_path)) is None


def test_networks_of_compat_have_the_gradients_of_plain_ones(folder):
    from fastbp.compat.multi_layer_net_extend import MultiLayerNetExtend

    networks = []
    for make in (load_common(folder)["multi_layer_net_extend"].MultiLayerNetExtend, MultiLayerNetExtend):
        np.random.seed(2)
        networks.append(make(20, [30, 25], 4, weight_decay_lambda=0.1, use_dropout=True, use_batchnorm=True))
    random = np.random.default_rng(
        0
    )  # of others, a ReLU's input may be so near 0 that the numerical gradient is another
    x, t = random.standard_normal((50, 20)), random.integers(0, 4, 50)
    gradients = []
    for network in networks:
        np.random.seed(3)
        gradients.append(network.gradient(x, t))
    assert gradients[0].keys() == gradients[1].keys() == networks[0].params.keys()
    for key, expected in gradients[0].items():
        assert_same(gradients[1][key], expected, key)
    assert networks[0].accuracy(x, t) == networks[1].accuracy(x, np.eye(4)[t])
    networks[1].layers = {name: layer for name, layer in networks[1].layers.items() if "Dropout" not in name}
    numerical, analytic = networks[1].numerical_gradient(x[:5], t[:5]), networks[1].gradient(x[:5], t[:5])
    for key in ("b3", "gamma1", "beta2"):
        np.testing.assert_allclose(numerical[key], analytic[key], atol=1e-5)


STAR = {
    "functions": "cross_entropy_error identity_function np relu relu_grad sigmoid sigmoid_grad softmax softmax_loss "
    "step_function sum_squared_error",
    "util": "col2im conv_output_size im2col np shuffle_dataset smooth_curve",
    "gradient": "np numerical_gradient numerical_gradient_2d",
    "optimizer": "AdaGrad Adam Momentum Nesterov RMSprop SGD np",
}
STAR["layers"] = (
    f"{STAR['functions']} im2col col2im Relu Sigmoid Affine SoftmaxWithLoss Dropout BatchNormalization Convolution Pooling"
)
STAR["trainer"] = f"{STAR['optimizer']} Trainer os sys"
STAR["multi_layer_net"] = f"{STAR['layers']} MultiLayerNet OrderedDict numerical_gradient os sys"
STAR["multi_layer_net_extend"] = f"{STAR['layers']} MultiLayerNetExtend OrderedDict numerical_gradient os sys"


@pytest.mark.parametrize("module", MODULES)
def test_a_star_import_of_compat_brings_what_the_book_s_brings(module):
    names = {}
    exec(f"from fastbp.compat.{module} import *", names)
    assert {name for name in names if not name.startswith("__")} == set(STAR[module].split())


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("shapes", [[(3,)], [(300, 500), (500,), ()], [(2, 3, 4, 5), (0, 4)]])
def test_optimizers_are_the_same_to_the_last_bit(folder, name, shapes):
    with fastbp.accelerated():
        fast = load_common(folder)["optimizer"]
    results = []
    for module in (load_common(folder)["optimizer"], fast):
        rng = np.random.default_rng(1)
        optimizer = getattr(module, name)(lr=0.1)
        params = {number: np.asarray(rng.standard_normal(shape)) for number, shape in enumerate(shapes)}
        arrays = dict(params)
        for _ in range(5):
            optimizer.update(
                params, {key: np.asarray(rng.standard_normal(value.shape)) for key, value in params.items()}
            )
        assert all(params[key] is array for key, array in arrays.items() if array.ndim)
        results.append((params, vars(optimizer)))
    for key, expected in results[0][0].items():
        np.testing.assert_array_equal(results[1][0][key], expected)
    assert results[0][1].keys() == results[1][1].keys()


@pytest.mark.parametrize(
    "rule", dict.fromkeys(UPDATES.values()), ids=lambda rule: f"{rule.name} of a {rule.container.__name__}"
)
def test_rules_are_array_code_s_to_the_last_bit(rule):
    """Dicts and the second volume's lists; gradients in any layout, as a convolution's dW is transposed."""
    rng = np.random.default_rng(2)
    shapes = [(4, 3, 5, 2), (30, 40), (40,)]
    settings = {"lr": 0.1, "momentum": 0.9, "decay_rate": 0.99, "beta1": 0.9, "beta2": 0.999, "iter": 3}
    state = {name: [np.abs(rng.standard_normal(shape)) for shape in shapes] for name in rule.slots}
    optimizer = type(
        "Optimizer", (), {**settings, **{name: rule.container(_keyed(rule, state[name])) for name in state}}
    )()
    params = [rng.standard_normal(shape) for shape in shapes]
    expected = {name: [array.copy() for array in arrays] for name, arrays in {**state, "p": params}.items()}
    mine = rule.container(_keyed(rule, params))
    update = updating(rule)
    for step in range(4, 7):
        grads = [rng.standard_normal(shape[::-1]).T for shape in shapes]
        assert update(optimizer, mine, rule.container(_keyed(rule, grads))) is None
        for place, g in enumerate(grads):
            _stated(rule.name, {name: arrays[place] for name, arrays in expected.items()}, g, step)
    for name, arrays in {**state, "p": params}.items():
        for array, wanted in zip(arrays, expected[name], strict=True):
            np.testing.assert_array_equal(array, wanted, err_msg=name)


def test_parameters_in_one_memory_are_left():
    """Threads might change at once what Python changes one after the other."""
    flat, grads = np.zeros(10_000), {"whole": np.ones(10_000), "half": np.ones(5_000)}
    optimizer = type("Optimizer", (), {"lr": 0.1})()
    update = updating(RULES["SGD"])
    assert update(optimizer, {"whole": flat, "half": flat[5_000:]}, grads) is PASS
    assert update(optimizer, {"whole": flat, "half": grads["half"]}, grads) is PASS
    assert not flat.any()
    assert update(optimizer, {"whole": flat, "half": np.zeros(5_000)}, grads) is None
    assert (flat == -0.1).all()


def _keyed(rule, arrays):
    return enumerate(arrays) if rule.container is dict else arrays


def _stated(name, at, g, step):
    """The book's rules, of one parameter `p` and its state, changed in place."""
    p, lr, momentum, decay, beta1, beta2 = at["p"], 0.1, 0.9, 0.99, 0.9, 0.999
    if name == "sgd":
        p -= lr * g
    elif name == "momentum":
        at["v"][...] = momentum * at["v"] - lr * g
        p += at["v"]
    elif name == "nesterov":
        p += momentum * momentum * at["v"]
        p -= (1 + momentum) * lr * g
        at["v"][...] = at["v"] * momentum - lr * g
    elif name == "nesterov until 2020":
        at["v"][...] = at["v"] * momentum - lr * g
        p += momentum * momentum * at["v"]
        p -= (1 + momentum) * lr * g
    elif name == "adam":
        at["m"][...] += (1 - beta1) * (g - at["m"])
        at["v"][...] += (1 - beta2) * (g**2 - at["v"])
        rate = lr * np.sqrt(1.0 - beta2**step) / (1.0 - beta1**step)
        p -= rate * at["m"] / (np.sqrt(at["v"]) + 1e-7)
    else:
        at["h"][...] = at["h"] * decay + (1 - decay) * g * g if name == "rmsprop" else at["h"] + g * g
        p -= lr * g / (np.sqrt(at["h"]) + 1e-7)


@pytest.mark.parametrize("name", RULES)
def test_odd_arguments_of_optimizers(folder, name):
    with fastbp.accelerated():
        fast = load_common(folder)["optimizer"]
    plain = load_common(folder)["optimizer"]
    one, ints, wide = np.ones((4, 3)), np.ones(3, int), np.ones((4, 6))
    shared = np.ones(3)
    for params, grads in [
        ({"W": one, "b": shared}, {"W": one}),
        ({"W": ints}, {"W": one[0]}),
        ({"W": wide[:, ::2]}, {"W": one}),
        ({"W": one.astype(np.float32)}, {"W": one}),
        ({"W": one}, {"W": one[0]}),
        ({"W": one}, {"W": 2.0}),
        ({"W": 1.0}, {"W": 2.0}),
        ({"W": shared, "V": shared}, {"W": one[0], "V": one[1]}),
        ({"W": np.asfortranarray(one)}, {"W": one}),
        ({}, {}),
    ]:
        results = []
        for module in (plain, fast):
            optimizer, now = getattr(module, name)(), copy.deepcopy((params, grads))
            raised = [outcome(optimizer.update, *now) for _ in range(3)]
            results.append((raised, now[0]))
        assert results[0][0] == results[1][0]
        for key, expected in results[0][1].items():
            np.testing.assert_array_equal(results[1][1][key], expected)
