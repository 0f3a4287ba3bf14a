"""The plan as text, for a person. Pure."""

from __future__ import annotations

import os
import re
from typing import Any

from ..screen import fold, megabytes, ranges, rows_of


def render(plan: dict[str, Any], releases: list[dict[str, Any]], width: int | None = None) -> str:
    """The plan, and the releases among which it chose."""
    return "\n".join([render_table(plan, width), *([render_releases(releases, width)] if releases else [])])


def render_table(plan: dict[str, Any], width: int | None = None) -> str:
    """The plan for a person: one line a step, then warnings and refusals."""
    if plan["refusals"]:
        return _render_refusals(plan, width)
    cells: list[tuple[str, ...]] = [("component", "installed", "wanted", "action", "fetch", "why")]
    for step in plan["steps"]:
        action = step["action"] + (f" ({step['direction']})" if step["direction"] in ("up", "down") else "")
        fetch = megabytes(step["bytes"]) if step["bytes"] else ""
        marks = [mark for mark in ("root", "reboot") if step[f"needs_{mark}"]]
        why = step["why"] + (f" (needs {' and '.join(marks)})" if marks else "")
        if width:
            why = _shorten_path(why)
        cells.append((step["component"], step["installed"] or "-", step["wanted"] or "-", action, fetch, why))
    title = f"TensorFlow {plan['release']} ({plan['flavour']}) at {plan['environment']['path']}"
    warnings = [f"warning: {warning}" for warning in plan["warnings"]]
    return "\n".join(
        [*fold_all([title], width), *rows_of(cells, width), *fold_all([*_gpu_lines(plan), *warnings], width)]
    )


def _gpu_lines(plan: dict[str, Any]) -> list[str]:
    """What becomes of each GPU, if one is not used."""
    if not plan["other_gpus"]:
        return []
    rows = [(gpu, "used") for gpu in plan["gpus"]] + [(gpu, f"not used: {gpu['why']}") for gpu in plan["other_gpus"]]
    lines = [
        f"GPU {gpu['index']} ({gpu['name']} at {gpu['pci_address']}) is {what}"
        for gpu, what in sorted(rows, key=lambda row: int(row[0]["index"]))
    ]
    visible = plan["environment"]["visible_gpus"]
    if visible is not None:
        lines.append(
            f"The environment's Python starts with CUDA_VISIBLE_DEVICES={visible} and CUDA_DEVICE_ORDER=PCI_BUS_ID, "
            "unless CUDA_VISIBLE_DEVICES is set."
        )
    return lines


def _shorten_path(text: str) -> str:
    """A lock by its last two folders: the file name says the rest, and a long path fits no screen."""
    parts = text.split("/")
    is_lock = text.startswith("/") and " " not in text and text.endswith(".txt") and len(parts) > 5
    return os.path.join("...", *parts[-3:]) if is_lock else text


def fold_all(texts: list[str], width: int | None) -> list[str]:
    return [line for text in texts for line in fold(text, width, indent="  ")]


def _render_refusals(plan: dict[str, Any], width: int | None) -> str:
    is_kept = all(refusal["component"] == "environment" for refusal in plan["refusals"])
    problem = "would replace what is here" if is_kept else "cannot run here"
    lines = [f"TensorFlow {plan['release'] or '(newest)'} {problem}; nothing will be done."]
    lines += [f"  - {refusal['message']}" for refusal in plan["refusals"]]
    nearest = plan["refusals"][0]["nearest_release"]
    lines += [f"The nearest release that would run here is {nearest}."] if nearest else []
    return "\n".join(fold_all(lines, width))


def render_releases(releases: list[dict[str, Any]], width: int | None = None) -> str:
    """Which releases run on a node, newest first, and of those that do not the reason, once for each kind."""
    order = [row["release"] for row in releases]
    runs = [row["release"] for row in releases if row["runs"]]
    lines = [f"{len(runs)} of {len(order)} releases run here" + (f": {', '.join(runs)}" if runs else "")]
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in releases:
        if not row["runs"]:
            kinds.setdefault(_kind(_reason(row)), []).append(row)
    if kinds:
        lines.append("These do not:")
    for rows in kinds.values():
        names = ranges([row["release"] for row in rows], order)
        differ = len({_reason(row) for row in rows}) > 1
        example = f" (numbers of {rows[0]['release']})" if differ else ""
        lines.append(f"  {names}{example}: {_reason(rows[0])}")
    return "\n".join(fold_all(lines, width))


def _reason(row: dict[str, Any]) -> str:
    return str(row["reasons"][0]).replace(f"TensorFlow {row['release']}", "the release")


def _kind(reason: str) -> str:
    """A reason without its numbers, so that those of one kind are the same."""
    number = r"\b(?:(?:sm_|compute_)?\d[\w.,]*)"
    joined = r"(?:(?:,? (?:and|or|to) |, | )" + number + ")*"
    return re.sub(number + joined, "#", reason)
