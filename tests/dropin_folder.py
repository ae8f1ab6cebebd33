"""A `common/` folder as people have it: fastbp.compat's modules, without what accelerates them."""

from __future__ import annotations

import re
from pathlib import Path

import fastbp.compat

MODULES = [
    "functions",
    "gradient",
    "layers",
    "multi_layer_net",
    "multi_layer_net_extend",
    "optimizer",
    "trainer",
    "util",
]


def plain_source(module):
    """The source of a module of fastbp.compat as a script's own: plain NumPy, imported absolutely."""
    source = (Path(fastbp.compat.__file__).parent / f"{module}.py").read_text("utf-8")
    source = re.sub(r"^from \._book import .*\n|^ *@_(accelerated|drops_the_first)\n", "", source, flags=re.MULTILINE)
    return re.sub(r"^from \.(\w+) import", r"from common.\1 import", source, flags=re.MULTILINE)


def write_common(folder, **changed):
    """Write `common/` into a folder; `changed` are modules with a source of their own."""
    common = Path(folder) / "common"
    common.mkdir()
    (common / "__init__.py").touch()
    for module in MODULES:
        (common / f"{module}.py").write_text(changed.get(module, plain_source(module)), "utf-8")
    return common
