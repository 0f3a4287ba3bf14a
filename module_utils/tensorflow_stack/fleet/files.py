"""The files of a fleet's report, on the controller: `fleet.json`, and the same for others and for people."""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import StackError
from ..io.trust import refuse_planted_link
from ..io.writing import write_json, write_text
from . import exports
from .page import page

RECORD = "fleet.json"


def _prometheus(summary: Mapping[str, Any]) -> str:
    return exports.prometheus(summary, calendar.timegm(time.strptime(summary["written_at"], "%Y-%m-%dT%H:%M:%SZ")))


# In the order in which they are written, after the record that they are made from.
MADE: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "fleet.html": page,
    "fleet.xml": exports.junit,
    "fleet.prom": _prometheus,
    "fleet.csv": exports.comma_separated,
    "fleet.txt": exports.text,
}


def write_record(directory: str, summary: Mapping[str, Any]) -> None:
    """fleet.json alone, as while a run is at work. Raises StackError."""
    path = os.path.join(directory, RECORD)
    try:
        refuse_planted_link(path)
        os.makedirs(directory, exist_ok=True)
        write_json(path, summary)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_all(directory: str, summary: Mapping[str, Any]) -> str:
    """fleet.json and what is made from it; the path of the page. Raises StackError."""
    write_record(directory, summary)
    for name, make in MADE.items():
        path = os.path.join(directory, name)
        # What a node says may contain half a character, which no encoding has.
        text = make(summary).encode("utf-8", "replace").decode("utf-8")
        try:
            write_text(path, text)
        except OSError as error:
            raise _unwritable(path, error) from error
    return os.path.join(directory, "fleet.html")


def _unwritable(path: str, error: OSError) -> StackError:
    return StackError(
        f"{path} cannot be written: {error.strerror}. Set stack_report_directory to a directory of yours."
    )
