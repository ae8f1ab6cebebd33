"""The end of an epoch, as scikit-learn's estimators have it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from ._checks import Array
from ._losses import row_losses
from .networks._network import Network
from .training._callbacks import Callback
from .training._run import Evaluation, Run


class EpochEnd(Callback):
    """What scikit-learn does at the end of an epoch: the loss curve, the held-out rows, the learning rate, stopping."""

    def __init__(
        self,
        estimator: Any,
        samples: int,
        batch_size: int,
        per_epoch: int,
        held_out: tuple[Any, Array, Array | None] | None,
        incremental: bool,
    ) -> None:
        self.estimator, self.samples, self.incremental = estimator, samples, incremental
        self.every: int = per_epoch
        self.sizes = np.full(per_epoch, batch_size)
        self.sizes[-1] = samples - (per_epoch - 1) * batch_size
        self.held_out = held_out
        self.measured: Sequence[str] = ["train_loss"]
        if held_out is not None:
            _, y, weights = held_out
            self.weights = weights
            network: Network = estimator._network
            self.targets = y.argmax(axis=1) if network.classifies else np.asarray(y, network.dtype)
            self.labels = estimator._labels(y)
            accuracy = [] if isinstance(estimator, MLPRegressor) else ["test_accuracy"]
            self.measured = [*self.measured, "test_loss", *accuracy]
            if not hasattr(estimator, "validation_loss_curve_") or not incremental:
                estimator.validation_loss_curve_ = []

    def on_iterations(self, run: Run) -> None:
        one = self.estimator
        one.n_iter_ += 1
        one.loss_ = float(run.losses[-self.every :] @ self.sizes / self.samples)
        one.t_ += self.samples
        one.loss_curve_.append(one.loss_)
        if one.verbose:
            print(f"Iteration {one.n_iter_}, loss = {one.loss_:.8f}")
        held_out_x = None if self.held_out is None else self.held_out[0]
        if held_out_x is not None:
            one.validation_loss_curve_.append(self._held_out_loss(run.network, held_out_x))
        labels, weights = (None, None) if self.held_out is None else (self.labels, self.weights)
        one._update_no_improvement_count(self.held_out is not None, held_out_x, labels, weights)
        if one.solver == "sgd" and one.learning_rate == "invscaling":
            run.optimizer.learning_rate = one.learning_rate_init / (one.t_ + 1) ** one.power_t
        self._tell(run)
        if one._no_improvement_count > one.n_iter_no_change:
            self._stop(run)
        if not self.incremental and one.n_iter_ == one.max_iter and run.history.stopped is None:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({one.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _held_out_loss(self, network: Network, x: Any) -> float:
        x = x.toarray() if issparse(x) else x
        if network.classifies:
            picked = network.predict_proba(x)[np.arange(len(x)), self.targets]
            losses = -np.log(np.maximum(picked, np.finfo(network.dtype).eps))
        else:
            losses, _ = row_losses(network.loss_name, network.predict(x), self.targets)
        return float(np.average(losses, weights=self.weights)) / self.estimator._loss_parts()

    def _tell(self, run: Run) -> None:
        """The user's own callbacks have an evaluation after each epoch."""
        one = self.estimator
        if not one.callbacks:
            return
        measured: dict[str, float] = {"train_loss": one.loss_}
        if self.held_out is not None:
            measured["test_loss"] = one.validation_loss_curve_[-1]
            if "test_accuracy" in self.measured:
                measured["test_accuracy"] = one.validation_scores_[-1]
        evaluation = Evaluation(run.iteration - 1, **measured)
        run.history.evaluations.append(evaluation)
        for callback in one.callbacks:
            callback.on_evaluation(run, evaluation)

    def _stop(self, run: Run) -> None:
        """Or take smaller steps, where the learning rate is adaptive."""
        one = self.estimator
        watched = "Validation score" if self.held_out is not None else "Training loss"
        reason = f"{watched} did not improve more than tol={one.tol:f} for {one.n_iter_no_change} consecutive epochs."
        adaptive = one.solver == "sgd" and one.learning_rate == "adaptive"
        if adaptive and run.optimizer.learning_rate > 1e-6:
            run.optimizer.learning_rate /= 5
            one._no_improvement_count = 0
            if one.verbose:
                print(f"{reason} Setting learning rate to {run.optimizer.learning_rate:f}")
            return
        if one.verbose:
            print(f"{reason} Learning rate too small. Stopping." if adaptive else f"{reason} Stopping.")
        one._stopped = self.incremental and self.held_out is not None
        run.stop(reason)
