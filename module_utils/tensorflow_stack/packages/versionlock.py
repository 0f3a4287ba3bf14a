"""dnf's versionlock.list and dnf-automatic's configuration: other people's lines, and a block of our own. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from .model import without_architecture

_BEGIN, _END = "# tensorflow-gpu-stack begin: written by it, changes are undone", "# tensorflow-gpu-stack end"


def render_automatic(text: str, names: Sequence[str]) -> str:
    """dnf-automatic's configuration with these excluded in `[base]`, too, beside what somebody else excludes."""
    lines = without_block(text).splitlines(keepends=True)
    if not names:
        return "".join(lines)
    start = next((number for number, line in enumerate(lines) if line.strip() == "[base]"), None)
    if start is None:
        lines += ["\n[base]\n"]
        start = len(lines) - 1
    end = next((number for number in range(start + 1, len(lines)) if lines[number].startswith("[")), len(lines))
    foreign = [
        name
        for line in lines[start:end]
        for found in [re.match(r"exclude(?:pkgs)?\s*=\s*(.*)", line)]
        if found
        for name in re.split(r"[\s,]+", found.group(1).strip())
        if name
    ]
    # Of several lines of a name the last one counts, so this one repeats what those before it exclude.
    block = f"{_BEGIN}\nexcludepkgs = {', '.join([*foreign, *names])}\n{_END}\n"
    while end > start + 1 and not lines[end - 1].strip():
        end -= 1
    if not lines[end - 1].endswith("\n"):
        lines[end - 1] += "\n"
    return "".join([*lines[:end], block, *lines[end:]])


def with_block(text: str, lines: Sequence[str]) -> str:
    """The list with our lines at the place that they had before, else at its end."""
    block = "".join(f"{line}\n" for line in [_BEGIN, *lines, _END]) if lines else ""
    before, found, rest = text.partition(_BEGIN + "\n")
    if found and _END + "\n" in rest:
        return before + block + rest.partition(_END + "\n")[2]
    return text + ("\n" if text and not text.endswith("\n") else "") + block


def without_block(text: str) -> str:
    return with_block(text, ()) if _BEGIN in text else text


def read_locks(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def render_lock(name: str, version: str) -> str:
    """A line of versionlock.list; the plugin wants the epoch."""
    epoch, version, release = split_version(version)
    architecture = name.partition(":")[2] or "*"
    return f"{without_architecture(name)}-{epoch}:{version}-{release}.{architecture}"


def is_for(line: str, name: str) -> bool:
    """Whether a line of the list is on the package, by its name or a pattern of it."""
    pattern = line.lstrip("!")
    return any(
        fnmatch.fnmatchcase(name, part)
        for part in (pattern, pattern.rpartition("-")[0], pattern.rpartition("-")[0].rpartition("-")[0])
        if part
    )


def allows(line: str, name: str, version: str) -> bool:
    epoch, number, release = split_version(version)
    forms = [name, f"{name}-{number}", f"{name}-{epoch}:{number}"]
    forms += [f"{name}-{part}-{release}" for part in (number, f"{epoch}:{number}")]
    pattern = line.lstrip("!")
    matches = any(fnmatch.fnmatchcase(text, pattern) for form in forms for text in (form, f"{form}.x"))
    return matches != line.startswith("!")


def split_version(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    number, _, release = (rest if colon else version).rpartition("-")
    return epoch if colon else "0", number, release
