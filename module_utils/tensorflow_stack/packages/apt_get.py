"""The commands of apt and dpkg. Whether one did its work is seen from what is installed afterwards."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Callable

from ..io.commands import c_locale, run
from ..io.processes import name_processes
from ..io.trust import private_directory
from ..io.writing import write_new
from .apt_pins import read_foreign_pins, render_pins
from .dpkg_lock import POLL_SECONDS, busy

_OPTIONS = (
    "-o=APT::Color=false",
    "-o=APT::Install-Recommends=false",
    "-o=APT::Install-Suggests=false",
    "-o=APT::Get::AutomaticRemove=false",
    "-o=Dpkg::Use-Pty=0",
    "-o=Dpkg::Options::=--force-confdef",
    "-o=Dpkg::Options::=--force-confold",
    "-o=Acquire::Retries=3",
)
# Who holds a lock, as apt prints it since 1.9.
_LOCKED = re.compile(r"Could not get lock (\S+?)\.? (?:It is held by process ([0-9]{1,9}) \((.*?)\)|- open)")

# Without the pins of the node: a broken file of them must not hide what is available.
CACHE = ("apt-cache", "-o=Dir::Etc::preferences=/dev/null", "-o=Dir::Etc::preferencesparts=/dev/null")

RunText = Callable[..., str]


def run_command(argv: Sequence[str], *, stdin: str = "") -> str:
    """What a command prints, both channels."""
    environment = c_locale(LC_ALL="C.UTF-8", DEBIAN_FRONTEND="noninteractive", APT_LISTCHANGES_FRONTEND="none")
    if argv[0] == "dpkg":
        environment["DPKG_FRONTEND_LOCKED"] = "1"
    return run(argv, stdin=stdin, env=environment).output


class AptGet:
    """`lock_timeout` is for each wait for a lock."""

    def __init__(self, run: RunText, *, lock_timeout: float) -> None:
        self._run = run
        self._lock_timeout = lock_timeout

    def simulate(self, versions: Mapping[str, str], pins: Mapping[str, str]) -> str:
        return self._install("--simulate", *_ALLOW_ALL, versions=versions, pins=pins)

    def download(self, versions: Mapping[str, str], pins: Mapping[str, str]) -> str:
        return self._install("--download-only", *_ALLOW_ALL, versions=versions, pins=pins)

    def install(self, *options: str, versions: Mapping[str, str], pins: Mapping[str, str]) -> str:
        return self._install(*options, versions=versions, pins=pins)

    def purge(self, *options: str, names: Sequence[str]) -> str:
        return self._apt_get("purge", *options, *sorted(names))

    def _install(self, *options: str, versions: Mapping[str, str], pins: Mapping[str, str]) -> str:
        """`apt-get install` of exactly these; the node's own pins do not count for what is pinned here."""
        wanted = [f"{name}={version}" for name, version in sorted(versions.items())]
        with private_directory("tensorflow-gpu-stack-") as directory:
            os.chmod(directory, 0o755)  # apt drops its rights to fetch
            preferences = os.path.join(directory, "pins.pref")
            write_new(preferences, render_pins({**pins, **versions}) + read_foreign_pins())
            return self._apt_get(
                "install",
                f"-o=Dir::Etc::preferences={preferences}",
                "-o=Dir::Etc::preferencesparts=/dev/null",
                "--yes",
                "--reinstall",
                "--no-install-recommends",
                *options,
                *wanted,
            )

    def _apt_get(self, action: str, *arguments: str) -> str:
        deadline = time.monotonic() + self._lock_timeout
        while True:
            left = max(0, math.ceil(deadline - time.monotonic()))
            output = self._run(["apt-get", *_OPTIONS, f"-o=DPkg::Lock::Timeout={left}", action, *arguments])
            # apt itself waits for dpkg's locks, not for the one of its archives.
            locked = _LOCKED.search(output)
            if not locked or "--simulate" in arguments:
                return output
            if time.monotonic() >= deadline:
                path, pid, command = locked.groups()
                process = name_processes([int(pid)], command) if pid else "an unknown process"
                raise busy(path, process, waited=self._lock_timeout)
            time.sleep(POLL_SECONDS)


# For what changes no package: whether it may be so is judged from the plan.
_ALLOW_ALL = ("--ignore-hold", "--allow-change-held-packages", "--allow-downgrades")


def complaint(output: str) -> str:
    """What apt complains of, on one line."""
    lines = [line.strip() for line in output.splitlines()]
    errors = [re.sub(r"^E: ", "", line) for line in lines if line.startswith("E: ")]
    errors += [line for line in lines if re.search(r" (Depends|PreDepends|Conflicts|Breaks): ", line)]
    return "; ".join(line.rstrip(". ") for line in errors) or (lines[-1] if lines else "it printed nothing")
