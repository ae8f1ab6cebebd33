"""The estimators beside scikit-learn's own: its checks, the same coefficients, its tools, and what it does not have."""

import copy
import io
import pickle
import subprocess
import sys
import warnings
from contextlib import redirect_stdout

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastbp.sklearn import MLPClassifier, MLPRegressor
from fastbp.training._callbacks import Callback, EarlyStopping

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*batch_size.*clipped:UserWarning"),
]


@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


DIGITS = load_digits(return_X_y=True)
PROBLEMS = {
    "digits": (DIGITS[0] / 16, DIGITS[1]),
    "binary": (DIGITS[0][:500] / 16, DIGITS[1][:500] > 4),
    "several labels": make_multilabel_classification(300, random_state=0),
    "words": (DIGITS[0][:300] / 16, np.array(["even", "odd"])[DIGITS[1][:300] % 2]),
}
OPTIONS = {
    "defaults": {},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "invscaling": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate": "invscaling", "learning_rate_init": 0.1},
    "adaptive": {"solver": "sgd", "momentum": 0.0, "learning_rate": "adaptive", "learning_rate_init": 0.2, "tol": 0.05,
                 "n_iter_no_change": 2},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "tol": 0.01},
    "logistic, deep": {"activation": "logistic", "hidden_layer_sizes": (20, 10), "alpha": 0.1},
    "in order": {"activation": "tanh", "shuffle": False, "batch_size": 64},
    "identity": {"activation": "identity", "hidden_layer_sizes": [7], "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
    "lbfgs": {"solver": "lbfgs", "hidden_layer_sizes": (8,), "alpha": 1.0},
}  # fmt: skip


def assert_alike(mine, theirs, X, loss=1e-9, coefs=1e-9):
    assert (mine.n_iter_, mine.t_, mine.n_outputs_, mine.out_activation_) == (
        theirs.n_iter_, theirs.t_, theirs.n_outputs_, theirs.out_activation_
    )  # fmt: skip
    for one, other in zip(mine.coefs_ + mine.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=coefs)
    np.testing.assert_allclose(mine.loss_, theirs.loss_, rtol=0, atol=loss)
    if hasattr(theirs, "loss_curve_"):
        np.testing.assert_allclose(mine.loss_curve_, theirs.loss_curve_, rtol=0, atol=loss)
        assert (mine.validation_scores_ is None) == (theirs.validation_scores_ is None)
        if mine.validation_scores_ is not None:
            np.testing.assert_allclose(mine.validation_scores_, theirs.validation_scores_, rtol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_classifier_learns_what_scikit_learns_does(problem, options, weighted):
    """Same draws, same updates, same decisions to stop: the same coefficients up to rounding."""
    X, y = PROBLEMS[problem]
    settings = {"random_state": 3, "max_iter": 12, **OPTIONS[options]}
    weights = np.random.RandomState(0).rand(len(X)) if weighted else None
    mine = MLPClassifier(**settings).fit(X, y, sample_weight=weights)
    numbers = (y == "odd") if problem == "words" else y  # with words and early stopping, scikit-learn 1.7 fails
    theirs = neural_network.MLPClassifier(**settings).fit(X, numbers, sample_weight=weights)
    assert_alike(mine, theirs, X)
    np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-9)
    expected = theirs.predict(X)
    np.testing.assert_array_equal(
        mine.predict(X), np.array(["even", "odd"])[expected.astype(int)] if problem == "words" else expected
    )


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("targets", [1, 3])
def test_the_regressor_learns_what_scikit_learns_does(targets, options, loss):
    X, y = make_regression(300, 12, n_targets=targets, random_state=0)
    y = np.abs(y) / 100
    settings = {"random_state": 1, "max_iter": 12, "loss": loss, **OPTIONS[options]}
    if loss == "poisson" and "learning_rate_init" in settings:
        settings["learning_rate_init"] = 0.001
    mine, theirs = (module(**settings).fit(X, y) for module in (MLPRegressor, neural_network.MLPRegressor))
    assert_alike(mine, theirs, X, coefs=1e-7 if options == "lbfgs" else 1e-9)
    np.testing.assert_allclose(mine.predict(X), theirs.predict(X), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [np.asfortranarray, scipy.sparse.csr_array, scipy.sparse.csc_matrix, pd.DataFrame])
