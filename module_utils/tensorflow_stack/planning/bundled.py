"""Refuses a plan whose files a bundle does not have, or has damaged. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .plan import refuse
from .stack import Refusal

_SET = (
    "Make the bundle again (make bundle) or copy these files again, or leave stack_bundle_url out to fetch them from "
    "where they are published."
)
_MOST_NAMED = 10


def refuse_faults(made: dict[str, Any], faults: Sequence[Mapping[str, str]], place: str) -> dict[str, Any]:
    """The plan, refused if something is wrong with what it would take from the bundle at `place`."""
    refusals = [
        Refusal(fault["component"], found=fault["found"], wanted=f"all its files whole in {place}", set=_SET)
        for fault in faults[:_MOST_NAMED]
    ]
    return refuse(made["release"], tuple(refusals)) if refusals else made
