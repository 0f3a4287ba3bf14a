"""The plan as text, for a person. Pure."""

from __future__ import annotations

from typing import Any


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
            f"The environment's Python starts with CUDA_VISIBLE_DEVICES={visible} and CUDA_DEVICE_ORDER=PCI_BUS_ID, unless "
            "CUDA_VISIBLE_DEVICES is set."
        )
    return lines


def render_table(plan: dict[str, Any]) -> str:
    """The plan for a person: one line a step, then warnings and refusals."""
    if plan["refusals"]:
        is_kept = all(refusal["component"] == "environment" for refusal in plan["refusals"])
        problem = "would replace what is here" if is_kept else "cannot run here"
        lines = [f"TensorFlow {plan['release'] or '(newest)'} {problem}; nothing will be done."]
        lines += [f"  - {refusal['message']}" for refusal in plan["refusals"]]
        nearest = plan["refusals"][0]["nearest_release"]
        return "\n".join(lines + ([f"The nearest release that would run here is {nearest}."] if nearest else []))
    rows = [("component", "installed", "wanted", "action", "fetch", "why")]
    for step in plan["steps"]:
        action = step["action"] + (f" ({step['direction']})" if step["direction"] in ("up", "down") else "")
        fetch = f"{step['bytes'] / 1e6:,.0f} MB" if step["bytes"] else ""
        marks = [mark for mark in ("root", "reboot") if step[f"needs_{mark}"]]
        why = step["why"] + (f" (needs {' and '.join(marks)})" if marks else "")
        rows.append((step["component"], step["installed"] or "-", step["wanted"] or "-", action, fetch, why))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[5]]).rstrip() for row in rows]
    lines += _gpu_lines(plan)
    title = f"TensorFlow {plan['release']} ({plan['flavour']}) at {plan['environment']['path']}"
    return "\n".join([title, *lines, *(f"warning: {warning}" for warning in plan["warnings"])])
