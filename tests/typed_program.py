"""A program that uses every public name, for type checkers: `mypy --strict` and `pyright` must find nothing to say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastbp
from fastbp import comparison, datasets, functional, graph, networks, nn, training
from fastbp.sklearn import MLPClassifier, MLPRegressor

Array = NDArray[Any]


def layers(x: Array, t: Array) -> list[Array]:
    W, b = np.ones((4, 3)), np.zeros(3)
    made = [
        fastbp.Affine(W, b), fastbp.Relu(), fastbp.Sigmoid(), fastbp.Tanh(), fastbp.LeakyRelu(0.1), fastbp.Elu(),
        fastbp.Silu(), fastbp.Gelu(), fastbp.GeluTanh(), fastbp.Softplus(), fastbp.Identity(backend="numpy"),
        fastbp.Dropout(0.5, inverted=True), fastbp.BatchNormalization(np.ones(3), b, momentum=0.9),
    ]  # fmt: skip
    outs: list[Array] = [layer.forward(x) for layer in made]
    outs += [layer.backward(out) for layer, out in zip(made, outs, strict=True)]
    image_layers = [
        fastbp.Convolution(np.ones((1, 1, 2, 2)), np.zeros(1), stride=1, pad=0), fastbp.Pooling(2, 2),
        fastbp.AveragePooling(2, 2), fastbp.Flatten(),
    ]  # fmt: skip
    outs += [layer.forward(x.reshape(1, 1, 2, 2)) for layer in image_layers]
    losses = [
        fastbp.SoftmaxWithLoss(), fastbp.SigmoidWithLoss("sum"), fastbp.IdentityWithLoss(), fastbp.PoissonWithLoss(),
        fastbp.AbsoluteErrorWithLoss(), fastbp.HuberWithLoss(),
    ]  # fmt: skip
    return outs + [loss.backward() for loss in losses if float(loss.forward(x, t)) > 0]


def network(x: Array, t: Array, path: Path) -> fastbp.MLP:
    made = fastbp.MLP((4, 3), activation=["relu"], dtype=np.float64, loss="cross_entropy", seed=0)
    book: fastbp.MLP = fastbp.TwoLayerNet(4, 5, 3)
    errors: dict[str, float] = fastbp.check_gradients(made, x, t)
    slope: Array = fastbp.numerical_gradient(lambda x: np.sum(x), x)
    made.save(path)
    try:
        loaded: networks.Network = fastbp.load(path, backend="numpy")
        loaded.params["W1"][...] = fastbp.load_book_params("params.pkl")["W1"]
    except fastbp.SavedFileError:
        loaded = book
    made.to_onnx("model.onnx")
    scores: Array = loaded.predict(x) + made.predict_proba(x) + slope
    print(fastbp.__version__, errors["W1"], scores.shape, made.accuracy(x, t))
    return made


def of_any_layers(x: Array, t: Array, path: Path) -> list[networks.Network]:
    described = [
        nn.Conv(8, 3, stride=1, pad=1), nn.BatchNorm(momentum=0.9), nn.Relu(), nn.MaxPool(2), nn.AveragePool((2, 1)),
        nn.Conv(4, (1, 1)), nn.Sigmoid(), nn.Tanh(), nn.LeakyRelu(0.1), nn.Elu(), nn.Silu(), nn.Gelu(), nn.GeluTanh(),
        nn.Softplus(), nn.Identity(), nn.Flatten(), nn.Dropout(0.2), nn.Affine(10),
    ]  # fmt: skip
    made = fastbp.Sequential((1, 28, 28), described, dtype="float32", seed=0, l2=1e-4)
    gradient: dict[str, Array] = made.gradient(x, t)
    loss: Any = made.training_loss(x, t)
    made.save(path)
    print(gradient["W1"].shape, loss, fastbp.load(path, own_layers={}))
    return [
        made, fastbp.SimpleConvNet(hidden_size=50, seed=0), fastbp.DeepConvNet(dtype="float32"),
        fastbp.MultiLayerNet(784, [100], 10, use_batchnorm=True),
    ]  # fmt: skip


def train(made: fastbp.MLP, x: Array, t: Array) -> fastbp.History:
    optimizers: list[training.Optimizer] = [
        fastbp.SGD(0.1), fastbp.Momentum(0.1, 0.9), fastbp.Nesterov(), fastbp.AdaGrad(), fastbp.RMSprop(), fastbp.Adam(),
        fastbp.AdamW(weight_decay=0.1),
    ]  # fmt: skip
    callbacks: list[training.Callback] = [
        training.EarlyStopping(3, monitor="test_loss"), training.LearningRate(training.cosine_decay(100, warmup=10)),
        training.LearningRate(training.step_decay(10)), training.LearningRate(training.inverse_scaling()),
        training.CSVLog("log.csv"), training.JSONLinesLog(Path("log.jsonl")), training.LivePlot(),
    ]  # fmt: skip
    trainer = fastbp.Trainer(made, optimizers[0], batch_size=10, l2=0.1)
    history = trainer.fit(x, t, epochs=1, validation=(x, t), callbacks=callbacks, checkpoint="run.safetensors")
    evaluation: fastbp.Evaluation = history.evaluations[-1]
    if evaluation.test_accuracy is not None:
        print(evaluation.iteration, evaluation.test_accuracy > 0.5, history.losses.mean())
    return history


def elsewhere() -> None:
    recipe = comparison.Recipe(iterations=100)
    compared: comparison.Comparison = comparison.compare(
        recipe, [comparison.RunSpec("numba", "float32")], progress=False
    )
    runs: list[comparison.Run] = compared.runs
    parity: comparison.Parity = comparison.compare_runs(runs[0], runs[0])
    print(parity.ok, compared.speedups)
    (x, t), _ = datasets.load_mnist(normalize=False)
    print(x.shape, t.dtype, datasets.read_idx("images", 3).shape)
    model: functional.Model = ([2, 1], [[[0.1, 0.2]]], [[0.0]])
    new, losses = functional.train(model, [[1.0, 2.0]], [[1.0]], batch_size=1)
    y, outs, sums = functional.forward_prop(*new, [1.0, 2.0], cache_mode=True)
    grads_w, grads_b = functional.back_prop(*new, [1.0], outs, sums)
    functional.update_params(*new, functional.mean_element(functional.accumulate(grads_w, grads_w), 2), grads_b)
    functional.optimize(model, [[1.0, 2.0]], [[1.0]])
    functional.deltas(*model, [1.0, 2.0], [1.0], f="tanh")
    print(functional.sseloss(y, [1.0]), losses[-1])


def drawn() -> Path:
    nodes: list[graph.Node] = [graph.Square(), graph.Exp(), graph.Log(), graph.Sin()]
    two: list[graph.Node] = [graph.AddLayer(), graph.SubLayer(), graph.MulLayer(), graph.DivLayer(), graph.Dot()]
    traced: graph.Graph
    with graph.trace() as traced:
        for node in nodes:
            node.forward(2.0)
        for node in two:
            node.forward(2.0, 3.0)
    operation: graph.Operation = traced.operations[0]
    value: graph.Value = operation.inputs[0]
    print(value.value, traced.to_dot())
    return traced.draw("graph.svg")


def settings(communicator: Any, x: Array) -> str:
    fastbp.set_num_threads(1)
    fastbp.set_default_backend("numpy")
    with fastbp.use_backend("numba"), fastbp.accelerated() as found:
        print(len(found), len(fastbp.accelerate()), len(training.shard((x,), communicator)))
    fastbp.load_ipython_extension(None)
    fastbp.unload_ipython_extension(None)
    model = MLPClassifier((10,), dropout=0.1).fit(x, [0, 1])
    print(model.predict(x), MLPRegressor("huber", (10,)).fit(x, [0.0, 1.0]).score(x, [0.0, 1.0]))
    return fastbp.default_backend()
