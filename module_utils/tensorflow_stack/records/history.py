"""The manifest's `history`: which build of which environment was in use, and where going back leads. Pure.

    [{at, action, by, environment, before, after, walked_back, verdict}, ...], the oldest first

`before` and `after` are what was in use: {environment, build}, or null. `environment` is the one that was changed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# The link below the root to the environment that was applied last.
CURRENT_LINK = "current"
# An entry has 400 bytes. Who changes something each day can look back three months.
MOST_ENTRIES = 100
# Of an entry that a later run made for a change that no run recorded: one that was killed between its change and the
# record, one of an earlier version of this toolkit, or a person.
FOUND = "found"


class Position(NamedTuple):
    """What was in use: an environment and its build."""

    environment: str
    build: str

    @property
    def number(self) -> str:
        """By which a person tells the builds of an environment apart."""
        return self.build.rpartition("-")[2]

    @property
    def shown(self) -> str:
        return f"{self.environment} (build {self.number})"


def read_position(value: Any) -> Position | None:
    return Position(value["environment"], value["build"]) if value else None


def make_entry(
    action: str,
    *,
    environment: str,
    before: Position | None,
    after: Position | None,
    at: str,
    by: str | None = None,
    walked_back: bool = False,
) -> dict[str, Any]:
    return {
        "at": at,
        "action": action,
        "by": by,
        "environment": environment,
        "before": before and dict(before._asdict()),
        "after": after and dict(after._asdict()),
        "walked_back": walked_back,
        "verdict": None,
    }


def with_entry(history: list[dict[str, Any]], entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [*history, entry][-MOST_ENTRIES:]


def completed(history: list[dict[str, Any]], in_use: Position | None, *, at: str) -> list[dict[str, Any]]:
    """The history with an entry for a change that nobody recorded: it ends with what is in use."""
    last = read_position(history[-1]["after"]) if history else None
    if last == in_use:
        return history
    environment = (in_use or last or Position("", "")).environment
    return with_entry(history, make_entry(FOUND, environment=environment, before=last, after=in_use, at=at))


def positions_before(history: list[dict[str, Any]]) -> list[Position]:
    """What was in use before the present state, the latest first.

    A run that went back took what it left off this list: the next one goes further back, and not forward again.
    """
    trail: list[Position | None] = []
    for entry in history:
        _follow(trail, read_position(entry["after"]), is_back=entry["walked_back"])
    return _below(trail)


def positions_left(history: list[dict[str, Any]]) -> list[Position]:
    """Everything that was ever in use, the latest first."""
    found = (read_position(entry["after"]) for entry in reversed(history))
    return list(dict.fromkeys(position for position in found if position))


def is_of_earlier_version(history: list[dict[str, Any]]) -> bool:
    """Whether there was something in use before the history began."""
    return not history or (history[0]["action"] == FOUND and history[0]["before"] is None)


def builds_before(history: list[dict[str, Any]], environment: str, live: str | None) -> list[str]:
    """The builds of one environment that were in use before `live`, the latest first."""
    trail: list[Position | None] = []
    for entry in history:
        after = read_position(entry["after"])
        if after and after.environment == environment:
            _follow(trail, after, is_back=entry["action"] == "rollback")
    if live:
        _follow(trail, Position(environment, live), is_back=False)
    return [position.build for position in _below(trail)]


def _follow(trail: list[Position | None], after: Position | None, *, is_back: bool) -> None:
    if trail and trail[-1] == after:
        return
    if is_back:
        while trail and trail[-1] != after:
            trail.pop()
    if not trail or trail[-1] != after:
        trail.append(after)


def _below(trail: list[Position | None]) -> list[Position]:
    """Each once, and not what is in use."""
    found = dict.fromkeys(position for position in reversed(trail[:-1]) if position and position != trail[-1])
    return list(found)


def note_verdict(history: list[dict[str, Any]], position: Position, verdict: str) -> bool:
    """Note the verdict of a check on the change after which it ran; returns whether it was not noted."""
    if not history or read_position(history[-1]["after"]) != position or history[-1]["verdict"] == verdict:
        return False
    history[-1]["verdict"] = verdict
    return True


def find_misfit(history: Any) -> str | None:
    """What of a history is of another type than this toolkit writes."""
    if not isinstance(history, list) or not all(map(_is_entry, history)):
        return "has a history that this toolkit did not write"
    return None


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() >= {"at", "action", "by", "environment", "before", "after", "walked_back", "verdict"}
        and all(isinstance(entry.get(key), str) for key in ("at", "action", "environment"))
        and all(isinstance(entry.get(key), (str, type(None))) for key in ("by", "verdict"))
        and all(_is_position(entry.get(key)) for key in ("before", "after"))
        and isinstance(entry.get("walked_back"), bool)
    )


def _is_position(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("environment", "build"))
    )
