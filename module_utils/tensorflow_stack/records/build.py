"""`build.json`, the record by which a build is complete: reading it, and what has to be in it."""

from __future__ import annotations

import os
from typing import Any, Callable, Container

from ..io.reading import read_json
from .image_note import read_note

BUILD_RECORD = "build.json"
RECORD_BYTES = 4 << 20


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_path_inside(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value and not os.path.isabs(value) and ".." not in value.split("/")


def _is_table_of_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_library_or_none(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and _is_text(value.get("version")) and _is_text(value.get("source"))
    )


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_python(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("minor")) and _is_text(value.get("path"))


def _is_links(value: Any) -> bool:
    return _is_table_of_texts(value) and all(map(_is_path_inside, value)) and "\0" not in "".join(value.values())


_SHAPE: dict[str, Callable[[Any], bool]] = {
    "name": _is_text,
    "release": _is_text,
    "flavour": _is_text,
    "digest": _is_text,
    "build": _is_text,
    "python": _is_python,
    "cuda": _is_library_or_none,
    "cudnn": _is_library_or_none,
    "lock_sha256": _is_text,
    "packages": _is_table_of_texts,
    "site_packages": _is_path_inside,
    "links": _is_links,
    "frame": _is_table_of_texts,
    "records": _is_table_of_texts,
    "top_level": _is_list_of_texts,
}
# What builds of an earlier version of this toolkit do not have.
_LATER: dict[str, Callable[[Any], bool]] = {
    "contents": _is_table_of_texts,
    "outside": _is_list_of_texts,
    "added": _is_list_of_texts,
    "unlisted": _is_table_of_texts,
}


def find_misfits(record: dict[str, Any], keys: Container[str] = _SHAPE) -> list[str]:
    """What of a record is missing or of another type than a build writes, of these keys."""
    found = []
    for key, fits in _SHAPE.items():
        if key in keys and key not in record:
            found.append(f"without {key}")
        elif key in keys and not fits(record[key]):
            found.append(f"{key} is of another type")
    found += [f"{key} is of another type" for key, fits in _LATER.items() if key in record and not fits(record[key])]
    if not found and "records" in keys and not record["packages"].keys() <= record["records"].keys():
        found.append("records lack a package")
    return found


def read_record(path: str) -> dict[str, Any] | None:
    """The record of the build at `path`; None where there is none that this toolkit can have written.

    That of an image says in which build it was packed: `build` is the one that it is here, and `image` its sha256.
    """
    note = read_note(path)
    if note is not None and not note["complete"]:
        return None
    try:
        record = read_json(os.path.join(path, BUILD_RECORD), RECORD_BYTES, follow=False)
    except (OSError, ValueError):
        return None
    if find_misfits(record):
        return None
    return record if note is None else {**record, "build": os.path.basename(path), "image": note["sha256"]}
