"""Searches over machines: scikit-learn's grid search with fastbp's estimators on a Dask cluster of processes."""

import re
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from fastbp.sklearn import MLPClassifier


@pytest.mark.slow
def test_the_program_of_the_page(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text("utf-8")
    (tmp_path / "script.py").write_text(re.findall(r"```py\n(.*?)```", page, re.DOTALL)[1])
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{'alpha': ")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_searches_on_dask():
    from dask.distributed import Client, LocalCluster

    X, y = load_digits(return_X_y=True)
    estimator = MLPClassifier((20,), max_iter=15, random_state=0)
    grid = GridSearchCV(estimator, {"alpha": [1e-4, 1e-2], "learning_rate_init": [1e-3, 1e-2]}, cv=2)
    random = RandomizedSearchCV(estimator, {"alpha": [1e-4, 1e-3, 1e-2]}, n_iter=2, cv=2, random_state=0)
    alone = [search.fit(X, y).cv_results_["mean_test_score"] for search in (grid, random)]
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_backend("dask"),
    ):
        for search, expected in zip((grid, random), alone, strict=True):
            np.testing.assert_array_equal(search.fit(X, y).cv_results_["mean_test_score"], expected)
