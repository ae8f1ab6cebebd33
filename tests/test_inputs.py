"""Any input to any layer, function or network: what the reference gives, or the same kind of error; see inputs.py."""

import copy
import itertools
import pickle

import numpy as np
from conftest import LAYOUTS, examples
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from inputs import ANY_SHAPE, DTYPES, FLOATS, SIDE, arrays, assert_alike, compare, largest, one_long, outcome, plain

import fastbp
from fastbp import (
    MLP,
    AbsoluteErrorWithLoss,
    Affine,
    BatchNormalization,
    Convolution,
    Dropout,
    HuberWithLoss,
    Identity,
    IdentityWithLoss,
    LeakyRelu,
    PoissonWithLoss,
    Pooling,
    Relu,
    Sigmoid,
    SigmoidWithLoss,
    SoftmaxWithLoss,
    Tanh,
    functional,
)

ELEMENTWISE = (Relu, Sigmoid, Tanh, LeakyRelu, Identity)


def finite(dout):
    """What comes back to a sigmoid or tanh: whether inf * (1 - y²) is NaN, y being 1 or the number before it, is chance."""
    return np.where(np.isfinite(dout), dout, 1).astype(dout.dtype) if plain(dout) else dout


@examples(150)
@given(st.sampled_from(ELEMENTWISE), arrays(ANY_SHAPE, large=True), st.data())
def test_elementwise_layers(make, x, data):
    same = data.draw(st.booleans())
    dout = data.draw(arrays(x.shape if same else ANY_SHAPE))
    if make in (Sigmoid, Tanh):
        dout = finite(dout)

    def work(backend):
        layer = make(backend=backend)
        return layer.forward(x), layer.backward(dout)

    assert_alike(work, dout, signs=True)


@examples(150)
@given(SIDE, SIDE, SIDE, st.data())
def test_affine(rows, depth, columns, data):
    fits = data.draw(st.integers(0, 9)) > 0
    x = data.draw(arrays((rows, depth) if fits else ANY_SHAPE, DTYPES if data.draw(st.booleans()) else FLOATS[:2]))
    W = data.draw(arrays((depth, columns), FLOATS))
    b = data.draw(arrays((columns,) if data.draw(st.integers(0, 9)) else ANY_SHAPE, FLOATS))
    dout = data.draw(arrays((rows, columns), DTYPES if data.draw(st.booleans()) else FLOATS[:2]))

    def work(backend):
        layer = Affine(W, b, backend=backend)
        out = layer.forward(x)
        return out, layer.backward(dout), layer.dW, layer.db

    assert_alike(work)


LABELS = st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i8", "bool"])


