"""A picture is of its plan, and can be read on a light and on a dark screen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from scripts import draw_plan

REPOSITORY = Path(__file__).resolve().parents[2]
PICTURES = sorted((REPOSITORY / "docs" / "pictures").glob("*.svg"))


def step(component: str, action: str = "install", **changes: Any) -> dict[str, Any]:
    fields = {"installed": None, "wanted": "1", "direction": "none", "source": "wheels", "packages": [], "why": "why"}
    return {"component": component, "action": action, **fields, **changes}


def plan(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    environment = {"path": "/opt/tensorflow/tensorflow-2.8.0"}
    fields = {"release": "2.8.0", "gpus": [], "refusals": [], "python": {"minor": "3.10"}, "environment": environment}
    return {**fields, "steps": list(steps), **changes}


def texts(drawn: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("kind", draw_plan.PICTURES)
def test_it_says_what_the_plan_says(kind: str) -> None:
    made = plan(
        step("driver", "keep", installed="580.1", why="new & <enough>"),
        step("cuda", installed="12.9", wanted="11.8", direction="down"),
        step("environment", installed="2.21.0", wanted="2.8.0", direction="down", packages=["a==1"]),
    )
    shown = texts(draw_plan.draw(kind, made))
    assert {"New & <enough>", "11.8", "2.8.0", "install (down)", "keep"} <= set(shown)


def test_a_refused_plan_and_one_without_a_release_are_no_picture() -> None:
    with pytest.raises(ValueError, match="the plan is refused: too old"):
        draw_plan.draw("layers", plan(step("environment"), refusals=[{"message": "too old"}]))
    with pytest.raises(ValueError, match="for no release"):
        draw_plan.draw("change", plan(step("driver")))


def test_a_file_without_a_plan_is_said(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"host": "a"}))
    command = [sys.executable, str(REPOSITORY / "scripts" / "draw_plan.py"), "change", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"draw_plan: {path}: it has no plan\n")


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("screen", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["text", "quiet", "keep", "new", "down"])
def test_text_stands_out_from_what_is_behind_it(name: str, screen: int) -> None:
    for behind in ("box", "background"):
        lighter, darker = sorted((luminance(draw_plan.COLOURS[one][screen]) for one in (name, behind)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, "WCAG 2.2, 1.4.3"


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_nothing_of_a_picture_is_elsewhere(path: Path) -> None:
    drawn = path.read_text()
    assert re.findall(r"url\(|@import|@font-face|<image|href|<script", drawn) == []
    assert ElementTree.fromstring(drawn).get("aria-label")


def test_there_are_pictures() -> None:
    assert {path.stem for path in PICTURES} == set(draw_plan.PICTURES)
