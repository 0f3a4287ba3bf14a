"""The note that a node keeps of each image that it mounts, `<root>/.images/<build>.json`, and names of its files.

The same directory has the images by their sha256.
"""

from __future__ import annotations

import os
from typing import Any

from ..io.reading import read_json

SUFFIX = ".squashfs"
VERITY_SUFFIX = ".verity"
MANIFEST_SUFFIX = ".json"
DIRECTORY = ".images"
MOST_BYTES = 1 << 20
# What a note of this toolkit has.
_NOTED = {"sha256": str, "bytes": int, "verity_sha256": str, "root_hash": str, "protection": str, "complete": bool}


def note_path(build: str) -> str:
    """Of the build at a path `<root>/.builds/<build>`."""
    builds, name = os.path.split(build)
    return os.path.join(os.path.dirname(builds), DIRECTORY, name + MANIFEST_SUFFIX)


def read_note(build: str) -> dict[str, Any] | None:
    """Which image is mounted as the build at this path; None for a build that is a directory of its own.

    A note that cannot be read is that of an image that is not complete.
    """
    try:
        note = read_json(note_path(build), MOST_BYTES, follow=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        note = {}
    fits = all(type(note.get(key)) is kind for key, kind in _NOTED.items())
    return note if fits else {"sha256": "", "protection": "compared", "complete": False}