def test_kinds_of_input(make, dtype):
    X, y = PROBLEMS["binary"]
    X = X.astype(dtype)
    plain, other = MLPClassifier(max_iter=3, random_state=0), MLPClassifier(max_iter=3, random_state=0)
    given = make(X)
    if isinstance(given, pd.DataFrame):
        given.columns = [f"pixel{i}" for i in range(64)]
    other.fit(given, y)
    np.testing.assert_array_equal(plain.fit(X, y).coefs_[0], other.coefs_[0])
    assert other.coefs_[0].dtype == dtype
    np.testing.assert_allclose(plain.predict_proba(X), other.predict_proba(given), rtol=1e-6)
    if isinstance(given, pd.DataFrame):
        assert list(other.feature_names_in_) == list(given.columns)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_warm_start_goes_on(early_stopping):
    X, y = PROBLEMS["digits"]
    settings = {"max_iter": 4, "random_state": 0, "warm_start": True, "early_stopping": early_stopping}
    pair = MLPClassifier(**settings), neural_network.MLPClassifier(**settings)
    for _ in range(3):
        for one in pair:
            one.fit(X, y)
        assert_alike(*pair, X)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit(solver):
    X, y = PROBLEMS["digits"]
    pair = MLPClassifier(solver=solver, random_state=0), neural_network.MLPClassifier(solver=solver, random_state=0)
    for part in np.array_split(np.arange(1000), 4) * 2:
        for one in pair:
            one.partial_fit(X[part], y[part], classes=np.arange(10))
        assert_alike(*pair, X)
    with pytest.raises(ValueError, match=r"classes=.* is not the same as"):
        pair[0].partial_fit(X, y, classes=[1, 2])


def test_partial_fit_with_early_stopping():
    """The same rows are held out in each call; in the end the best weights are put back, and stay."""
    X, y = PROBLEMS["digits"]
    model = MLPClassifier(early_stopping=True, n_iter_no_change=3, random_state=0, learning_rate_init=0.01)
    calls = 0
    while not (calls and model._stopped):
        model.partial_fit(X, y, classes=np.arange(10))
        calls += 1
        assert calls < 200
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == calls
    best = int(np.argmax(model.validation_scores_))
    assert calls - best >= 4
    again = MLPClassifier(early_stopping=True, n_iter_no_change=1000, random_state=0, learning_rate_init=0.01)
    for _ in range(best + 1):
        again.partial_fit(X, y, classes=np.arange(10))
    np.testing.assert_array_equal(model.coefs_[0], again.coefs_[0])
    model.partial_fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], again.coefs_[0])


def test_the_curve_of_losses_of_the_rows_held_out():
    X, y = make_regression(400, 8, noise=5, random_state=0)
    y /= y.std()
    model = MLPRegressor(early_stopping=True, max_iter=15, random_state=0, n_iter_no_change=100).fit(X, y)
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == 15
    # r2 = 1 - (mean squared error) / variance: two lines through the same points
    line = np.polyfit(model.validation_loss_curve_, model.validation_scores_, 1)
    np.testing.assert_allclose(np.polyval(line, model.validation_loss_curve_), model.validation_scores_, atol=1e-10)


