#!/usr/bin/env python3
"""Draw a plan as SVG: the layers of one release, or what changes from one release to another.

    python3 scripts/draw_plan.py layers reports/localhost.json > layers.svg
    python3 scripts/draw_plan.py change reports/localhost.json > change.svg

Takes a report, or any JSON with a plan. The pictures of the documentation are those of two plans of
tests/data/plans/cases.yml.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

WIDTH = 760
LINE = 18
# Of a letter of 13 pixels, with room to spare: the font is the viewer's own.
LETTER = 7.2
TITLES = {
    "gpu": "GPU",
    "driver": "NVIDIA driver",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "python": "Python",
    "environment": "TensorFlow",
}
# Names of colours, each for a light and a dark screen. Everything is drawn on the background, so no page shows through.
COLOURS = {
    "background": ("#ffffff", "#0d1117"),
    "text": ("#1f2328", "#e6edf3"),
    "quiet": ("#57606a", "#9da7b3"),
    "box": ("#f6f8fa", "#161b22"),
    "edge": ("#8c959f", "#6e7681"),
    "keep": ("#0a5c2b", "#7ee29b"),
    "new": ("#0550ae", "#8cc4ff"),
    "down": ("#8a4600", "#ffb86b"),
}


def style() -> str:
    """Both sets of colours, and which classes take them."""
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in COLOURS.items()) for i in (0, 1))
    fills = "".join(f".{name}{{fill:var(--{name})}}" for name in COLOURS if name not in ("box", "edge", "background"))
    return (
        f"svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
        "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}.title{font-weight:600}"
        f"{fills}.paper{{fill:var(--background)}}.box{{fill:var(--box);stroke:var(--edge)}}"
        ".frame{fill:none;stroke:var(--edge);stroke-dasharray:5 4}.arrow{stroke:var(--edge);fill:none}"
    )


def text(x: float, y: float, words: str, kind: str = "text", anchor: str = "start") -> str:
    end = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}" class="{kind}"{end}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str = "box") -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="{kind}"/>'


def picture(height: float, title: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
        f'height="{height:g}" role="img" aria-label="{escape(title)}">'
    )
    paper = f'<rect width="{WIDTH}" height="{height:g}" class="paper"/>'
    return "\n".join([head, f"<title>{escape(title)}</title><style>{style()}</style>", paper, *parts, "</svg>"]) + "\n"


def steps_of(plan: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The steps that have a picture, by component."""
    return {step["component"]: step for step in plan["steps"] if step["component"] in TITLES}


def action_of(step: Mapping[str, Any]) -> tuple[str, str]:
    """What is done, and the colour of that."""
    if step["action"] in ("keep", "skip"):
        return step["action"], "keep" if step["action"] == "keep" else "quiet"
    is_down = step["direction"] == "down"
    return step["action"] + (" (down)" if is_down else ""), "down" if is_down else "new"


def folded(words: str, width: float) -> list[str]:
    return textwrap.wrap(words, int(width / LETTER)) or [""]


def version_of(plan: Mapping[str, Any], step: Mapping[str, Any]) -> str:
    return str(step["wanted"] or (plan["python"]["minor"] if step["component"] == "python" else "none"))


def layers(plan: Mapping[str, Any]) -> str:
    """What computes on what, from the GPU upwards, and what of it belongs to the environment."""
    steps = steps_of(plan)
    inside = [name for name in ("cuda", "cudnn") if name in steps and steps[name]["source"] == "wheels"]
    below = ["python", *(name for name in ("cudnn", "cuda") if name in steps and name not in inside), "driver"]
    parts, y = [], 56.0
    title = f"TensorFlow {plan['release']} and what it computes on: a plan"
    parts.append(text(20, 30, title, "title text"))
    top = y
    y += 26
    for name in ["environment", *reversed(inside)]:
        part, y = layer(plan, name, steps[name], 40, y, WIDTH - 80)
        parts.append(part)
    parts.append(box(20, top, WIDTH - 40, y - top + 4, "frame"))
    parts.append(text(34, top + 18, f"the environment, {plan['environment']['path']}", "quiet"))
    y += 16
    for name in below:
        if name in steps:
            part, y = layer(plan, name, steps[name], 40, y, WIDTH - 80)
            parts.append(part)
    parts.append(box(40, y, WIDTH - 80, 34))
    parts.append(text(54, y + 22, TITLES["gpu"], "title text"))
    parts.append(text(190, y + 22, gpus_of(plan)))
    return picture(y + 54, title, parts)


