"""Which definitions are taken for the book's."""

from __future__ import annotations

import ast
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbp.bench.dropin import plain_source
from fastbp.dropin.operations.functions import FUNCTIONS
from fastbp.dropin.operations.methods import FORMS as LAYERS
from fastbp.dropin.operations.optimizers import RULES, UPDATES
from fastbp.dropin.reading.known_versions import COMPAT, KNOWN_VERSIONS, KnownVersion
from fastbp.dropin.reading.recognition import digest, main


def definitions(source):
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def digest_of(source):
    (node,) = definitions(textwrap.dedent(source)).values()
    return digest(node)


CALLED = ("sigmoid", "softmax", "cross_entropy_error")  # by the layers


@pytest.mark.parametrize("name", [*LAYERS, *FUNCTIONS, *CALLED])
def test_a_copy_of_compat_is_known(name):
    modules = {"layers": LAYERS, "util": FUNCTIONS, "functions": CALLED}
    module = next(module for module, names in modules.items() if name in names)
    version = KNOWN_VERSIONS[digest(definitions(plain_source(module))[name])]
    assert version.kind == name
    assert version in (KnownVersion(name), KnownVersion(name, COMPAT))


def test_every_kind_has_an_version_of_the_book_and_a_way_to_be_fast():
    kinds = {version.kind for version in KNOWN_VERSIONS.values() if version.note != COMPAT}
    assert kinds == {*LAYERS, *FUNCTIONS, *CALLED}


@pytest.mark.parametrize("name", RULES)
def test_optimizers_are_known_by_their_update_alone(name):
    class_node = definitions(plain_source("optimizer"))[name]
    (update,) = (part for part in class_node.body if isinstance(part, ast.FunctionDef) and part.name == "update")
    assert UPDATES[digest(update)] == RULES[name]
    update.body.pop()
    assert digest(update) not in UPDATES


STOCK = '''
class Double:
    """A layer."""
    def __init__(self, times=2):
        self.times = times

    def forward(self, x):
        # the comment
        out = x * self.times
        return out

    def backward(self, dout):
        dx = dout * self.times
        return dx
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('    """A layer."""\n', ""),
        ("# the comment", "# 別の注釈"),
        ("class Double:", "class Double(object):"),
        ("class Double:", "class DOUBLE():"),
        ("out = x * self.times\n        return out", "y = (x\n             * self.times)\n\n        return y"),
        ("dx = dout * self.times\n        return dx", "d = dout*self.times; return d"),
        ("def forward(self, x):", "def forward(this, x: 'Array') -> 'Array':\n        'What it does.'"),
        ("dx = dout", "dx: float = dout"),
    ],
)
def test_what_does_not_count(old, new):
    changed = STOCK.replace(old, new)
    if "this" in new:
        changed = changed.replace("out = x * self.times", "out = x * this.times")
    assert changed != STOCK
    assert digest_of(changed) == digest_of(STOCK)


def test_the_order_of_methods_does_not_count():
    head, forward, backward = STOCK.partition("    def forward")[0], *STOCK.split("    def ")[2:]
    swapped = head + "    def " + backward + "\n    def " + forward
    assert digest_of(swapped) == digest_of(STOCK)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("times=2", "times=3"),
        ("x * self.times", "self.times * x"),
        ("x * self.times", "x * self.factor"),
        ("x * self.times", "x * self.times + 0"),
        ("return dx", "return dout"),
        ("class Double:", "class Double(Layer):"),
        ("class Double:", "@register\nclass Double:"),
        ("    def forward", "    extra = 1\n\n    def forward"),
        ("    def forward", "    def extra(self):\n        return 1\n\n    def forward"),
        ("    def forward", "    @staticmethod\n    def forward"),
        ("def backward(self, dout)", "def backward(self, dout, *rest)"),
        ("out = x", "out = y"),
        ("out = x", "global out; out = x"),
        ("        return out", "        print(out)\n        return out"),
    ],
)
def test_what_counts(old, new):
    changed = STOCK.replace(old, new)
    assert changed != STOCK
    assert digest_of(changed) != digest_of(STOCK)


NAMES = st.from_regex(r"[a-z]{1,4}", fullmatch=True).filter(
    lambda name: name not in {"self", "np"} and name.isidentifier()
)


@given(st.lists(NAMES, min_size=3, max_size=3, unique=True))
def test_local_names_do_not_count_but_which_is_which_does(names):
    import keyword

    if any(map(keyword.iskeyword, names)):
        return
    template = "def f({0}, {1}):\n    {2} = {0} - {1}\n    return np.exp({2})\n"
    assert digest_of(template.format(*names)) == digest_of(template.format("a", "b", "c"))
    assert digest_of(template.replace("{0} - {1}", "{1} - {0}").format(*names)) != digest_of(template.format(*names))


def test_a_global_name_is_not_a_local_one():
    assert digest_of("def f(x):\n    return scale * x") != digest_of("def f(x):\n    return x * x")
    assert digest_of("def f(x):\n    return scale * x") != digest_of("def f(x):\n    return other * x")


def test_digests_are_printed(tmp_path, capsys):
    file = tmp_path / "layers.py"
    file.write_text(plain_source("layers"), "utf-8")
    main([str(file)])
    lines = capsys.readouterr().out.splitlines()
    assert any("Affine" in line and COMPAT in line for line in lines)
