"""Any input to any layer, function or network: what the reference gives, or the same kind of error, and no write outside.

Arrays of 0 to 70 in every axis, of all of NumPy's dtypes, in every layout, with every special value, in one thread and
shared by three; beside them, memory is watched: the bytes before and after each array that kernels make.
"""

import contextlib
import copy
import pickle
import sys
import warnings

import numpy as np
import pytest
from conftest import LAYOUTS, TOLERANCE, assert_parity, examples, in_layout
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
)
from fastbp.kernels import arrays as kernel_arrays

FLOATS = ("float32", "float64", "float16", "longdouble")
DTYPES = (
    *FLOATS, ">f4", ">f8", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4",
    "complex64", "complex128", "O", "S3", "U3", "datetime64[s]", "timedelta64[s]",
)  # fmt: skip
SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, -1e-310]
LARGE = [3e38, -1e300, 88.8, -745.2, 709.8]  # not in sums, where it depends on their order what is left of them
GUARD, PATTERN = 64, 0xA5


class Guarded:
    """Arrays with watched bytes on both sides."""

    def __init__(self):
        self.buffers = []

    def empty(self, shape, dtype=float, order="C"):
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if dtype.hasobject or size == 0:
            return ORIGINAL["empty"](shape, dtype, order)
        buffer = ORIGINAL["empty"](size + 2 * GUARD, np.uint8)
        buffer[:] = PATTERN
        self.buffers.append(buffer)
        return buffer[GUARD:-GUARD].view(dtype).reshape(shape, order=order)

    def zeros(self, shape, dtype=float, order="C"):
        array = self.empty(shape, dtype, order)
        array[...] = ORIGINAL["zeros"]((), dtype)
        return array

    def empty_like(self, like, dtype=None, **_):
        like = np.asarray(like)
        return self.empty(like.shape, like.dtype if dtype is None else dtype)

    def check(self):
        for buffer in self.buffers:
            assert (buffer[:GUARD] == PATTERN).all(), "written before an array"
            assert (buffer[-GUARD:] == PATTERN).all(), "written after an array"


ORIGINAL = {name: getattr(np, name) for name in ("empty", "zeros", "empty_like")}


@contextlib.contextmanager
def guarded(threads=1):
    """Whatever NumPy allocates within is watched, and all kernels that know of threads use so many, for any work."""
    guard = Guarded()
    with pytest.MonkeyPatch.context() as patch:
        for name in ORIGINAL:
            patch.setattr(np, name, getattr(guard, name))
        for name, module in list(sys.modules.items()):
            if name.startswith("fastbp.kernels.") and hasattr(module, "threads_for"):
                patch.setattr(module, "threads_for", lambda work, least: threads)
        patch.setattr(kernel_arrays._scratch, "kept", {})
        yield guard
    guard.check()


def numbers(rng, shape, dtype, special, large):
    """Random numbers of any dtype; one in five of them special."""
    values = rng.standard_normal(shape) * 3
    if special:
        values = np.where(rng.random(shape) < 0.2, rng.choice([*SPECIAL, *(LARGE if large else [])], shape), values)
    with np.errstate(all="ignore"):
        kind = np.dtype(dtype).kind
        if kind in "mM":
            return np.nan_to_num(values, nan=0, posinf=9, neginf=-9).astype(np.int64).astype(dtype)
        if kind in "iub":
            return np.nan_to_num(values * 40, nan=0, posinf=99, neginf=-99).astype(np.int64).astype(dtype)
        return np.asarray(values).astype(dtype)


@st.composite
def arrays(draw, shape, dtypes=DTYPES, large=False):
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = numbers(rng, shape, draw(st.sampled_from(dtypes)), draw(st.booleans()), large)
    layout = draw(st.sampled_from((*LAYOUTS, "broadcast")))
    if layout == "broadcast":
        return np.broadcast_to(array[:1], array.shape) if array.size and array.ndim else array
    return array if array.dtype.hasobject or not array.size else in_layout(array, layout)


def outcome(work):
    """The arrays that work() returns, or the type of its error, and the warnings. What is not ours to raise is raised on."""
    with warnings.catch_warnings(record=True) as warned, np.errstate(all="warn"):
        warnings.simplefilter("always")
        try:
            result = work()
        except (TypeError, ValueError, RuntimeError, KeyError, OverflowError, FloatingPointError) as error:
            result = type(error), str(error)
    return result, {(one.category, str(one.message)) for one in warned}


def largest(array):
    """The largest finite magnitude."""
    return float(np.max(np.abs(array[np.isfinite(array)].astype(float)), initial=0)) if plain(array) else 0.0


def assert_alike(work, *given_arrays):
    """The same outcome on both backends. Errors are small beside the numbers of given_arrays, too."""
    floor = max(
        [1.0, *(float(np.max(np.abs(a[np.isfinite(a)].astype(float)), initial=0)) for a in given_arrays if plain(a))]
    )
    expected, warned = outcome(lambda: work("numpy"))
    for threads in (1, 3):
        with guarded(threads):
            found, warned_too = outcome(lambda: work("numba"))
        compare(found, expected, floor)
        assert warned_too <= warned


def plain(array):
    return array.dtype.kind in "fiub"


