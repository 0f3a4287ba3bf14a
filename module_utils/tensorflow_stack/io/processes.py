"""Which processes use files below a directory."""

from __future__ import annotations

import glob
import os


def processes_using(paths: list[str]) -> list[int]:
    """Processes that were started from below one of `paths` or have a file of it mapped, as far as one may look."""
    prefixes = tuple(os.path.join(path, "") for path in {*paths, *(os.path.realpath(path) for path in paths)})
    found = []
    for process in glob.glob("/proc/[0-9]*"):
        try:
            with open(process + "/cmdline", "rb") as stream:
                program = os.fsdecode(stream.read().split(b"\0")[0])
            with open(process + "/maps", encoding="utf-8", errors="replace") as maps:
                if program.startswith(prefixes) or any(line.split(None, 5)[-1].startswith(prefixes) for line in maps):
                    found.append(int(os.path.basename(process)))
        except OSError:
            continue
    return sorted(found)
