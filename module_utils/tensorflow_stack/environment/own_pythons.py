"""The Pythons that uv unpacked below the root: each file as it came out of the archive.

uv compares the archive with the sha256 that it has itself, and uv is pinned. What it unpacked is noted at once, and
compared with that before an environment is built with it. Others cannot change the note or the files: whoever edits
a file there, or has a program that does, finds out before root runs it.
"""

from __future__ import annotations

import os
import shlex
import stat
from typing import Iterator

from ..errors import BuildError
from ..io.reading import digest_of, read_json
from ..io.trust import judge
from ..io.writing import write_json

_NOTE_BYTES = 16 << 20
_SHOWN = 3


def note_python(root: str, path: str) -> None:
    """Note each file of the Python that was unpacked just now."""
    home = home_of(root, path)
    if home and os.path.isdir(home):
        write_json(_note_of(home), dict(_files_of(home)))


def check_python(root: str, path: str) -> None:
    """Raises BuildError if the interpreter is one of the root's own and is not as it was unpacked.

    One that an earlier version of this toolkit fetched has no note: of that only owners and modes are looked at.
    """
    home = home_of(root, path)
    if home is None or not os.path.isdir(home):
        return
    for place in _places_below(home):
        weakness = judge(place, os.lstat(place), shared=False)
        if weakness:
            raise BuildError(f"{place} {weakness.text}, and root runs it. {_renewed(home)}", path=place)
    try:
        noted = read_json(_note_of(home), _NOTE_BYTES, follow=False)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise BuildError(f"{_note_of(home)} cannot be read: {error}. {_renewed(home)}", path=home) from error
    found = dict(_files_of(home))
    changed = sorted(name for name in noted.keys() | found.keys() if noted.get(name) != found.get(name))
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise BuildError(
            f"{home} is not as it was unpacked: {', '.join(changed[:_SHOWN])}{more} changed. {_renewed(home)}",
            path=home,
        )


def home_of(root: str, path: str) -> str | None:
    """The directory below `<root>/.pythons` of an interpreter; None for one from elsewhere."""
    below = os.path.join(os.path.realpath(os.path.join(root, ".pythons")), "")
    real = os.path.realpath(path)
    return below + real[len(below) :].split("/")[0] if real.startswith(below) else None


def _note_of(home: str) -> str:
    return os.path.join(os.path.dirname(home), f".{os.path.basename(home)}.json")


def _places_below(home: str) -> Iterator[str]:
    yield home
    for directory, names, files in os.walk(home):
        yield from (os.path.join(directory, name) for name in names + files)


def _files_of(home: str) -> Iterator[tuple[str, str]]:
    """Path and contents of each file and link but the bytecode that Python itself writes."""
    for place in _places_below(home):
        status = os.lstat(place)
        name = os.path.relpath(place, home)
        if stat.S_ISLNK(status.st_mode):
            yield name, "link:" + os.readlink(place)
        elif not stat.S_ISDIR(status.st_mode) and not name.endswith(".pyc"):
            yield name, "sha256:" + digest_of(place).hex() if stat.S_ISREG(status.st_mode) else "of another kind"


def _renewed(home: str) -> str:
    away = f"mv {shlex.quote(home)} {shlex.quote(home + '.old')}"
    return f"Move it away and run again, which downloads it again: {away}"
