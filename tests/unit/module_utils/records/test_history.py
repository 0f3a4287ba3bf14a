"""Where going back leads, by what was in use."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.records import history
from ansible.module_utils.tensorflow_stack.records.history import Position

AT = "2026-11-26T16:00:00Z"


def position(text: str) -> Position | None:
    """`x1` is build 1 of x; `-` is nothing."""
    return None if text == "-" else Position(text[0], f"{text[0]}-0123456789ab-{text[1:]}")


def told(*changes: str) -> list[dict[str, Any]]:
    """`x1` is a change to it, `<x1` a rollback along the history, `=x1` a rollback of the named environment x."""
    entries: list[dict[str, Any]] = []
    before = None
    for change in changes:
        is_rollback = change[0] in "<="
        after = position(change.lstrip("<="))
        entry = history.make_entry(
            "rollback" if is_rollback else "build" if after else "remove",
            environment=(after or before or Position("", "")).environment,
            before=before,
            after=after,
            at=AT,
            walked_back=change[0] == "<",
        )
        entries = history.with_entry(entries, entry)
        before = after
    return entries


def names(positions: list[Position]) -> str:
    return " ".join(f"{found.environment}{found.build[-1]}" for found in positions)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("", ""),
        ("x1", ""),
        ("x1 x2", "x1"),
        ("x1 y1", "x1"),
        ("x1 y1 x1", "y1"),
        ("x1 y1 <x1", ""),
        ("x1 x2 y1 <x2", "x1"),
        ("x1 x2 y1 <x2 <x1", ""),
        ("x1 x2 <x1 y1", "x1"),
        ("x1 y1 -", "y1 x1"),
        ("x1 y1 - <x1", ""),
        ("x1 x2 y1 =x1", "y1 x2"),
        ("x5 <x4", ""),
    ],
)
def test_a_rollback_goes_further_back_each_time(changes: str, expected: str) -> None:
    assert names(history.positions_before(told(*changes.split()))) == expected


@pytest.mark.parametrize(
    ("changes", "live", "expected"),
    [
        ("", "x2", ""),
        ("x1 y1 x2 y2", "x2", "x1"),
        ("x1 x2 x3 y1 =x2", "x2", "x1"),
        ("x1 x2 y1 <x2 <x1", "x1", ""),
        ("x1 x2 -", "x2", "x1"),
        ("x1 x2 y1", "x3", "x2 x1"),
    ],
)
def test_a_rollback_of_one_environment_knows_its_builds_alone(changes: str, live: str, expected: str) -> None:
    found = history.builds_before(told(*changes.split()), "x", str(position(live).build))  # type: ignore[union-attr]
    assert names([Position("x", build) for build in found]) == expected


def test_a_change_that_nobody_recorded_is_found() -> None:
    entries = told("x1")
    assert history.completed(entries, position("x1"), at=AT) is entries
    found = history.completed(entries, position("x2"), at=AT)[-1]
    assert (found["action"], found["by"], found["environment"]) == ("found", None, "x")
    assert history.read_position(found["before"]) == position("x1")
    assert history.read_position(found["after"]) == position("x2")
    assert history.completed(entries, None, at=AT)[-1]["environment"] == "x"
    assert history.completed([], None, at=AT) == []


def test_the_history_has_an_end() -> None:
    entries = told(*(f"x{number}" for number in range(history.MOST_ENTRIES + 5)))
    assert len(entries) == history.MOST_ENTRIES
    assert history.read_position(entries[-1]["after"]) == position(f"x{history.MOST_ENTRIES + 4}")


def test_a_verdict_belongs_to_what_it_was_reached_for() -> None:
    entries = told("x1", "x2")
    history.note_verdict(entries, Position("x", "x-0123456789ab-1"), "ok")
    history.note_verdict([], Position("x", "x-0123456789ab-1"), "ok")
    assert [entry["verdict"] for entry in entries] == [None, None]
    history.note_verdict(entries, Position("x", "x-0123456789ab-2"), "ok")
    assert [entry["verdict"] for entry in entries] == [None, "ok"]


@pytest.mark.parametrize(
    "wrong",
    [{}, [1], [{}], [{**told("x1")[0], "after": "x1"}], [{**told("x1")[0], "walked_back": None}]],
    ids=str,
)
def test_what_is_no_history_is_said(wrong: Any) -> None:
    assert history.find_misfit(told("x1", "y1", "-")) is None
    assert history.find_misfit(wrong) == "has a history that this toolkit did not write"
