"""What a log says where no cause is known: whether it shows a healthy run, and which lines look like faults. Pure.

The rows of `log_lines.yml` come as a parameter, so that no YAML is needed on a node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .line_search import Lines
from .log_text import bare_forms

_MOST_QUOTED = 5
_FIRST_QUOTED = 2  # The cause comes first, what ended the program last.
_TRACEBACK = "Traceback (most recent call last)"
_TRACEBACK_TAIL = 3


@dataclass(frozen=True)
class Judgement:
    """`quoted` are lines that look like faults, where there are none the last ones; `faults` counts the former."""

    healthy: bool
    says: str
    quoted: list[str]
    faults: int = 0


def judge_log(rows: Sequence[Mapping[str, Any]], lines: Sequence[str]) -> Judgement:
    """Healthy is what shows that TensorFlow computed, and what has nothing but lines that are known as harmless."""
    kinds = _kinds(rows, lines)
    harmless = {"harmless", "command"}
    if any("cpu" in found for found in kinds.values()):
        harmless.add("without_gpu")
    seen: set[str] = set()
    faults: list[str] = []
    not_understood = False
    in_traceback: list[str] = []
    for line in filter(str.strip, lines):
        found = kinds.get(line.strip(), set())
        seen |= found
        last = bare_forms(line.strip())[-1] if in_traceback or _TRACEBACK in line else ""
        if in_traceback and not (line[:1].isspace() or last.startswith("File ")):
            faults.append(line.strip())
            in_traceback = []
        elif in_traceback or last.startswith(_TRACEBACK):
            in_traceback.append(line.strip())
        elif "fault" in found and not found & harmless:
            faults.append(line.strip())
        not_understood = not_understood or not found - {"fault"}
    # Cut off before its message.
    faults += in_traceback[-_TRACEBACK_TAIL:]
    if faults:
        distinct = list(dict.fromkeys(faults))
        looks = "look like faults" if len(distinct) > 1 else "looks like a fault"
        return Judgement(False, f"{len(distinct)} of them {looks}", _chosen(distinct), len(distinct))
    if "verdict" in seen or {"gpu", "computed"} <= seen:
        return Judgement(True, "TensorFlow computed, and no line looks like a fault", [])
    if not not_understood and seen & {*harmless, "gpu"} - {"command"}:
        return Judgement(True, "every line of it is known to be harmless", [])
    end = [line.strip() for line in lines if line.strip()][-_MOST_QUOTED:]
    return Judgement(False, "no line looks like a fault, and none shows that TensorFlow computed", end)


def wants_gpu(rows: Sequence[Mapping[str, Any]], lines: Sequence[str]) -> bool:
    """False if a line shows a build for the CPU, or that the GPU is hidden on purpose."""
    searched = Lines(lines)
    return not any(any(True for _ in searched.search(row["line"])) for row in rows if row["kind"] == "cpu")


def _kinds(rows: Sequence[Mapping[str, Any]], lines: Sequence[str]) -> dict[str, set[str]]:
    """The kinds of each line of which a row knows one."""
    searched = Lines(lines)
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for number, _ in searched.search(row["line"]):
            kinds.setdefault(searched.lines[number], set()).add(row["kind"])
    return kinds


def _chosen(faults: list[str]) -> list[str]:
    if len(faults) <= _MOST_QUOTED:
        return faults
    return faults[:_FIRST_QUOTED] + faults[_FIRST_QUOTED - _MOST_QUOTED :]
