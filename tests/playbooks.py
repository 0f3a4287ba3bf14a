"""Runs the playbooks as an operator does and reads what they left."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
ANSIBLE_PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"


@dataclass(frozen=True)
class Run:
    """`counts` is the recap of localhost: ok, changed, failed, skipped ..."""

    code: int
    output: str
    counts: dict[str, int]
    report: dict[str, Any]


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

    def command(self, playbook: str, *options: str, **variables: Any) -> list[str]:
        extra = {
            "tensorflow_root": str(self.root),
            "tensorflow_release_locks": str(self.locks),
            "stack_report_directory": str(self.path),
            **variables,
        }
        command = [str(ANSIBLE_PLAYBOOK), "-i", "inventories/workstation", f"playbooks/{playbook}.yml"]
        return [*command, "-e", json.dumps(extra), *options]

    def play(self, playbook: str, *options: str, environ: dict[str, str] | None = None, **variables: Any) -> Run:
        report = self.path / "localhost.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            self.command(playbook, *options, **variables),
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        recap = re.search(r"^localhost +: (.*)$", done.stdout, re.MULTILINE)
        counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", recap.group(1))} if recap else {}
        written = json.loads(report.read_text()) if report.exists() else {}
        return Run(done.returncode, done.stdout, counts, written)

    def python(self, environment: str, program: str) -> subprocess.CompletedProcess[str]:
        """Run a program in an environment, as a user does from a shell."""
        interpreter = self.root / environment / "bin" / "python"
        return subprocess.run([interpreter, "-c", program], capture_output=True, text=True)

    def imports(self, environment: str) -> str:
        done = self.python(environment, "import tensorflow as tf; print(tf.__version__)")
        return done.stdout.strip() or done.stderr
