"""The findings of docs/findings.md, by the commands that it names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.needs import require

pytestmark = [pytest.mark.integration, pytest.mark.slow]  # each installs TensorFlow or reads parts of its wheels

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "findings.md").read_text(encoding="utf-8")


def shown(name: str) -> list[str]:
    """The lines that the page shows of a finding; a line that ends with dots is cut."""
    body = re.search(rf"make finding NAME={name}\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert body is not None
    return [line.removesuffix("...") for line in body[1].splitlines() if line]


@pytest.mark.parametrize("name", ["pins", "double", "ptx"])
def test_it_is_as_the_page_shows(name: str) -> None:
    if name == "double":
        require("gcc", "libc6-dev")
    done = subprocess.run(["make", "finding", f"NAME={name}"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in shown(name) if line not in done.stdout] == []


def test_a_start_without_a_gpu_is_refused() -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has a GPU")
    done = subprocess.run(["make", "finding", "NAME=start"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode != 0
    assert "start needs an NVIDIA GPU with its driver, and this machine has none." in done.stderr
