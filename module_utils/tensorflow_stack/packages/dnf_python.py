"""dnf 4's own Python interface: its tables are made for people, and it has one solver for plan and transaction."""

from __future__ import annotations

import importlib
import os
import re
import time
from typing import Any, Callable

from ..errors import BusyError, StackError
from ..io.processes import name_processes
from ..io.reading import read_whole
from .versionlock import split_version

_TEXT_BYTES = 16 << 20

MODULES = "/etc/dnf/modules.d/{}.module"
_POLL_SECONDS = 1.0


class DnfPython:
    """`lock_timeout` is for each wait for a lock."""

    def __init__(self, *, lock_timeout: float, import_module: Callable[[str], Any] = importlib.import_module) -> None:
        self.dnf = import_module("dnf")
        self.hawkey = import_module("hawkey")
        self._modules = import_module("dnf.module.module_base")
        self._rpm = import_module("rpm")
        self._lock_timeout = lock_timeout
        self._native = str(self.dnf.rpm.basearch(self.hawkey.detect_arch()))

    def open(self, *, repositories: bool) -> Any:
        base = self.dnf.Base()
        base.conf.read()
        base.conf.substitutions.update_from_etc(base.conf.installroot)
        base.conf.assumeyes = True
        base.conf.install_weak_deps = False
        base.conf.clean_requirements_on_remove = False
        base.conf.exit_on_lock = True
        if repositories:
            base.read_all_repos()
        try:
            self.waiting(lambda: base.fill_sack(load_available_repos=repositories))
        except self.dnf.exceptions.RepoError as error:
            raise StackError(f"dnf cannot read its repositories: {error}. Repair them (nvidia_repository).") from error
        return base

    def modules(self, base: Any) -> Any:
        return self._modules.ModuleBase(base)

    def waiting(self, action: Callable[[], Any]) -> Any:
        """The action's result, once no other process has a lock of dnf. Raises BusyError."""
        deadline = time.monotonic() + self._lock_timeout
        while True:
            try:
                return action()
            except self.dnf.exceptions.LockError as error:
                if time.monotonic() >= deadline:
                    pid = getattr(error, "pid", None)
                    holder = name_processes([int(pid)], "ended") if pid else "another process"
                    raise BusyError(
                        f"A lock of dnf is held by {holder}; waited {self._lock_timeout:g} s. "
                        "Run again when it has ended, or raise package_lock_timeout.",
                        holder=holder,
                    ) from error
                time.sleep(_POLL_SECONDS)

    def require_versionlock(self) -> None:
        """Without the plugin nothing would read the locks."""
        base = self.dnf.Base()
        base.conf.read()
        if not any(os.path.exists(os.path.join(path, "versionlock.py")) for path in base.conf.pluginpath):
            raise StackError(
                "dnf's plugin versionlock is not installed, so nothing could be held at its version. "
                "Install it first: dnf install python3-dnf-plugin-versionlock."
            )

    def name(self, package: Any) -> str:
        native = package.arch in (self._native, "noarch")
        return str(package.name) if native else f"{package.name}:{package.arch}"

    def compare(self, left: str, right: str) -> int:
        return int(self._rpm.labelCompare(split_version(left), split_version(right)))


def version_of(package: Any) -> str:
    """With the epoch if it is not 0."""
    epoch = f"{package.epoch}:" if int(package.epoch) else ""
    return f"{epoch}{package.version}-{package.release}"


def read_enabled_stream(module: str) -> str | None:
    text = read_file(MODULES.format(module)) or ""
    options = dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(\S*)[ \t]*$", text, re.MULTILINE))
    return options.get("stream") or None if options.get("state") == "enabled" else None


def read_file(path: str) -> str | None:
    try:
        return read_whole(path, _TEXT_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
