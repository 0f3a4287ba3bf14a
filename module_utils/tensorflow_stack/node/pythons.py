"""The Pythons of a node that an environment can be built on, found without starting any."""

from __future__ import annotations

import os
import re
from typing import Any, Iterator, Mapping

from ..io.trust import find_weakness
from .files import NodeFiles
from .loader import read_architecture
from .texts import natural_order, parse_elf_machine, parse_patchlevel, parse_python_directory
from .user import User, current_user, data_home, default_environments_root


def find_pythons(
    *,
    filesystem_root: str = "/",
    environments_root: str | None = None,
    user: User | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Interpreters of Python 3 that an environment can be built on, and why others were left out.

    `user` and `environ` are those of this process unless given.
    """
    files = NodeFiles(filesystem_root)
    user = user or current_user()
    environ = os.environ if environ is None else environ
    root = environments_root or default_environments_root(user, environ)
    return read_pythons(files, read_architecture(files), user, environ, root), files.unread


def read_pythons(
    files: NodeFiles, architecture: str | None, user: User, environ: Mapping[str, str], environments_root: str
) -> list[dict[str, Any]]:
    search_path = environ.get("PATH", "").split(os.pathsep)
    pyenv_roots = [environ.get("PYENV_ROOT") or "/opt/pyenv", user.home + "/.pyenv", "/opt/pyenv"]
    uv_roots = [
        environments_root + "/.pythons",
        data_home(user, environ) + "/uv/python",
        user.home + "/.local/share/uv/python",
    ]
    patterns = (
        [entry for entry in search_path if entry.startswith("/")]
        + ["/usr/bin", "/usr/local/bin"]
        + [root + "/versions/*/bin" for root in pyenv_roots]
        + [root + "/*/bin" for root in uv_roots]
        + ["/opt/*/bin", "/opt/python*/*/bin"]
    )
    # The more special place names the origin: /opt/tensorflow/.pythons is uv's, not just of /opt.
    origins = [("pyenv", root) for root in pyenv_roots] + [("uv", root) for root in uv_roots]
    origins += [("opt", "/opt"), ("system", "/usr")]
    origins = [(origin, _resolve_if_possible(files, root)) for origin, root in origins]

    rows: list[dict[str, Any]] = []
    seen = set()
    for path in _candidates(files, patterns):
        try:
            real = files.resolve(path)
            if real in seen:
                continue
            seen.add(real)
            row = _read_python(files, real, architecture)
            if row is not None:
                under = (origin for origin, root in origins if real.startswith(root + "/"))
                rows.append({**row, "origin": next(under, "path")})
        except _LeftOut as reason:
            files.add_unread("pythons", f"{path}: {reason}")
        except OSError as error:
            files.add_unread("pythons", f"{path}: {error.strerror}")
    return sorted(rows, key=_order)


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    return natural_order(row["minor"]), row["origin"], natural_order(row["version"] or ""), row["path"]


def _resolve_if_possible(files: NodeFiles, path: str) -> str:
    try:
        return files.resolve(path)
    except OSError:  # another user's home
        return path


def _candidates(files: NodeFiles, patterns: list[str]) -> Iterator[str]:
    for directory in dict.fromkeys(path for pattern in patterns for path in files.glob(pattern, "pythons")):
        for name in files.names(directory, "pythons"):
            if re.fullmatch(r"python3(\.[0-9]+)?", name):
                yield directory + "/" + name


def _is_venv(files: NodeFiles, directory: str) -> bool:
    places = (directory, os.path.dirname(directory))
    return any(files.is_file(f"{place}/pyvenv.cfg", "pythons") for place in places)


class _LeftOut(Exception):
    """Why a file that is named like an interpreter is none to build on."""


def _read_python(files: NodeFiles, real: str, architecture: str | None) -> dict[str, Any] | None:
    """A row without its origin; None for what is no interpreter of its own. Raises _LeftOut."""
    if not files.exists(real, "pythons"):
        raise _LeftOut(f"link to {real}, which is not there")
    header = files.head(real, "pythons", 20)
    # A script that starts with #! is pyenv's shim or a wrapper: what it starts is found by itself.
    if header is None or header.startswith(b"#!") or _is_venv(files, os.path.dirname(real)):
        return None
    machine = parse_elf_machine(header)
    if machine is None:
        raise _LeftOut("not an ELF file")
    if architecture not in (None, machine):
        raise _LeftOut(f"built for {machine}, this node is {architecture}")
    if not os.access(files.host_path(real), os.X_OK):
        raise _LeftOut("may not be executed by this user")
    weakness = find_weakness(files.host_path(real)) if os.geteuid() == 0 else None
    if weakness:
        raise _LeftOut(f"not for root: {weakness.path} {weakness.text}")
    named = re.fullmatch(r"(?:platform-)?python(3\.[0-9]+)", os.path.basename(real))  # platform-python: RHEL 8
    if named is None:
        raise _LeftOut(f"{real} is not named python3.N, as a standard build of CPython is")
    minor = named.group(1)
    prefix = os.path.dirname(os.path.dirname(real)).rstrip("/") or "/usr"
    libraries = [f"{prefix}/{lib}/python{minor}" for lib in ("lib", "lib64")]
    library = next((found for found in libraries if files.is_file(found + "/os.py", "pythons")), None)
    if library is None:
        raise _LeftOut("no standard library in {}".format(" or ".join(libraries)))
    return {
        "version": _read_version(files, prefix, minor),
        "minor": minor,
        "path": real,
        "ensurepip": files.is_file(library + "/ensurepip/__init__.py", "pythons"),
        "distutils": files.is_file(library + "/distutils/command/install.py", "pythons"),
        "public": _is_public(files, real),
    }


def _is_public(files: NodeFiles, real: str) -> bool:
    """May every user start it: no directory above it keeps others out?"""
    parts = real.split("/")
    above = ["/".join(parts[:count]) for count in range(2, len(parts) + 1)]
    return all(os.stat(files.host_path(path)).st_mode & 0o001 for path in above)


def _read_version(files: NodeFiles, prefix: str, minor: str) -> str | None:
    for abi in ("", "m"):  # 3.7 and older put the ABI flag into the name
        text = files.text(f"{prefix}/include/python{minor}{abi}/patchlevel.h", "pythons")
        version = parse_patchlevel(text or "")
        if version is not None:
            return version
    return parse_python_directory(prefix, minor)
