"""The code of both READMEs and of the pages in docs/ is run, and is the same in both languages but for its comments."""

import io
import re
import tokenize
from pathlib import Path

import pytest

import fastbp
from fastbp.dropin.acceleration import stop_accelerating

ROOT = Path(__file__).parents[1]


def python_blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def code_tokens(block):
    ignored = (tokenize.COMMENT, tokenize.NL)
    return [
        token.string for token in tokenize.generate_tokens(io.StringIO(block).readline) if token.type not in ignored
    ]


@pytest.mark.parametrize("name", ["README.md", "README.ja.md"])
def test_the_code_runs(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in python_blocks(name):
        exec(block, names)
    assert names["history"].evaluations[-1].test_accuracy > 0.9
    assert max(fastbp.check_gradients(names["network"], names["x"], names["t"]).values()) < 1e-5


def test_both_languages_show_the_same_code_and_commands():
    english, japanese = (list(map(code_tokens, python_blocks(name))) for name in ("README.md", "README.ja.md"))
    assert english == japanese
    commands = [
        re.findall(r"```console\n(.*?)```", (ROOT / f).read_text("utf-8"), re.DOTALL)
        for f in ("README.md", "README.ja.md")
    ]
    assert commands[0] == commands[1]
    assert len(commands[0]) == 3


@pytest.mark.parametrize("name", ["README.md", "README.ja.md"])
def test_the_readme_is_short(name):
    assert len((ROOT / name).read_text("utf-8").splitlines()) <= 150


def is_a_link(path):
    """A page of the site that shows a file from above: see docs/_site.py."""
    return re.fullmatch(r"\[[^]]+\]\(\S+\)\n", path.read_text("utf-8")) is not None


PAGES = sorted(
    path.name for path in (ROOT / "docs").glob("*.md") if not path.name.endswith(".ja.md") and not is_a_link(path)
)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("page", PAGES)
def test_the_pages_run_and_say_the_same(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    japanese = page.replace(".md", ".ja.md")
    blocks = [python_blocks(f"docs/{name}") for name in (page, japanese)]
    assert list(map(code_tokens, blocks[0])) == list(map(code_tokens, blocks[1]))
    names = {}
    with fastbp.accelerated():  # a page may leave it on
        for block in blocks[0]:
            exec(block, names)
    stop_accelerating()
    text = [(ROOT / "docs" / name).read_text("utf-8") for name in (page, japanese)]
    pictures = [re.findall(r"\]\((images/.*?)\)", part) for part in text]
    assert pictures[0] == pictures[1]
    assert all((ROOT / "docs" / picture).exists() for picture in pictures[0])
    for kind in ("console", "py"):  # "py" is Python that other tests run
        found = [re.findall(rf"```{kind}\n(.*?)```", part, re.DOTALL) for part in text]
        strip = [[re.sub(r"#.*", "", block) for block in blocks] for blocks in found]
        assert strip[0] == strip[1]


def test_there_are_pages():
    assert len(PAGES) >= 10


def test_the_drawing_of_the_architecture_is_that_of_the_code():
    from fastbp.bench import architecture

    assert architecture.drawn() == architecture.drawing(), "run python -m bench.architecture --write"
    for file in (ROOT / "docs").glob("architecture*.md"):
        page = file.read_text("utf-8")
        for named in re.findall(r"`((?:fastbp|kernels)/[\w/]+\.py)", page):
            assert (architecture.ROOT / named).exists(), named


# What is not the field's word for it; in parts, so that this file does not hold them.
WORDS = re.compile(
    "|".join(
        (
            "tried and l" "ost", "exchan" "ged", "compiling left o" "ut", "what was tried to br" "eak", "yes-or-n" "o",
            "next_p" "art", "multiply_thr" "ough", "look out f" "or", "largest_l" "ane", "every_sec" "ond", "yes or n" "o",
            "choose_l" "ater", "kept_ap" "art", "first_larg" "est", "worth_a_thr" "ead", "worth_list" "ing", "left al" "one",
            "of one's o" "wn", r"\bto" r"ld\b", r"\bedit" r"ion\b",
            r"\bin tu" r"rns\b", r"\bqu" r"ads\b", "full-scr" "atch", "take ba" "ck", "some ten min" "utes",
        )
    ),
    re.IGNORECASE,
)  # fmt: skip


def test_words_that_are_not_the_fields_stay_out():
    folders = [ROOT / name for name in ("fastbp", "kernels", "bench", "tests", "docs")]  # not a .venv beside them
    texts = [
        *ROOT.glob("*.md"),
        *(file for folder in folders for kind in ("*.py", "*.md") for file in folder.rglob(kind)),
    ]
    own = [file for file in texts if file.name != "CHANGELOG.md"]
    assert len(own) > 200
    found = [(file.name, word[0]) for file in own for word in WORDS.finditer(file.read_text("utf-8"))]
    assert not found