def test_class_weight_is_sample_weight():
    X, y = make_classification(400, 6, n_informative=4, n_classes=3, weights=[0.8, 0.15], random_state=0)
    counts = np.bincount(y)
    balanced = MLPClassifier(class_weight="balanced", max_iter=5, random_state=0).fit(X, y)
    by_hand = MLPClassifier(max_iter=5, random_state=0).fit(X, y, sample_weight=(len(y) / 3 / counts)[y])
    np.testing.assert_allclose(balanced.coefs_[0], by_hand.coefs_[0], rtol=0, atol=1e-14)
    chosen = MLPClassifier(class_weight={0: 1, 1: 2, 2: 5}, max_iter=5, random_state=0).fit(
        X, y, sample_weight=counts[y]
    )
    by_hand = MLPClassifier(max_iter=5, random_state=0).fit(X, y, sample_weight=np.array([1.0, 2, 5])[y] * counts[y])
    np.testing.assert_array_equal(chosen.coefs_[0], by_hand.coefs_[0])
    with pytest.raises(ValueError, match="needs all of y at once"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    part = MLPClassifier(class_weight={0: 1, 1: 2, 2: 5}, random_state=0).partial_fit(X, y, classes=[0, 1, 2])
    assert np.isfinite(part.loss_)


def test_dropout_trains_another_network_and_repeats():
    X, y = PROBLEMS["digits"]
    models = [MLPClassifier(dropout=rate, max_iter=20, random_state=0).fit(X, y) for rate in (0.0, 0.3, 0.3)]
    assert models[1].loss_ > models[0].loss_
    assert models[1].score(X, y) > 0.9
    np.testing.assert_array_equal(models[1].coefs_[0], models[2].coefs_[0])
    with pytest.raises(ValueError, match="dropout needs solver="):
        MLPClassifier(dropout=0.3, solver="lbfgs").fit(X, y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_losses_that_outliers_do_not_pull(solver):
    X, y = make_regression(500, 5, random_state=0)
    y /= y.std()
    spoiled = y.copy()
    spoiled[::20] += 100
    errors = {}
    for loss in ("squared_error", "absolute_error", "huber"):
        model = MLPRegressor(loss, max_iter=300, random_state=0, solver=solver, learning_rate_init=0.01, alpha=0)
        errors[loss] = np.median(np.abs(model.fit(X, spoiled).predict(X) - y))
    assert max(errors["absolute_error"], errors["huber"]) < errors["squared_error"] / 3, errors


def test_counts_below_zero():
    with pytest.raises(ValueError, match="t must be 0 or more"):
        MLPRegressor("poisson").fit(DIGITS[0][:50], -DIGITS[1][:50] - 1.0)


def test_callbacks_have_an_evaluation_after_each_epoch():
    class Witness(Callback):
        def __init__(self):
            self.seen = []

        def on_evaluation(self, run, evaluation):
            self.seen.append(evaluation)

    X, y = PROBLEMS["digits"]
    witness = Witness()
    model = MLPClassifier(early_stopping=True, max_iter=6, random_state=0, callbacks=[witness]).fit(X, y)
    assert [one.train_loss for one in witness.seen] == model.loss_curve_
    assert [one.test_accuracy for one in witness.seen] == model.validation_scores_
    assert [one.test_loss for one in witness.seen] == model.validation_loss_curve_
    stopped = MLPClassifier(max_iter=50, random_state=0, callbacks=[EarlyStopping(2, "train_loss", min_delta=10)])
    assert stopped.fit(X, y).n_iter_ == 3
    with pytest.raises(ValueError, match="EarlyStopping watches test_loss"):
        MLPClassifier(callbacks=[EarlyStopping(2, "test_loss")]).fit(X, y)


def test_tools_of_scikit_learn():
    X, y = PROBLEMS["words"]
    pipeline, theirs = (
        make_pipeline(StandardScaler(), module((20,), max_iter=60, random_state=0))
        for module in (MLPClassifier, neural_network.MLPClassifier)
    )
    np.testing.assert_array_equal(cross_val_score(pipeline, X, y, cv=3), cross_val_score(theirs, X, y, cv=3))
    grid = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1.0]}, cv=2).fit(X, y)
    assert set(grid.predict(X)) == {"even", "odd"}
    assert clone(pipeline).get_params()["mlpclassifier__hidden_layer_sizes"] == (20,)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib(backend):
    X, y = PROBLEMS["digits"]
    estimator = MLPClassifier((20,), max_iter=10, random_state=0)
    alone = cross_val_score(estimator, X, y, cv=4)
    with joblib.parallel_backend(backend, n_jobs=2):
        np.testing.assert_array_equal(cross_val_score(estimator, X, y, cv=4), alone)


def test_copies_are_whole():
    X, y = PROBLEMS["digits"]
    model = MLPClassifier((20,), max_iter=3, random_state=0).fit(X, y)
    expected = model.predict_proba(X)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.predict_proba(X), expected)
        other.coefs_[0][...] = 0  # in place, or another array: both are seen
        changed = other.predict_proba(X)
        assert (changed != expected).any()
        other.coefs_[0] = model.coefs_[0].copy()
        np.testing.assert_array_equal(other.predict_proba(X), expected)
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    model.set_params(warm_start=True).fit(X, y)


