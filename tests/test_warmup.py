import os
import subprocess
import sys

from fastbp.networks import DTYPES
from fastbp.warmup import STEPS, warm_up

CODE = """
from fastbp.warmup import compile_meanwhile
helpers = compile_meanwhile(["float64", "float32"])
print(sorted(helpers))
for helper in helpers.values():
    helper.kill()
    helper.wait()
"""


def test_everything_is_compiled_for_both_dtypes():
    costs = list(warm_up())
    assert len(costs) == STEPS
    for dtype in DTYPES:
        names = "training", "training on floating data", "Affine", "Relu", "Sigmoid", "SoftmaxWithLoss"
        assert {f"{name}, {dtype}" for name in names} <= {name for name, _ in costs}
    assert all(seconds > 0 for _, seconds in costs)


def test_helpers_compile_only_what_is_not_cached(tmp_path):
    def helpers(code):
        environment = {**os.environ, "FASTBP_CACHE_DIR": str(tmp_path)}
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert helpers(CODE).stdout == "['float32']\n"
    helpers("from fastbp.warmup import warm_up; list(warm_up(['float32'], layers=False))")
    assert helpers(CODE).stdout == "['float32']\n"
    helpers("from fastbp.warmup import warm_up; list(warm_up(['float64'], layers=False))")
    assert helpers(CODE).stdout == "[]\n"


def test_after_warming_up_training_compiles_nothing(tmp_path):
    code = """
import numpy as np
from fastbp.warmup import warm_up
list(warm_up(["float32"], layers=False))
import fastbp
from fastbp.kernels import sparse, training_step
fastbp.Trainer(fastbp.MLP((784, 50, 10)), batch_size=100).fit(
    np.random.rand(300, 784).astype(np.float32), np.arange(300) % 10, iterations=3, progress=False)
images = np.arange(300 * 784, dtype=np.uint8).reshape(300, 784) // 250
fastbp.Trainer(fastbp.MLP((784, 50, 10)), batch_size=100).fit(
    images, np.arange(300) % 10, iterations=3, divide_by=255, progress=False)
kernels = training_step._train_steps, training_step._count_correct, sparse._leave_out_zeros
print([len(kernel.signatures) for kernel in kernels])
"""
    environment = {**os.environ, "FASTBP_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert result.stdout == "[1, 1, 1]\n"
