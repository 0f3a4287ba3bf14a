"""What a log says where no cause is known: whether it shows a healthy run, and which lines look like faults. Pure.

The rows of `log_lines.yml` come as a parameter, so that no YAML is needed on a node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .log_text import bare_forms, has_start

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
    patterns = [(row["kind"], re.compile(row["line"]), has_start(row["line"])) for row in rows]
    seen: set[str] = set()
    faults: list[str] = []
    not_understood = False
    in_traceback: list[str] = []
    for line in filter(str.strip, lines):
        forms = bare_forms(line.strip())
        found = {kind for kind, pattern, start in patterns if any(map(pattern.search, forms if start else forms[:1]))}
        seen |= found
        if in_traceback and not (line[:1].isspace() or forms[-1].startswith("File ")):
            faults.append(line.strip())
            in_traceback = []
        elif in_traceback or forms[-1].startswith(_TRACEBACK):
            in_traceback.append(line.strip())
        elif "fault" in found and not found & {"harmless", "command"}:
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
    if not not_understood and seen & {"harmless", "gpu"}:
        return Judgement(True, "every line of it is known to be harmless", [])
    last = [line.strip() for line in lines if line.strip()][-_MOST_QUOTED:]
    return Judgement(False, "no line looks like a fault, and none shows that TensorFlow computed", last)


def _chosen(faults: list[str]) -> list[str]:
    if len(faults) <= _MOST_QUOTED:
        return faults
    return faults[:_FIRST_QUOTED] + faults[_FIRST_QUOTED - _MOST_QUOTED :]
