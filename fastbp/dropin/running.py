"""Running somebody's script as `python SCRIPT` and `python -m MODULE` do."""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType
from typing import Any


class CannotRun(Exception):
    """There is no such script or module; the message is Python's own."""


def run_script(file: str, arguments: list[str]) -> None:
    """Run a file as the main program. Raises CannotRun if it cannot be read, and whatever the script raises."""
    path = os.path.abspath(file)
    try:
        with open(path, "rb") as opened:
            source = opened.read()
    except OSError as error:
        raise CannotRun(f"can't open file {path!r}: [Errno {error.errno}] {error.strerror}") from None
    _become(sys.path, 0, os.path.dirname(os.path.realpath(path)))  # as Python does
    main = _main_module(path)
    main.__loader__ = SourceFileLoader("__main__", path)
    sys.argv = [file, *arguments]
    _hide_us(main)
    exec(compile(source, path, "exec", dont_inherit=True), vars(main))


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
    _hide_us(main)
    exec(code, vars(main))


def _become(where: list[str], place: int, value: str) -> None:
    if not getattr(sys.flags, "safe_path", False):
        where[place] = value


def _main_module(file: str | None) -> ModuleType:
    main = ModuleType("__main__")
    vars(main).update({"__file__": file, "__builtins__": builtins, "__annotations__": {}})
    sys.modules["__main__"] = main
    return main


def _hide_us(main: ModuleType) -> None:
    """Have tracebacks begin in the program that is run. sys.excepthook shows them, or what the program puts there."""
    show = sys.excepthook

    def without_us(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
        while trace is not None and trace.tb_frame.f_globals is not vars(main):
            trace = trace.tb_next
        return show(kind, error.with_traceback(trace), trace)

    sys.excepthook = without_us
