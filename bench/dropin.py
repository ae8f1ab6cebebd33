"""`python -m bench.dropin`: training steps of book-style networks, under plain Python and under `fastbp run`.

The script is the same. Both ways alternate, each in a process of its own: in one, OpenBLAS's threads and the kernels'
would get in each other's way. A step is the gradient of a batch of 100 images drawn from MNIST, an update, and the loss.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import fastbp.compat

NETWORKS = {
    "784-50-10": "affine(784, 50), relu(), affine(50, 10)",
    "784-100-100-100-100-100-10, batch normalisation": (
        "*(part for n in (784, 100, 100, 100, 100) for part in (affine(n, 100), norm(100), relu())), affine(100, 10)"
    ),
    "784-100-100-100-100-100-10, dropout": (
        "*(part for n in (784, 100, 100, 100, 100) for part in (affine(n, 100), relu(), drop(0.2))), affine(100, 10)"
    ),
    "conv 5x5 (30) - pool - 100 - 10": "conv(1, 30, 5, 0), relu(), pool(), affine(4320, 100), relu(), affine(100, 10)",
    "6 conv 3x3 (16 to 64), 3 pools - 50 - 10": (
        "conv(1, 16), relu(), conv(16, 16), relu(), pool(), conv(16, 32), relu(), conv(32, 32, 3, 2), relu(), pool(), "
        "conv(32, 64), relu(), conv(64, 64), relu(), pool(), affine(1024, 50), relu(), drop(), affine(50, 10), drop()"
    ),
}

SCRIPT = """
import json, sys, time
import numpy as np
from common.layers import *
from common.optimizer import SGD, Adam
from fastbp.datasets import load_mnist

params = {}
def keep(layer, **arrays):
    params.update({(len(params), name): array for name, array in arrays.items()})
    return layer

def affine(n, m):
    W, b = np.sqrt(2 / n) * np.random.randn(n, m), np.zeros(m)
    return keep(Affine(W, b), dW=W, db=b)

def conv(c, f, size=3, pad=1):
    W, b = np.sqrt(2 / (c * size * size)) * np.random.randn(f, c, size, size), np.zeros(f)
    return keep(Convolution(W, b, 1, pad), dW=W, db=b)

def norm(n):
    gamma, beta = np.ones(n), np.zeros(n)
    return keep(BatchNormalization(gamma, beta), dgamma=gamma, dbeta=beta)

relu, pool, drop = Relu, lambda: Pooling(2, 2, 2), Dropout
np.random.seed(0)
layers = [NETWORK]
owners = [layer for layer in layers if hasattr(layer, "gamma") or hasattr(layer, "W") for _ in range(2)]
optimizer = Adam() if isinstance(layers[0], Convolution) else SGD()
(images, labels), _ = load_mnist()
images = np.asarray(images, np.float32)
if isinstance(layers[0], Convolution):
    images = images.reshape(-1, 1, 28, 28)

class Network:
    def __init__(self):
        self.layers, self.last = layers, SoftmaxWithLoss()

    def loss(self, x, t):
        for layer in self.layers:
            x = layer.forward(x)
        return self.last.forward(x, t)

    def gradient(self, x, t):
        self.loss(x, t)
        dout = self.last.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return {key: getattr(owner, key[1]) for key, owner in zip(params, owners)}

network = Network()

def step():
    rows = np.random.choice(len(images), 100)
    x, t = images[rows], labels[rows]
    optimizer.update(params, network.gradient(x, t))
    return network.loss(x, t)

times, losses = [], []
while len(times) < float(sys.argv[2]) or sum(times) < float(sys.argv[1]):
    start = time.perf_counter()
    losses.append(float(step()))
    times.append(time.perf_counter() - start)
late = sorted(times[len(times) // 2:])  # the kernels have begun
print(json.dumps({"step": late[len(late) // 2], "losses": losses}))
"""


def measure(seconds: float, rounds: int) -> list[tuple[str, float, float, float]]:
    """For each network: milliseconds of a step under Python and under fastbp, the median ratio of the rounds."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_common(Path(folder))
        for name, network in NETWORKS.items():
            script = Path(folder) / "script.py"
            script.write_text(SCRIPT.replace("NETWORK", network), "utf-8")
            _run(folder, "-m", "fastbp", "run", "-v", script.name, "0", "4")  # compiles what is not cached
            ways = ((), "4"), (("-m", "fastbp", "run"), "20")
            pairs = [
                [_run(folder, *way, script.name, str(seconds), least) for way, least in ways] for _ in range(rounds)
            ]
            for plain, fast in pairs:
                both = zip(plain["losses"], fast["losses"], strict=False)
                assert all(abs(one - other) <= 1e-8 * abs(one) for one, other in both), f"{name}: the losses differ"
            steps = [[1000 * one["step"] for one in way] for way in zip(*pairs, strict=True)]
            ratio = statistics.median(plain / fast for plain, fast in zip(*steps, strict=True))
            rows.append((name, *map(statistics.median, steps), ratio))
    return rows


def write_common(folder: Path, **changed: str) -> Path:
    """A `common/` folder as people have it: fastbp.compat's modules without what accelerates them, or `changed` ones."""
    common = folder / "common"
    common.mkdir()
    (common / "__init__.py").touch()
    for file in Path(fastbp.compat.__file__).parent.glob("[a-z]*.py"):
        (common / file.name).write_text(changed.get(file.stem, plain_source(file.stem)), "utf-8")
    return common


def plain_source(module: str) -> str:
    """The source of a module of fastbp.compat as a script's own: plain NumPy, imported absolutely."""
    lines = (Path(fastbp.compat.__file__).parent / f"{module}.py").read_text("utf-8").splitlines(keepends=True)
    own = [
        line for line in lines if not line.lstrip().startswith(("from ._book", "@_accelerated", "@_drops_the_first"))
    ]
    return "".join(line.replace("from .", "from common.") if line.startswith("from .") else line for line in own)


def _run(folder: str, *command: str) -> dict[str, list[float]]:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.dropin", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| network | NumPy | fastbp run | gain |\n| --- | --- | --- | --- |")
    for name, plain, fast, ratio in measure(options.seconds, options.rounds):
        print(f"| {name} | {plain:.2f} ms | {fast:.2f} ms | {ratio:.1f} |")


if __name__ == "__main__":
    main()
