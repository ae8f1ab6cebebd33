"""Every public name says what it takes, returns and raises, has an example that is run, and a place in the reference."""

import ast
import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import fastbp

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
MODULES = ("comparison", "layers", "networks", "training", "functional", "graph", "sklearn", "datasets", "nn")
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def public_names():
    """Names that people import, each once, under the shortest path."""
    found = {}
    for module in [fastbp, *(importlib.import_module(f"fastbp.{name}") for name in MODULES)]:
        for name in sorted(getattr(module, "__all__", None) or _own(module)):
            thing = getattr(module, name)
            if callable(thing):
                found.setdefault(id(thing), f"{module.__name__}.{name}")
    return sorted(found.values())


def _own(module):
    return [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__
    ]


def described(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


NAMES = public_names()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", NAMES)
def test_the_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = inspect.getdoc(described(name)) or ""
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert test.examples, f"{name} has no example"
    assert not any(example.options.get(doctest.SKIP) for example in test.examples)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_is_described(name):
    thing = described(name)
    text = inspect.getdoc(thing) or ""
    own = vars(thing).get("__init__") if inspect.isclass(thing) else thing
    if not inspect.isfunction(own) or name.startswith("fastbp.sklearn."):  # scikit-learn's docs have its arguments
        return
    arguments = [argument for argument in inspect.signature(own).parameters if argument != "self"]
    section = re.search(r"^(?:Args|Attributes):\n(.*?)(?=^\w|\Z)", text, re.MULTILINE | re.DOTALL)
    missing = [one for one in arguments if not re.search(rf"^    {one}: ", section[1] if section else "", re.MULTILINE)]
    assert not missing, f"{name} does not describe {missing}"


def test_the_reference_has_every_public_name():
    shown = set(re.findall(r"^::: (\S+)", "".join(page.read_text("utf-8") for page in REFERENCE.glob("*.md")), re.M))
    assert {described(name) for name in shown} >= {described(name) for name in NAMES}
    assert all(hasattr(described(name), "__doc__") for name in shown)


def test_the_typed_program_uses_every_public_name():
    tree = ast.parse((Path(__file__).parent / "typed_program.py").read_text("utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {name.rpartition(".")[2] for name in NAMES} <= used
