"""The history of a root for a person and a program: what was changed, when, by whom, and where a rollback leads."""

from __future__ import annotations

import os
import textwrap
from typing import Any

from ..errors import BuildError
from ..records import manifest
from ..records.history import CURRENT_LINK, FOUND, Position, read_position
from .going_back import plan_previous, read_history
from .in_use import about_others, is_others
from .root import check_root

_COLUMNS = 72  # of 80: Ansible indents a text by 8
_SHOWN = 20
_NAME = 17  # that of a release with its patch; a longer one is cut in its middle
_WORDS = {
    "build": "built",
    "repair": "repaired",
    "switch": "switched",
    "rollback": "rolled back",
    "remove": "removed",
    "add": "added",
    FOUND: "found",
}
_INDENT = " " * 18


def tell_history(root: str) -> dict[str, Any]:
    """What `tensorflow_history` returns of a root; reads only."""
    check_root(root)
    content = manifest.read(root)
    entries, in_use = read_history(root)
    back, why_not = None, None
    try:
        outcome = plan_previous(root)
        back = Position(str(outcome.target), str(outcome.build))
    except BuildError as error:
        why_not = error.message
    told = [_told(root, entry, content) for entry in reversed(entries)]
    is_ours = not is_others(root, content, in_use and in_use.environment)
    result = {
        "root": root,
        "current": os.path.join(root, CURRENT_LINK) if is_ours else None,
        "in_use": _as_dict(in_use),
        "rollback": _as_dict(back),
        "rollback_refused": why_not,
        "history": told,
    }
    return {**result, "table": _table(result, in_use, back, [] if is_ours else [about_others(root)])}


def _as_dict(position: Position | None) -> dict[str, str] | None:
    return dict(position._asdict()) if position else None


def _told(root: str, entry: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """An entry with what is known of its build: whether it is kept, and for which file and variables it was built."""
    after = entry["after"] or {"environment": None, "build": None}
    known = content["environments"].get(after["environment"], {})
    notes = {key: (known.get(key) or {}).get(after["build"]) for key in ("requirements", "asked")}
    is_kept = bool(entry["after"]) and os.path.isdir(os.path.join(root, ".builds", str(after["build"])))
    shown = {key: value for key, value in entry.items() if key != "walked_back"}
    return {**shown, **notes, "kept": is_kept}


def _table(result: dict[str, Any], in_use: Position | None, back: Position | None, notes: list[str]) -> str:
    if not result["history"]:
        return f"Nothing was applied below {result['root']} yet."
    lines = [f"In use: {in_use.shown if in_use else 'nothing'}"]
    if in_use and result["current"]:
        lines.append(f"Stable path: {result['current']}")
    if back:
        lines.append(f"make rollback would switch to {back.shown}.")
    else:
        lines += textwrap.wrap(str(result["rollback_refused"]), _COLUMNS, break_on_hyphens=False)
    for note in notes:
        lines += textwrap.wrap(note, _COLUMNS, break_on_hyphens=False)
    lines += ["", _row("when (UTC)", "what", "then in use", "build", "verdict")]
    for entry in result["history"][:_SHOWN]:
        lines += _lines_of(entry)
    more = len(result["history"]) - _SHOWN
    return "\n".join(lines + ([f"... and {more} older changes"] if more > 0 else []))


def _lines_of(entry: dict[str, Any]) -> list[str]:
    after, before = read_position(entry["after"]), read_position(entry["before"])
    when = entry["at"][:16].replace("T", " ")
    what = _WORDS.get(entry["action"], entry["action"])
    name, number = (_cut(after.environment), after.number) if after else ("nothing", "")
    first = _row(when, what, name, number, entry["verdict"] or "-")
    said = []
    if entry["action"] == FOUND:
        said.append("by a run that was stopped, an older version of this toolkit, or a person")
    else:
        said.append(f"by {entry['by'] or 'an unknown user'}")
    if entry["action"] == "remove":
        said.append(f"removed: {entry['environment']}")
    if before != after and (before or entry["action"] != FOUND):
        said.append(f"before: {before.shown if before else 'nothing'}")
    if entry["requirements"]:
        said.append(f"for {entry['requirements']}")
    if after and not entry["kept"]:
        said.append("its build was removed since")
    text = "".join(character if character.isprintable() else "?" for character in "; ".join(said))
    more = textwrap.wrap(text, _COLUMNS, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)
    return [first, *more]


def _row(when: str, what: str, name: str, number: str, verdict: str) -> str:
    return f"{when:<16}  {what:<11}  {name:<{_NAME}}  {number:<5}  {verdict}"


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME // 2]}~{name[-(_NAME - _NAME // 2 - 1) :]}"
