"""What fastbp.sklearn replaces or calls of scikit-learn's private methods, and what there is where those have changed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import sklearn

if TYPE_CHECKING:
    from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron as Base
else:
    Base = object

_GRADIENTS = ("X", "y", "sample_weight", "activations", "deltas", "coef_grads", "intercept_grads")
PRIVATE = {  # with the parameters that they have
    "_fit": ("X", "y", "sample_weight", "incremental"),
    "_fit_stochastic": (*_GRADIENTS, "layer_units", "incremental"),
    "_fit_lbfgs": (*_GRADIENTS, "layer_units"),
    "_loss_grad_lbfgs": ("packed_coef_inter", *_GRADIENTS),
    "_forward_pass_fast": ("X", "check_input"),
    "_predict": ("X", "check_input"),
    "_update_no_improvement_count": ("early_stopping", "X", "y", "sample_weight"),
}


def changed(estimator: type) -> list[str]:
    """The private methods that this version of scikit-learn has not, or with other parameters."""
    methods = {name: getattr(estimator, name, None) for name in PRIVATE}
    return [
        name
        for name, method in methods.items()
        if method is None or tuple(inspect.signature(method).parameters)[1:] != PRIVATE[name]
    ]


class Plain(Base):
    """In the place of the compiled steps, where scikit-learn is another: its own, and nothing beyond it."""

    def fit(self, X: Any, y: Any, *arguments: Any, **options: Any) -> Any:
        for name in ("class_weight", "dropout", "callbacks"):
            if getattr(self, name, None):
                raise ValueError(
                    f"{name} needs fastbp's compiled steps, which do not know scikit-learn {sklearn.__version__}; "
                    f"got {name}={getattr(self, name)!r}"
                )
        return super().fit(X, y, *arguments, **options)
