"""A page that is nothing but a link to a file shows that file: the README is the site's home page, the tour is a notebook.

A hook of MkDocs, named in mkdocs.yml.
"""

import base64
import re
from pathlib import Path

DOCS = Path(__file__).parent
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
OTHER_LANGUAGE = re.compile(r" ?\[[^]]+\]\(README[.\w]*\.md\)")  # the site has a menu for it


def on_page_markdown(markdown, page, config, files):
    target = _target((DOCS / page.file.src_uri).read_text(encoding="utf-8"))
    if target is None:
        return markdown
    file = (DOCS / target).resolve()
    if file.suffix == ".ipynb":
        return _notebook(file)
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".md":
        return f"# {file.name.capitalize()}\n\n```text\n{text}```\n"
    return LINK.sub(_rewritten, OTHER_LANGUAGE.sub("", text))


def _target(text):
    """The file that a page of one link names; None for any other page."""
    found = re.fullmatch(r"\[[^]]+\]\(([^)]+)\)\n", text)
    return found and found[1]


def _rewritten(match):
    """A link as it is at the top of the project -> as it is on the site."""
    link, anchor = match[1], match[2] or ""
    pages = {_target(page.read_text(encoding="utf-8")): page.name for page in DOCS.glob("*.md")}
    inside = link.removeprefix("docs/")
    return f"]({pages.get(f'../{link}') or pages.get(inside, inside)}{anchor})"


def _notebook(file):
    """A notebook with the outputs that it has, its pictures in the page itself."""
    from nbconvert import MarkdownExporter

    text, resources = MarkdownExporter().from_filename(file)
    for name, content in resources["outputs"].items():
        kind = {".svg": "svg+xml"}.get(Path(name).suffix, Path(name).suffix[1:])
        data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        text = re.sub(rf"!\[\w*\]\({re.escape(name)}\)", f'<img alt="" src="{data}">', text)
    return re.sub(r"\A(# .*\n)", rf"\1\n[{file.name}]({file.name})\n", text)
