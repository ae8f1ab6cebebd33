"""A page that is nothing but a link to a file outside of docs/ shows that file: the README is the site's home page.

A hook of MkDocs, named in mkdocs.yml.
"""

import re
from pathlib import Path

DOCS = Path(__file__).parent
OTHER_LANGUAGE = re.compile(r" ?\[[^]]+\]\(README[.\w]*\.md\)")  # the site has a menu for it
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


def on_page_markdown(markdown, page, config, files):
    target = _target((DOCS / page.file.src_uri).read_text(encoding="utf-8") if page.file.src_uri else "")
    if target is None:
        return markdown
    text = (DOCS / target).resolve().read_text(encoding="utf-8")
    if not target.endswith(".md"):
        return f"# {Path(target).name.capitalize()}\n\n```text\n{text}```\n"
    return LINK.sub(_rewritten, OTHER_LANGUAGE.sub("", text))


def _target(text):
    """The file that a page of one link names; None for any other page."""
    found = re.fullmatch(r"\[[^]]+\]\((\.\./[^)]+)\)\n", text)
    return found and found[1]


def _rewritten(match):
    """A link as it is at the top of the project -> as it is on the site."""
    link, anchor = match[1], match[2] or ""
    pages = {_target(page.read_text(encoding="utf-8")): page.name for page in DOCS.glob("*.md")}
    return f"]({pages.get(f'../{link}', link.removeprefix('docs/'))}{anchor})"
