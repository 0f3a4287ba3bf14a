"""What the action `tensorflow_fleet_report` does: makes the report of a fleet again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import StackError
from ..io.clock import timestamp
from .files import write_all
from .recorded import recorded
from .summary import answer, lines

# As an argument spec.
OPTIONS: dict[str, dict[str, Any]] = {"reports": {"type": "path", "required": True}}
# Of nodes about which nobody has to do anything, but let a run begin.
_AT_REST = ("proven", "planned")


def report_fleet(
    options: Mapping[str, Any], hosts: Sequence[str], *, check_mode: bool
) -> tuple[dict[str, Any], str | None]:
    """The result of the action, and why it fails, if it does."""
    directory = os.path.normpath(options["reports"])
    try:
        made = recorded(directory, hosts, written_at=timestamp())
        page = "" if check_mode else write_all(directory, made)
    except StackError as error:
        return {}, error.message
    return {
        "lines": lines(made),
        "page": page,
        "needs_somebody": [node["host"] for node in made["nodes"] if node["state"] not in _AT_REST],
        "answer": answer(made),
    }, None