@examples(150)
@given(SIDE, SIDE, LABELS, st.sampled_from(["fits", "too large", "negative", "one-hot", "other"]), st.data())
def test_softmax_with_loss(rows, classes, dtype, kind, data):
    x = data.draw(arrays((rows, classes), DTYPES if data.draw(st.booleans()) else FLOATS[:2]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    if kind == "other":
        t = data.draw(arrays(ANY_SHAPE))
    elif kind == "one-hot":
        t = data.draw(arrays((rows, classes)))
    else:
        low, high = {"fits": (0, max(classes, 1)), "too large": (0, classes + 3), "negative": (-2, max(classes, 1))}[
            kind
        ]
        t = rng.integers(low, high, rows).astype(dtype)

    def work(backend):
        layer = SoftmaxWithLoss(backend=backend)
        return layer.forward(x, t), layer.y, layer.backward()

    assert_alike(work)


@examples(100)
@given(
    st.sampled_from([IdentityWithLoss, SigmoidWithLoss, AbsoluteErrorWithLoss, HuberWithLoss, PoissonWithLoss]),
    arrays(st.tuples(SIDE, SIDE)),
    st.data(),
)
def test_layers_with_targets(make, x, data):
    t = data.draw(arrays(x.shape if data.draw(st.integers(0, 9)) else ANY_SHAPE))
    if data.draw(st.booleans()) and t.dtype.kind == "f":
        with np.errstate(all="ignore"):
            t = np.nan_to_num(np.abs(t) % 1)  # what probabilities and counts may be

    def work(backend):
        layer = make(backend=backend)
        return layer.forward(x, t), layer.y, layer.backward()

    assert_alike(work)


@examples(100)
@given(arrays(ANY_SHAPE, layouts=LAYOUTS), st.booleans(), st.booleans(), st.integers(0, 9), st.data())
def test_batch_normalization_and_dropout(x, training, per_channel, seed, data):
    """Not of equal rows: what is left of them without their mean is rounding."""
    count = x.shape[1] if x.ndim > 1 else 1
    count = count if per_channel or x.ndim < 3 else int(np.prod(x.shape[1:]))
    gamma, beta = (data.draw(arrays((count,), FLOATS)) for _ in range(2))
    dout = data.draw(arrays(x.shape))

    def normalized(backend):
        layer = BatchNormalization(gamma, beta, per_channel=per_channel, backend=backend)
        out = layer.forward(x, training)
        return (out, layer.backward(dout), layer.dgamma, layer.dbeta) if training else (out,)

    def dropped(backend):
        np.random.seed(seed)
        layer = Dropout(0.4, backend=backend)
        out = layer.forward(x, training)
        return (out, layer.backward(dout)) if training else (out,)

    assert_alike(normalized, dout)
    assert_alike(dropped)


@examples(100)
@given(
    one_long(3, 4, 4, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.data(),
)  # fmt: skip
def test_convolution_and_pooling(sizes, fh, fw, stride, pad, data):
    n, channels, height, width, filters = sizes
    kinds = DTYPES if data.draw(st.integers(0, 3)) == 0 else FLOATS[:2]
    x = data.draw(arrays((n, channels, height, width), kinds))
    W, b = data.draw(arrays((filters, channels, fh, fw), FLOATS)), data.draw(arrays((filters,), FLOATS))

    def with_dout(layer):
        out = layer.forward(x)
        dout = np.linspace(-1, 2, out.size).reshape(out.shape).astype(out.dtype)
        return out, layer.backward(dout)

    def convolved(backend):
        layer = Convolution(W, b, stride, pad, backend=backend)
        return (*with_dout(layer), layer.dW, layer.db)

    assert_alike(convolved)
    assert_alike(lambda backend: with_dout(Pooling(fh, fw, stride, pad, backend=backend)))


@examples(60)
@given(
    st.lists(st.integers(1, 70), min_size=2, max_size=4),
    st.sampled_from(sorted(fastbp.layers._losses.LOSS_LAYERS)),
    st.sampled_from(["float32", "float64"]),
    st.data(),
)
def test_networks(sizes, loss, dtype, data):
    rows = data.draw(SIDE)
    x = data.draw(arrays((rows, sizes[0]) if data.draw(st.integers(0, 9)) else ANY_SHAPE))
    if loss == "cross_entropy":
        t = np.random.default_rng(0).integers(-1 if data.draw(st.integers(0, 9)) == 0 else 0, sizes[-1], rows)
    else:
        t = finite(data.draw(arrays((rows, sizes[-1]))))

    def work(backend):
        network = MLP(sizes, "tanh", "xavier", dtype, backend, seed=0, loss=loss)
        scores = network.predict(x)
        value = network.loss(x, t)
        accuracy = network.accuracy(x, t) if network.classifies else None
        probabilities = network.predict_proba(x) if network.classifies else None
        return scores, value, accuracy, probabilities, *network.gradient(x, t).values()

    assume(loss != "poisson" or largest(x) < 300)  # the rounding of a large score is as much larger in its exp
    assert_alike(work, x, t, np.array([largest(x) * largest(t)]))


@examples(60)
@given(
    st.tuples(SIDE, st.integers(1, 70), st.integers(1, 70), st.integers(1, 9)),
    st.sampled_from(sorted(fastbp.layers._losses.LOSS_LAYERS)),
    st.sampled_from(["momentum", "nesterov", "sgd"]),
    st.tuples(st.sampled_from([0.0, 1e-3]), st.sampled_from([0.0, 0.3]), st.booleans(), st.integers(1, 80)),
    st.data(),
)
def test_training(sizes, loss, rule, options, data):
    """Three steps, of batches that may be larger than the data; the parameters afterwards.

    Not by rules that divide by the size of past gradients: of those that are rounding alone, they make whole steps.
    """
    rows, *widths = sizes
    l2, dropout, shuffle, batch_size = options
    x = data.draw(arrays((rows, widths[0]) if data.draw(st.integers(0, 9)) else ANY_SHAPE))
    if loss == "cross_entropy":
        t = np.random.default_rng(0).integers(-1 if data.draw(st.integers(0, 9)) == 0 else 0, widths[-1], rows)
    else:
        t = finite(data.draw(arrays((rows, widths[-1]))))
    weights = data.draw(st.none() | arrays((rows,)))

    def work(backend):
        network = MLP(widths, "tanh", "xavier", "float64", backend, seed=0, loss=loss)
        trainer = fastbp.Trainer(
            network,
            fastbp.training._optimizers.OPTIMIZERS[rule](1e-3, backend=backend),
            batch_size,
            seed=0,
            l2=l2,
            dropout=dropout,
        )
        history = trainer.fit(
            x, t, iterations=3, shuffle=shuffle, sample_weight=weights, progress=False, on_nonfinite="ignore"
        )
        return np.array(history.losses), network.parameters

    parameters = outcome(lambda: work("numpy"))[0][1]
    assume(isinstance(parameters, str) or not (np.abs(parameters) > 1e3).any())  # exp runs away, and rounding with it
    assert_alike(work, x, t, np.array([largest(x) * largest(t)]))


@examples(40)
@given(st.lists(st.integers(1, 70), min_size=2, max_size=4), st.integers(0, 30), st.data())
def test_functions_on_the_tuple(layers, rows, data):
    weights = [finite(data.draw(arrays((after, before)))) for before, after in itertools.pairwise(layers)]
    biases = [data.draw(arrays((width,))) for width in layers[1:]]
    fits = data.draw(st.integers(0, 9))
    x = data.draw(arrays((rows, layers[0]) if fits else ANY_SHAPE))
    t = finite(data.draw(arrays((rows, layers[-1]))))

    def work(backend):
        y, outs, sums = functional.forward_prop(layers, weights, biases, x, True, backend)
        dW, db = functional.back_prop(layers, weights, biases, t, outs, sums, backend)
        return y, *outs, *sums, *dW, *db

    assert_alike(work, x, t)


@examples(60)
@given(st.sampled_from(sorted(fastbp.training._optimizers.OPTIMIZERS)), arrays(ANY_SHAPE), st.data())
def test_optimizers(name, parameter, data):
    gradient = data.draw(arrays(parameter.shape if data.draw(st.integers(0, 9)) else ANY_SHAPE))

    def work(backend):
        optimizer = fastbp.training._optimizers.OPTIMIZERS[name](0.1, backend=backend)
        params = {"W": parameter.copy() if data_is_plain(parameter) else parameter}
        before = params["W"].copy()
        for _ in range(3):
            outcome_of_update = outcome(lambda: (optimizer.update(params, {"W": gradient}),))[0]
            if isinstance(outcome_of_update[0], type):
                if plain(before):
                    np.testing.assert_array_equal(params["W"], before)  # an error changes nothing
                raise outcome_of_update[0](outcome_of_update[1])
        return (params["W"],)

    assert_alike(work)


def data_is_plain(array):
    return array.flags.writeable


class Layers(RuleBasedStateMachine):
    """Layers of both backends, side by side, used in any order: the same results or errors after each step."""

    @initialize(seed=st.integers(0, 99), dtype=st.sampled_from(["float32", "float64"]))
    def build(self, seed, dtype):
        self.rng = np.random.default_rng(seed)
        self.weights = [self.rng.standard_normal((6, 5)).astype(dtype), self.rng.standard_normal(5).astype(dtype)]
        self.params = {name: [array.copy() for array in self.weights] for name in ("numpy", "numba")}
        self.layers = {
            name: {"affine": Affine(*self.params[name], backend=name), "relu": Relu(name), "sigmoid": Sigmoid(name),
                   "tanh": Tanh(name), "loss": SoftmaxWithLoss(name), "normalization": BatchNormalization(
                       np.ones(5, dtype), np.zeros(5, dtype), backend=name)}
            for name in ("numpy", "numba")
        }  # fmt: skip
        self.compared = 0

    def both(self, work):
        found = {}
        for name in ("numpy", "numba"):
            found[name], _ = outcome(lambda name=name: work(self.layers[name], name))
        compare(found["numba"], found["numpy"])
        self.compared += 1

    @rule(rows=st.integers(0, 9), kind=st.sampled_from(["affine", "relu", "sigmoid", "tanh", "normalization"]))
    def forward(self, rows, kind):
        x = self.rng.standard_normal((rows, 6 if kind == "affine" else 5)).astype("float32")
        self.both(lambda layers, _: (layers[kind].forward(x),))

    @rule(rows=st.integers(0, 9), kind=st.sampled_from(["affine", "relu", "sigmoid", "tanh", "normalization"]))
    def backward(self, rows, kind):
        dout = self.rng.standard_normal((rows, 5)).astype("float32")
        self.both(lambda layers, _: (layers[kind].backward(dout), getattr(layers[kind], "dW", None)))

    @rule(rows=st.integers(1, 9))
    def two_in_a_row(self, rows):
        """The same relu in two places: the second forward is what backward goes by, in both."""
        x = self.rng.standard_normal((rows, 5)).astype("float32")

        def work(layers, _):
            out = layers["relu"].forward(layers["sigmoid"].forward(layers["relu"].forward(x)))
            return out, layers["relu"].backward(out), layers["relu"].backward(x)

        self.both(work)

    @rule(rows=st.integers(0, 9), wrong=st.booleans())
    def loss(self, rows, wrong):
        x, t = self.rng.standard_normal((rows, 5)), self.rng.integers(0, 5 + wrong, rows)
        self.both(lambda layers, _: (layers["loss"].forward(x, t), layers["loss"].backward()))

    @rule()
    def loss_backward(self):
        self.both(lambda layers, _: (layers["loss"].backward(),))

    @rule(value=st.floats(-2, 2))
    def change_weights_in_place(self, value):
        for arrays_ in self.params.values():
            arrays_[0][...] *= arrays_[0].dtype.type(value)

    @rule(columns=st.sampled_from([5, 4]))
    def swap_weights(self, columns):
        """Another W, that may no longer fit b or what was remembered."""
        W = self.rng.standard_normal((6, columns)).astype(self.weights[0].dtype)
        for layers in self.layers.values():
            layers["affine"].W = W

    @rule(how=st.sampled_from([copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))]))
    def copies(self, how):
        for name, layers in self.layers.items():
            self.layers[name] = {kind: how(layer) for kind, layer in layers.items()}

    @precondition(lambda self: hasattr(self, "layers"))
    @invariant()
    def weights_are_still_numbers(self):
        for layers in self.layers.values():
            assert layers["affine"].W.dtype == self.weights[0].dtype


Layers.TestCase.settings = examples(40)
TestLayers = Layers.TestCase
