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


def processes_locking(descriptor: int) -> list[int]:
    """Processes that hold a lock of flock(2) on the open file, as far as one may look. Those that wait hold none."""
    own = os.fstat(descriptor)
    found = set()
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            status = os.stat(link)
            if (status.st_dev, status.st_ino) != (own.st_dev, own.st_ino):
                continue
            with open(link.replace("/fd/", "/fdinfo/"), encoding="ascii", errors="replace") as stream:
                if any(line.startswith("lock:") and " FLOCK " in line for line in stream):
                    found.add(int(link.split("/")[2]))
        except OSError:
            continue
    return sorted(found)


def name_processes(numbers: list[int], otherwise: str = "") -> str:
    """In the words of a message: "process 8 (jupyter-lab)"; `otherwise` is the name of one that has ended."""
    names = ((number, _program(number) or otherwise) for number in numbers)
    named = [f"{number} ({name})" if name else str(number) for number, name in names]
    return ("process " if len(named) == 1 else "processes ") + ", ".join(named)


def _program(number: int) -> str:
    """The program of a process; nothing if it has ended."""
    try:
        with open(f"/proc/{number}/cmdline", "rb") as stream:
            return program_of([os.fsdecode(word) for word in stream.read().split(b"\0")])
    except OSError:
        return ""


def program_of(words: list[str]) -> str:
    """The program of a command, with the script or module that a Python runs; other arguments may be secret."""
    name = os.path.basename(words[0])
    if name.startswith("python") and len(words) > 1:
        if words[1] == "-m" and len(words) > 2:
            name += f" -m {words[2]}"
        elif words[1] and not words[1].startswith("-"):
            name += f" {os.path.basename(words[1])}"
    return "".join(character if character.isprintable() else "?" for character in name)
