"""Running somebody's script as `python SCRIPT` and `python -m MODULE` do."""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any


class CannotRun(Exception):
    """There is no such script or module; the message is Python's own."""


def run_script(file: str, arguments: list[str]) -> None:
    """Run a file as the main program. Raises CannotRun if it cannot be read, and whatever the script raises."""
    try:
        with open(file, "rb") as opened:
            source = opened.read()
    except OSError as error:
        raise CannotRun(f"can't open file {os.path.abspath(file)!r}: [Errno {error.errno}] {error.strerror}") from None
    _become(sys.path, 0, os.path.dirname(os.path.abspath(file)))
    main = _main_module(file)
    main.__loader__ = SourceFileLoader("__main__", file)
    sys.argv = [file, *arguments]
    _execute(compile(source, file, "exec", dont_inherit=True), main)


def run_module(name: str, arguments: list[str]) -> None:
    """Run a module, or a package's __main__, as the main program. Raises CannotRun if there is none."""
    _become(sys.path, 0, os.getcwd())
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
            name = f"{name}.__main__"
    except (ImportError, AttributeError, ValueError) as error:
        raise CannotRun(f"Error while finding module specification for {name!r} ({error})") from error
    if spec is None or spec.loader is None:
        raise CannotRun(f"No module named {name}")
    code = getattr(spec.loader, "get_code", lambda _: None)(name)
    if code is None:
        raise CannotRun(f"No code object available for {name}")
    main = _main_module(spec.origin)
    main.__spec__, main.__loader__, main.__package__ = spec, spec.loader, spec.parent
    sys.argv = [spec.origin or name, *arguments]
    _execute(code, main)


def _become(where: list[str], place: int, value: str) -> None:
    if not getattr(sys.flags, "safe_path", False):
        where[place] = value


def _main_module(file: str | None) -> ModuleType:
    main = ModuleType("__main__")
    vars(main).update({"__file__": file, "__builtins__": builtins, "__annotations__": {}})
    sys.modules["__main__"] = main
    return main


def _execute(code: CodeType, main: ModuleType) -> None:
    """Run the code. A traceback begins in it, not here; sys.excepthook shows it, or what the script put there."""
    show = sys.excepthook

    def without_us(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
        here: TracebackType | None = trace
        while here is not None and here.tb_frame.f_code is not code:
            here = here.tb_next
        return show(kind, error.with_traceback(here), here)

    sys.excepthook = without_us
    exec(code, vars(main))
