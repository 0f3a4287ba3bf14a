"""The image for AWX and ansible-navigator: ansible-builder takes its definition, and it has what .venv has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DEFINITION = REPOSITORY / "execution_environment" / "execution-environment.yml"
BUILDER = Path(sys.executable).parent / "ansible-builder"


def pins(lock: str) -> set[str]:
    """Each distribution with its version and marker."""
    text = (REPOSITORY / "requirements" / lock).read_text(encoding="utf-8")
    return {line.rstrip(" \\") for line in re.findall(r"^[a-z].*$", text, re.MULTILINE)}


def names(lock: str) -> set[str]:
    return {pin.partition("==")[0] for pin in pins(lock)}


def versions(lock: str) -> set[str]:
    return {pin.partition(" ")[0] for pin in pins(lock)}


@pytest.mark.skipif(not BUILDER.exists(), reason="the oldest ansible-core is tested without ansible-builder")
def test_ansible_builder_takes_the_definition(tmp_path: Path) -> None:
    """It checks the definition against its own schema."""
    command = [str(BUILDER), "create", f"--file={DEFINITION}", f"--context={tmp_path}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = (tmp_path / "Containerfile").read_text()
    assert 'ARG EE_BASE_IMAGE="docker.io/library/debian:13"' in made
    assert "--require-hashes --no-deps --only-binary :all:" in made
    # Nothing of Python gets into the image but by the lock.
    final = made.partition("FROM base AS final")[2]
    assert final and "pip install" not in final
    lock = (tmp_path / "_build" / "requirements" / "execution_environment.txt").read_bytes()
    assert lock == (REPOSITORY / "requirements" / "execution_environment.txt").read_bytes()
    assert "openssh-client" in (tmp_path / "_build" / "bindep.txt").read_text()


def test_the_image_has_the_tools_of_the_controller_at_their_versions() -> None:
    assert versions("controller.txt") <= versions("execution_environment.txt")
    assert "ansible-runner" in names("execution_environment.txt") - names("controller.txt")
    assert versions("execution_environment.txt") <= versions("test.txt")
