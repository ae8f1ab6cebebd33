"""`fastbp` and `python -m fastbp`: start the command line, or say how to install what it needs."""

from __future__ import annotations

import sys


def main() -> None:
    if sys.argv[1:2] in (["run"], ["audit"]):  # they need no extra, and start without what the other commands need
        from ._blas import import_numpy

        import_numpy()
        from .dropin import command

        getattr(command, sys.argv[1])(sys.argv[2:])
        return
    try:
        from .cli._app import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich", "matplotlib"}:
            raise
        sys.exit(f"The fastbp command needs {error.name}. Install it with: pip install 'fastbp[cli]'")
    app(prog_name="fastbp")


if __name__ == "__main__":
    main()
