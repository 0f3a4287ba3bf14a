"""The health check as one file that Python runs: this toolkit's own modules, as they are loaded here."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import sys
import zipfile
from types import ModuleType

from ..errors import StackError, UnwritableError
from ..io.reading import read_whole
from ..io.writing import write_bytes
from . import main

_PACKAGE = "tensorflow_stack"
# Of those that the program needs; others may be loaded besides.
_ROOMS = ("boundary", "check", "environment", "errors", "health", "io", "records")
_START = f"import sys\nfrom {_PACKAGE}.health.main import main\nsys.exit(main(sys.argv[1:]))\n"
# Of every file in it, so that the same modules are the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def pack() -> bytes:
    """A zip application; the same on every call."""
    sources = {"__main__.py": _START, f"{_PACKAGE}/__init__.py": ""}
    prefix = main.__name__.rpartition(f"{_PACKAGE}.")[0] + f"{_PACKAGE}."
    for name, module in list(sys.modules.items()):
        parts = name[len(prefix) :].split(".")
        if name.startswith(prefix) and parts[0] in _ROOMS and isinstance(module, ModuleType):
            path = "/".join([_PACKAGE, *parts])
            sources[f"{path}/__init__.py" if hasattr(module, "__path__") else f"{path}.py"] = inspect.getsource(module)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(sources):
            archive.writestr(zipfile.ZipInfo(path, _DATE), sources[path])
    return packed.getvalue()


def present(path: str, *, check_mode: bool) -> bool:
    """Whether the file was not as it is to be; it is now. Raises StackError."""
    _require_systemd()
    data = pack()
    with contextlib.suppress(OSError):
        if read_whole(path, len(data), follow=False) == data:
            return False
    if not check_mode:
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            write_bytes(path, data)
        except OSError as error:
            raise UnwritableError(f"{path} cannot be written: {error.strerror}.", path=path) from error
    return True


def absent(path: str, *, check_mode: bool) -> bool:
    """Whether there was a file; there is none now. Raises StackError."""
    _require_systemd()
    if not os.path.lexists(path):
        return False
    if not check_mode:
        try:
            os.unlink(path)
        except OSError as error:
            raise UnwritableError(f"{path} cannot be removed: {error.strerror}.", path=path) from error
    return True


def _require_systemd() -> None:
    if os.geteuid():
        raise StackError("The health check is a service of the system. Run as root, such as by ansible_become=true.")
    if not os.path.isdir("/run/systemd/system"):
        raise StackError("The health check is a service of systemd, and systemd does not run on this node.")
