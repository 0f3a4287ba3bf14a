"""Runs the playbooks as an operator does and reads what they left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
ANSIBLE_PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
# Of an inventory whose hosts are this machine.
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}


@dataclass(frozen=True)
class Run:
    """`recap` is by host: ok, changed, failed, skipped ...; `report` is that of localhost, where it is asked for."""

    code: int
    output: str
    recap: dict[str, dict[str, int]]
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        return self.recap.get("localhost", {})

    @property
    def errors(self) -> dict[str, str]:
        """What ended the run of each host, in one line."""
        parts = re.split(r"^fatal: \[([^]]+)\]: ", self.output, flags=re.MULTILINE)
        return {host: " ".join(text.split()) for host, text in zip(parts[1::2], parts[2::2])}

    @property
    def changed(self) -> dict[str, int]:
        return {host: counts["changed"] for host, counts in self.recap.items()}


def run_playbook(command: list[str], *, directory: Path, environ: dict[str, str] | None = None) -> Run:
    done = subprocess.run(
        command,
        cwd=directory,
        # Lines are not folded, whatever runs the tests.
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "", **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    rows = re.findall(r"^(\S+) +: (ok=\d.*)$", done.stdout, re.MULTILINE)
    recap = {host: {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", row)} for host, row in rows}
    return Run(done.returncode, done.stdout, recap)


@dataclass(frozen=True)
class Site:
    """One machine's root of environments, with reports and locks of its own."""

    path: Path

    @property
    def root(self) -> Path:
        return self.path / "root"

    @property
    def locks(self) -> Path:
        return self.path / "locks"

    @property
    def variables(self) -> dict[str, str]:
        return {
            "tensorflow_root": str(self.root),
            "tensorflow_release_locks": str(self.locks),
            "stack_report_directory": str(self.path),
        }

    def command(self, playbook: str, *options: str, **variables: Any) -> list[str]:
        extra = {**self.variables, **variables}
        command = [str(ANSIBLE_PLAYBOOK), "-i", "inventories/workstation", f"playbooks/{playbook}.yml"]
        return [*command, "-e", json.dumps(extra), *options]

    def play(self, playbook: str, *options: str, environ: dict[str, str] | None = None, **variables: Any) -> Run:
        report = self.path / "localhost.json"
        report.unlink(missing_ok=True)
        run = run_playbook(self.command(playbook, *options, **variables), directory=REPOSITORY, environ=environ)
        return replace(run, report=json.loads(report.read_text())) if report.exists() else run

    def python(self, environment: str, program: str) -> subprocess.CompletedProcess[str]:
        """Run a program in an environment, as a user does from a shell."""
        interpreter = self.root / environment / "bin" / "python"
        return subprocess.run([interpreter, "-c", program], capture_output=True, text=True)

    def imports(self, environment: str) -> str:
        done = self.python(environment, "import tensorflow as tf; print(tf.__version__)")
        return done.stdout.strip() or done.stderr


def kill_everything_about(text: str) -> list[int]:
    """SIGKILL to every process whose command or environment has the text, such as those of a run."""
    killed = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            about = text.encode() in (directory / "cmdline").read_bytes() + (directory / "environ").read_bytes()
        except OSError:
            continue
        if about and int(directory.name) != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(directory.name), signal.SIGKILL)
            killed.append(int(directory.name))
    return killed