def layer(
    plan: Mapping[str, Any], name: str, step: Mapping[str, Any], x: float, y: float, width: float
) -> tuple[str, float]:
    """One of them, and where the next one begins."""
    action, colour = action_of(step)
    packages = f"{len(step['packages'])} packages, each with its hash in the lock"
    lines = folded(packages if name == "environment" else sentence(step["why"]), width - 340)
    height = 16 + LINE * len(lines)
    parts = [
        box(x, y, width, height),
        text(x + 14, y + 22, TITLES[name], "title text"),
        text(x + 150, y + 22, version_of(plan, step), "title text"),
        *(text(x + 240, y + 22 + LINE * number, line, "quiet") for number, line in enumerate(lines)),
        text(x + width - 14, y + 22, action, f"title {colour}", "end"),
    ]
    return "\n".join(parts), y + height + 8


def sentence(why: str) -> str:
    return why[:1].upper() + why[1:] if why[:1].isalpha() else why


def gpus_of(plan: Mapping[str, Any]) -> str:
    if not plan["gpus"]:
        return "none"
    return ", ".join(f"{gpu['name']} (compute capability {gpu['compute_capability']})" for gpu in plan["gpus"])


def change(plan: Mapping[str, Any]) -> str:
    """What the machine has, what is done, and what the release has then."""
    steps = steps_of(plan)
    before = steps["environment"]["installed"]
    title = f"From TensorFlow {before} to {plan['release']}" if before else f"TensorFlow {plan['release']}"
    title += f": a plan for the GPU {gpus_of(plan)}" if plan["gpus"] else ": a plan for a machine without a GPU"
    parts = [
        text(20, 30, title, "title text"),
        text(160, 58, "before", "quiet"),
        text(330, 58, "after", "quiet"),
    ]
    y = 70.0
    for name in ("environment", "python", "cudnn", "cuda", "driver"):
        if name not in steps:
            continue
        step = steps[name]
        action, colour = action_of(step)
        lines = folded(sentence(step["why"]), WIDTH - 440)
        height = max(44.0, 32 + LINE * len(lines))
        after = step["installed"] if step["action"] == "keep" and step["installed"] else version_of(plan, step)
        parts += [
            box(20, y, WIDTH - 40, height),
            text(34, y + 22, TITLES[name], "title text"),
            text(160, y + 22, step["installed"] or "none", "title text"),
            f'<path d="M268 {y + 18:g}h40m-6 -5l6 5l-6 5" class="arrow"/>',
            text(330, y + 22, after, f"title {colour}"),
            text(440, y + 22, action, f"title {colour}"),
            *(text(440, y + 22 + LINE * number, line, "quiet") for number, line in enumerate(lines, 1)),
        ]
        y += height + 8
    return picture(y + 8, title, parts)


PICTURES = {"layers": layers, "change": change}


def draw(kind: str, plan: Mapping[str, Any]) -> str:
    """Raises ValueError with a reason if there is nothing to draw."""
    if plan["refusals"]:
        raise ValueError(f"the plan is refused: {plan['refusals'][0]['message']}")
    if "environment" not in steps_of(plan):
        raise ValueError("the plan is for no release: name one (make plan TENSORFLOW=)")
    return PICTURES[kind](plan)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=sorted(PICTURES))
    parser.add_argument("report", type=Path, help="a report, or any JSON with a plan")
    arguments = parser.parse_args()
    try:
        content = json.loads(arguments.report.read_text(encoding="utf-8"))
        plan = content.get("plan", content) if isinstance(content, dict) else None
        if not isinstance(plan, dict) or "steps" not in plan:
            raise ValueError("it has no plan")
        sys.stdout.write(draw(arguments.kind, plan))
    except (OSError, ValueError) as error:
        print(f"draw_plan: {arguments.report}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