def compare(found, expected, floor=1.0):
    kinds = [one[0] if one and isinstance(one[0], type) else None for one in (found, expected)]
    assert kinds[0] == kinds[1], (found, expected)
    if kinds[0] is not None:
        assert found[1] == expected[1]
        return
    kinds = {np.asarray(one).dtype.name for one in expected if one is not None}
    coarsest = next((kind for kind in ("float16", "float32") if kind in kinds), None)  # what some of it was computed in
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one is None or other is None:
            assert one is other
            continue
        assert_sums_alike(one, other, f"result {number}", coarsest, floor)


def assert_sums_alike(one, other, name, coarsest, floor):
    """Parity, where numbers near the largest may become infinite in one order of a sum and not in another."""
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype.kind == "f" and one.shape == other.shape:
        limit = np.finfo(np.float32 if other.dtype == np.float32 else np.float64).max / 1e6
        if not (np.abs(other[np.isfinite(other)]) < limit).all() or not (np.abs(one[np.isfinite(one)]) < limit).all():
            assert one.dtype == other.dtype
            return
        tiny = np.finfo(one.dtype).tiny  # what is smaller than the smallest normal number may be 0
        one, other = (np.where(np.abs(a) < tiny, a.dtype.type(0), a) for a in (one, other))
    assert_parity(one, other, name, floor=floor, tolerance=TOLERANCE.get(coarsest))


SIDE = st.integers(0, 70)


def one_long(*others):
    """A shape with one axis of up to 70, anywhere, and others of up to so many."""
    return st.tuples(SIDE, *(st.integers(0, most) for most in others)).flatmap(st.permutations).map(tuple)


ANY_SHAPE = st.one_of(st.just(()), st.tuples(SIDE), st.tuples(SIDE, SIDE), one_long(9, 9), one_long(5, 5, 9))
ELEMENTWISE = (Relu, Sigmoid, Tanh, LeakyRelu, Identity)


@examples(150)
@given(st.sampled_from(ELEMENTWISE), arrays(ANY_SHAPE, large=True), st.data())
def test_elementwise_layers(make, x, data):
    same = data.draw(st.booleans())
    dout = data.draw(arrays(x.shape if same else ANY_SHAPE))
    if make in (Sigmoid, Tanh) and plain(dout):  # inf * (1 - y²): whether y is 1, or the number before it, is rounding
        dout = np.where(np.isfinite(dout), dout, 1).astype(dout.dtype)

    def work(backend):
        layer = make(backend=backend)
        return layer.forward(x), layer.backward(dout)

    assert_alike(work, dout)


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
@given(
    SIDE, SIDE, LABELS, st.sampled_from(["fits", "too large", "negative", "one-hot", "other"]), st.data()
)
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
@given(arrays(ANY_SHAPE), st.booleans(), st.booleans(), st.integers(0, 9), st.data())
def test_batch_normalization_and_dropout(x, training, per_channel, seed, data):
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

    assert_alike(normalized)
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
    st.sampled_from(sorted(fastbp.networks.LOSSES)),
    st.sampled_from(["float32", "float64"]),
    st.data(),
)
def test_networks(sizes, loss, dtype, data):
    rows = data.draw(SIDE)
    x = data.draw(arrays((rows, sizes[0]) if data.draw(st.integers(0, 9)) else ANY_SHAPE))
    if loss == "cross_entropy":
        t = np.random.default_rng(0).integers(-1 if data.draw(st.integers(0, 9)) == 0 else 0, sizes[-1], rows)
    else:
        t = data.draw(arrays((rows, sizes[-1])))

    def work(backend):
        network = MLP(sizes, "tanh", "xavier", dtype, backend, seed=0, loss=loss)
        scores = network.predict(x)
        value = network.loss(x, t)
        return scores, value, *network.gradient(x, t).values()

    assert_alike(work, x, t, np.array([largest(x) * largest(t)]))


@examples(60)
@given(st.sampled_from(sorted(fastbp.optimizers.OPTIMIZERS)), arrays(ANY_SHAPE), st.data())
def test_optimizers(name, parameter, data):
    gradient = data.draw(arrays(parameter.shape if data.draw(st.integers(0, 9)) else ANY_SHAPE))

    def work(backend):
        optimizer = fastbp.optimizers.OPTIMIZERS[name](0.1, backend=backend)
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


@examples(60)
@given(st.integers(1, 200_000), st.sampled_from(["float32", "float64"]), st.integers(0, 99))
def test_long_sums_keep_the_bound_of_pairwise_summation(length, dtype, seed):
    """db of Affine, a product of one column: 4 times NumPy's pairwise bound, eps * (16 + log2(n / 128)) * Σ|a|."""
    rng = np.random.default_rng(seed)
    x = np.full((length, 1), 0.1, dtype) if seed < 20 else rng.random((length, 1)).astype(dtype)
    layer = Affine(np.ones((1, 1), dtype), np.zeros(1, dtype), backend="numba")
    layer.forward(np.ones_like(x))
    layer.backward(x)
    exact = float(np.sum(x.astype(np.longdouble)))
    bound = 4 * np.finfo(dtype).eps * (16 + max(0, np.log2(length / 128))) * float(np.abs(x).sum(dtype=np.longdouble))
    assert abs(float(layer.db[0]) - exact) <= bound
    assert abs(float(layer.dW[0, 0]) - exact) <= bound
