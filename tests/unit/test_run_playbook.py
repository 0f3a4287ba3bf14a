from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import run_playbook

REPOSITORY = Path(__file__).resolve().parents[2]
PLAIN = [".venv/bin/ansible-playbook", "-i", "inventories/workstation", "playbooks/plan.yml"]


@pytest.mark.parametrize("environ", [{}, {"TENSORFLOW": "", "ROOT": "", "CHECK": ""}])
def test_nothing_is_passed_that_is_not_set(environ: dict[str, str]) -> None:
    assert run_playbook.command_line("plan", environ) == PLAIN


def test_values_travel_as_json() -> None:
    environ = {"TENSORFLOW": "2.10", "ENVIRONMENT": """a 'b' "c" $d"""}
    command = run_playbook.command_line("plan", environ)
    assert command[:-1] == [*PLAIN, "-e"]
    assert json.loads(command[-1]) == {
        "tensorflow_version": "2.10",
        "tensorflow_environment": environ["ENVIRONMENT"],
    }


def test_paths_are_seen_from_where_make_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    command = run_playbook.command_line("plan", {"REQUIREMENTS": "my pins.txt", "ROOT": "~/tf"})
    assert json.loads(command[-1]) == {
        "tensorflow_requirements": str(tmp_path / "my pins.txt"),
        "tensorflow_root": "/home/me/tf",
    }


def test_check_and_inventory() -> None:
    command = run_playbook.command_line("plan", {"CHECK": "1", "INVENTORY": "inventories/fleet"})
    assert command == [PLAIN[0], "-i", "inventories/fleet", PLAIN[3], "--check", "--diff"]


@pytest.mark.parametrize("value", ["", "0", "no", "No", "off", "false", "FALSE"])
def test_check_can_be_switched_off(value: str) -> None:
    assert run_playbook.command_line("plan", {"CHECK": value}) == PLAIN


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of make's part of the checkout, whose ansible-playbook says what it was given."""
    for name in ("Makefile", "scripts/run_playbook.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    (tmp_path / "scripts" / "bootstrap.py").write_text("")
    playbook = tmp_path / ".venv" / "bin" / "ansible-playbook"
    playbook.parent.mkdir(parents=True)
    playbook.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    playbook.chmod(0o755)
    return tmp_path


def make(checkout: Path, *words: str, **exported: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *words], cwd=checkout, env={**environ, **exported}, capture_output=True, text=True, check=True
    )


def test_make_passes_its_variables(checkout: Path) -> None:
    pins = checkout / 'it\'s "my" pins.txt'
    ended = make(checkout, "workstation", "TENSORFLOW=2.8.0", f"REQUIREMENTS={pins}")
    words = ended.stdout.splitlines()
    assert words[:4] == ["-i", "inventories/workstation", "playbooks/workstation.yml", "-e"]
    assert json.loads(words[4]) == {"tensorflow_version": "2.8.0", "tensorflow_requirements": str(pins)}
    assert ended.stderr.startswith("+ .venv/bin/ansible-playbook -i inventories/workstation playbooks/work")


def test_what_the_shell_exports_names_nothing(checkout: Path) -> None:
    exported = {"ENVIRONMENT": "production", "ROOT": "/srv/root", "CHECK": "1", "TENSORFLOW": "2.4.0"}
    ended = make(checkout, "remove", "TENSORFLOW=2.8.0", **exported)
    assert json.loads(ended.stdout.splitlines()[-1]) == {"tensorflow_version": "2.8.0"}
    assert make(checkout, "-e", "remove", **exported).stdout.splitlines() == PLAIN[1:3] + ["playbooks/remove.yml"]