def test_it_says_what_scikit_learn_says():
    X, y = PROBLEMS["digits"]
    texts = []
    for module in (MLPClassifier, neural_network.MLPClassifier):
        out = io.StringIO()
        with redirect_stdout(out), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module(max_iter=3, batch_size=4000, early_stopping=True, random_state=0, verbose=True).fit(X, y)
            module((5,), solver="sgd", learning_rate="adaptive", tol=10, random_state=0, verbose=True).fit(X, y)
        texts.append((out.getvalue(), [str(one.message) for one in caught]))
    lines = [text.splitlines() for text, _ in texts]
    assert len(lines[0]) == len(lines[1])
    for mine, theirs in zip(*lines, strict=True):
        assert mine.split("loss = ")[0] == theirs.split("loss = ")[0]  # whose last digits differ
    assert texts[0][1] == texts[1][1]


def test_what_is_not_finite_is_an_error():
    X, y = make_regression(100, 4, random_state=0)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        MLPRegressor(solver="sgd", learning_rate_init=1e10, random_state=0).fit(X * 1e10, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "'dropout' parameter of MLPClassifier must be a float in the range"),
        ({"class_weight": "even"}, "'class_weight' parameter"),
        ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes must be > 0"),
        ({"callbacks": [print]}, "callbacks must be instances of"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        MLPClassifier(**options).fit(*PROBLEMS["binary"])


def test_convergence_warning():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        MLPClassifier(max_iter=2).fit(*PROBLEMS["binary"])


def test_the_gradient_that_scikit_learn_s_own_test_calls():
    """sklearn.neural_network.tests.test_mlp.test_gradient: of a fitted classifier, the private method and its parameters."""
    X, y = make_classification(50, 6, random_state=0)
    Y = np.column_stack([1 - y, y])[:, 1:]
    gradients = []
    for estimator in (MLPClassifier, neural_network.MLPClassifier):
        one = estimator(hidden_layer_sizes=10, solver="lbfgs", alpha=1e-5, max_iter=1, random_state=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            one.fit(X, y)
        theta = np.hstack([array.ravel() for array in one.coefs_ + one.intercepts_])
        layers = [X, *(np.empty((len(X), size)) for size in (10, 1))]
        coefs, intercepts = ([np.empty_like(one_of) for one_of in arrays] for arrays in (one.coefs_, one.intercepts_))
        deltas = [np.empty_like(layer) for layer in layers[1:]]
        gradients.append(one._loss_grad_lbfgs(theta, X, Y, None, layers, deltas, coefs, intercepts))
    (loss, gradient), (plain_loss, plain_gradient) = gradients
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    np.testing.assert_allclose(gradient, plain_gradient, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    "change",
    [
        "del base._fit_stochastic",
        "base._forward_pass_fast = lambda self, X: None",
        "base._loss_grad_lbfgs = lambda self, packed, X, y, activations: None",
    ],
)
def test_without_what_is_private_to_scikit_learn_the_estimators_are_its_own(change):
    """In another process: what is missing or changed is seen at the import, one warning is given, and they still learn."""
    code = f"""
import warnings
import numpy as np
import sklearn.neural_network
from sklearn.neural_network import _multilayer_perceptron
base = _multilayer_perceptron.BaseMultilayerPerceptron
kept = {{name: vars(base)[name] for name in ("_fit_stochastic", "_forward_pass_fast", "_loss_grad_lbfgs")}}
{change}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from fastbp.sklearn import MLPClassifier
assert [str(one.message) for one in caught if "fastbp.sklearn" in str(one.message)], caught
for name, method in kept.items():  # a version that does without them, for once, has something in their place
    setattr(base, name, method)
x = np.random.default_rng(0).standard_normal((60, 4))
t = (x[:, 0] > 0).astype(int)
options = {{"hidden_layer_sizes": (8,), "max_iter": 40, "random_state": 0}}
warnings.simplefilter("ignore")
mine = MLPClassifier(**options).fit(x, t)
plain = sklearn.neural_network.MLPClassifier(**options).fit(x, t)
assert all(np.array_equal(a, b) for a, b in zip(mine.coefs_, plain.coefs_))
assert (mine.predict(x) == plain.predict(x)).all()
try:
    MLPClassifier(dropout=0.5).fit(x, t)
except ValueError as error:
    assert "dropout" in str(error)
    print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "done\n", done.stderr
