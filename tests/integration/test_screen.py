"""Runs as an operator sees them in a terminal of 80 or 200 columns, and without one. tests/data/screens has some whole.

After a change that is meant: UPDATE_SCREENS=1 pytest tests/integration/test_screen.py, then read the difference.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.playbooks import REPOSITORY, Site

pytestmark = pytest.mark.integration

SCREENS = REPOSITORY / "tests" / "data" / "screens"
HEALTHY = REPOSITORY / "tests" / "data" / "captures" / "healthy" / "tf2.21.xla2.txt"
# Of the machine that runs the tests.
DROPPED = ("COLUMNS", "NO_COLOR", "ANSIBLE_NOCOLOR", "ANSIBLE_FORCE_COLOR", "TERM")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one: no screen folds a path."""
    with tempfile.TemporaryDirectory(prefix="screen") as directory:
        yield Path(directory)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


class Terminal:
    """What a command leaves on the screen of tmux."""

    def __init__(self, path: Path, command: list[str], *, columns: int, **environ: str) -> None:
        needs.require("tmux")
        # Not below `path`: the name of a socket has at most 107 characters.
        place = tempfile.TemporaryDirectory(prefix="tmux-")
        self._tmux = ["tmux", "-S", os.path.join(place.name, "socket"), "-f", "/dev/null"]
        words = ["env", *(f"--unset={name}" for name in DROPPED if name != "TERM")]
        words += [f"{name}={value}" for name, value in environ.items()] + command
        ended = path / "ended"
        script = (
            f"cd {shlex.quote(str(REPOSITORY))}; {shlex.join(words)}; echo $? > {shlex.quote(str(ended))}; sleep 600"
        )
        self._call("new-session", "-d", "-x", str(columns), "-y", "250", script)
        try:
            deadline = time.monotonic() + 300
            while not (ended.exists() and ended.read_text()) and time.monotonic() < deadline:
                time.sleep(0.1)
            self.code = int(ended.read_text())
            self.lines = self._call("capture-pane", "-p").rstrip("\n").split("\n")
            # Lines that the terminal broke are whole here.
            joined = [line.rstrip() for line in self._call("capture-pane", "-p", "-J").rstrip().split("\n")]
            self.broken = [line for line in joined if len(line) > columns]
            self.is_coloured = "\x1b[" in self._call("capture-pane", "-p", "-e")
        finally:
            self._call("kill-server")
            place.cleanup()

    def _call(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], capture_output=True, text=True, check=True)
        return done.stdout

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def golden(name: str, text: str) -> None:
    path = SCREENS / f"{name}.txt"
    if os.environ.get("UPDATE_SCREENS"):
        path.write_text(text + "\n")
    assert text + "\n" == path.read_text()


@pytest.mark.parametrize("columns", [80, 200])
def test_a_plan_fits_its_terminal(site: Site, columns: int) -> None:
    seen = Terminal(site.path, site.command("plan", tensorflow_gpu="none"), columns=columns)
    assert seen.code == 0, seen.text
    assert seen.broken == []
    assert max(map(len, seen.lines)) > columns - 15, "and uses it"
    assert seen.text.count("component    installed  wanted") == 1
    assert re.search(r"^\d+ of \d+ releases run here: 2\.\d+\.\d+, ", seen.text, re.MULTILINE)
    assert seen.text.count("warning: Only root") <= 1
    assert len(seen.lines) < 60
    assert seen.is_coloured


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_without_colours(site: Site, name: str, value: str) -> None:
    seen = Terminal(site.path, site.command("plan", tensorflow_version="2.99"), columns=80, **{name: value})
    assert not seen.is_coloured and seen.broken == []


@pytest.mark.slow  # repeats in a terminal what test_names.py shows without one
@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("stdout", ["stack_screen", "default"])
def test_junit_and_other_screens_beside_our_own_lines(site: Site, columns: int, stdout: str) -> None:
    environ = {
        "ANSIBLE_STDOUT_CALLBACK": stdout,
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml" if columns == 80 else "json",
        "ANSIBLE_CALLBACKS_ENABLED": "junit",
        "JUNIT_OUTPUT_DIR": str(site.path / "junit"),
        "STACK_PROGRESS_INTERVAL": "0.5",
    }
    command = site.command("workstation", "--check", tensorflow_version="2.15.1", tensorflow_gpu="none")
    seen = Terminal(site.path, command, columns=columns, **environ)
    assert seen.code == 0, seen.text
    said = " ".join(seen.text.split())
    assert f"localhost: TensorFlow 2.15.1 (cpu) at {site.root}/tensorflow-2.15.1: " in said
    assert "localhost: not_checked: " in said and "s] Read the node and resolve" in said
    assert "[ERROR]" not in said and "Traceback" not in said and "Skipping callback" not in said
    if stdout == "stack_screen":
        assert seen.broken == []
    (written,) = (site.path / "junit").glob("*.xml")
    assert "<testcase" in written.read_text()


@pytest.mark.parametrize("columns", [80, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "playbook", "variables", "code"),
    [
        ("refused", "workstation", {"tensorflow_version": "2.99"}, 2),
        ("healthy", "doctor", {"doctor_log": str(HEALTHY)}, 0),
        ("misspelt", "plan", {"tensorflow_verison": "2.8.0"}, 2),
    ],
)
def test_whole_screens(
    site: Site, columns: int, name: str, playbook: str, variables: dict[str, Any], code: int
) -> None:
    environ = {"STACK_PROGRESS_INTERVAL": "1000"}
    seen = Terminal(site.path, site.command(playbook, "--check", **variables), columns=columns, **environ)
    assert seen.code == code, seen.text
    assert seen.broken == []
    if columns == 80:
        golden(name, seen.text)


def test_without_a_terminal_no_line_is_folded(site: Site) -> None:
    run = site.play("plan", environ={"COLUMNS": ""}, tensorflow_version="2.99")
    said = (
        "TensorFlow 2.99 is not a known release; the nearest are 2.20.0, 2.21.0. Set tensorflow_version to one of them"
    )
    assert run.code == 2
    assert f"fatal: [localhost]: FAILED! => {said}" in run.output
    assert "\x1b" not in run.output


def test_columns_is_obeyed_without_a_terminal(site: Site) -> None:
    run = site.play("plan", environ={"COLUMNS": "80"}, tensorflow_gpu="none", tensorflow_version="2.15")
    assert run.code == 0, run.output
    assert max(map(len, run.output.splitlines())) <= 80
    assert run.output.count("warning: 2.15 was requested, and 2.15.1 is its newest patch.") == 1


def test_every_kind_of_error_has_at_most_five_lines(site: Site, tmp_path: Path) -> None:
    """One that Python raised, one of a program, one of a loop, and a node that nobody reaches."""
    playbook = tmp_path / "play.yml"
    inventory = tmp_path / "hosts.yml"
    near = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    far = {"ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_connection": "ssh"}
    inventory.write_text(json.dumps({"all": {"hosts": {"far": far, "near": near}}}))
    program = "import sys; sys.exit('\\n'.join(f'line {n} of what it says' for n in range(50)))"
    tasks = [
        {"name": "Crash", "ansible.builtin.command": "true", "vars": {"ansible_python_interpreter": "/bin/false"}},
        {"name": "Run", "ansible.builtin.command": {"argv": [sys.executable, "-c", program]}},
        {"name": "Template", "ansible.builtin.debug": {"msg": "{{ nothing_of_that_name }}"}},
        {"name": "Loop", "ansible.builtin.command": "{{ item }}", "loop": ["/bin/false", "/nonexistent"]},
    ]
    plays = [
        {"hosts": host, "gather_facts": False, "tasks": [task], "ignore_unreachable": False, "any_errors_fatal": False}
        for host, task in (*(("near", task) for task in tasks), ("far", tasks[0]))
    ]
    for play in plays:
        playbook.write_text(json.dumps([play]))
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), str(playbook)]
        environ = {"STACK_SCREEN_LOG_DIRECTORY": str(tmp_path)}
        seen = Terminal(tmp_path, command, columns=80, **environ)
        (tmp_path / "ended").unlink()
        heading = next(number for number, line in enumerate(seen.lines) if line.startswith("TASK ["))
        recap = next(number for number, line in enumerate(seen.lines) if line.startswith("PLAY RECAP"))
        error = [line for line in seen.lines[heading + 1 : recap] if line]
        items = sum(line.startswith("failed: ") for line in error) or 1
        assert 1 <= len(error) <= 5 * items, seen.text
        assert seen.broken == [] and "[ERROR]" not in seen.text and "null" not in seen.text
    log = (tmp_path / "near.failed.log").read_text()
    assert "/nonexistent" in log


@pytest.mark.parametrize("values", ["LC_ALL=C", "LC_ALL=POSIX", "LANG=de_DE.UTF-8", "LC_ALL=en_US.ISO-8859-1", ""])
def test_the_front_door_in_any_locale(tmp_path: Path, values: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "LANG" and not name.startswith("LC_")}
    environ.update(dict([values.split("=")]) if values else {})
    command = [sys.executable, "scripts/run_playbook.py", "plan", f"INVENTORY={tmp_path}/none"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True)
    assert "locale" not in done.stderr, done.stderr
    assert "No inventory was parsed" in done.stderr, "Ansible came that far"


def test_json_on_stdout(site: Site) -> None:
    command = site.command("plan", tensorflow_version="2.15.1", tensorflow_gpu="none")
    environ = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True)
    if done.stdout == "" and "ansible.posix.json" in done.stderr:
        pytest.skip("needs the collection ansible.posix, which has the callback json")
    assert json.loads(done.stdout)["stats"]["localhost"]["failures"] == 0
