#!/usr/bin/env python3
"""Build releases from their shipped locks for real, use what was built, and record the result in proofs.yml.

    scripts/prove.py 2.8.0                on the newest Python that the release has a lock for
    scripts/prove.py 2.8.0 --python 3.9
    scripts/prove.py all                  every release
    scripts/prove.py stale                those without a proof of today's lock
    scripts/prove.py turn                 one, another each day; nothing is recorded

Each is built by playbooks/workstation.yml in a directory of its own (2 GB, gone afterwards; TMPDIR says where), then
imports, multiplies, trains a step, saves and loads a model and starts TensorBoard (scripts/proof_stages.py). One
line a release; ends with 1 if any fails.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "module_utils"))

from tensorflow_stack.errors import StackError  # noqa: E402  # found by the line above
from tensorflow_stack.node.record import read_node  # noqa: E402
from tensorflow_stack.records.lockfile import lock_path, read_lock  # noqa: E402
from tensorflow_stack.tables.load import Tables, load_tables  # noqa: E402
from tensorflow_stack.tables.rows import Proof  # noqa: E402

FILES = REPOSITORY / "roles/tensorflow_release/files"
PROOFS = FILES / "tables/proofs.yml"
STAGES = ("import", "multiply", "train", "save_and_load", "tensorboard")
# Only what an ordinary shell has: no CUDA of this machine, no settings of its user.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}


class Target(NamedTuple):
    release: str
    python: str
    lock_sha256: str


class ProofError(Exception):
    """What was being proven does not hold."""


def targets(release: str, pythons: Iterable[str]) -> list[Target]:
    """What there is a lock for, newest Python first."""
    found = []
    for python in sorted(pythons, key=Version, reverse=True):
        path = lock_path(str(FILES / "locks"), release=release, python=python, platform="linux_x86_64", flavour="cpu")
        lock = read_lock(path)
        if lock is not None:
            found.append(Target(release, python, lock.sha256))
    if not found:
        raise StackError(f"There is no lock of TensorFlow {release} for Python {' or '.join(pythons)}. Run make lock.")
    return found


def choose(tables: Tables, wish: str, python: str | None, number: int) -> list[Target]:
    """One target a release: on `python`, or on the newest that it has a lock for."""
    releases = {row.version: row for row in tables.releases}
    if wish not in releases and wish not in ("all", "stale", "turn"):
        raise StackError(f"TensorFlow {wish} is not in releases.yml. Name one that is, or all, stale or turn.")
    named = releases.values() if wish in ("all", "stale", "turn") else [releases[wish]]
    # In turn is what needs no Python fetched: the machine of the nightly run has what it has.
    here = {row["minor"] for row in read_node()["pythons"]} if wish == "turn" else None
    found = []
    for row in named:
        minors = [python] if python else row.pythons["x86_64"]
        minors = [minor for minor in minors if here is None or minor in here]
        if minors:
            found.append(targets(row.version, minors)[0])
    proven = {(proof.release, proof.python): proof for proof in tables.proofs}
    if wish == "stale":
        sha256 = {key: proof.lock_sha256 for key, proof in proven.items()}
        found = [target for target in found if sha256.get(target[:2]) != target.lock_sha256]
    if wish == "turn":
        # A different one each day, and all of them in turn.
        start = datetime.datetime.now(datetime.timezone.utc).date().toordinal() * number % len(found)
        found = [*found, *found][start : start + number]
    return found


def prove(target: Target) -> None:
    """ProofError with the last words of what failed."""
    with tempfile.TemporaryDirectory(prefix="tensorflow-proof-") as directory:
        variables = {
            "tensorflow_version": target.release,
            "tensorflow_python": target.python,
            "tensorflow_gpu": "none",
            "tensorflow_root": directory,
            "stack_report_directory": directory,
        }
        command = [os.path.join(os.path.dirname(sys.executable), "ansible-playbook"), "-i", "inventories/workstation"]
        command += ["playbooks/workstation.yml", "-e", json.dumps(variables)]
        _run(command, {**os.environ, "ANSIBLE_NOCOLOR": "1"})
        interpreter = os.path.join(directory, f"tensorflow-{target.release}", "bin", "python")
        stages = [interpreter, "-I", str(REPOSITORY / "scripts/proof_stages.py")]
        said = _run(stages, {**ENVIRONMENT, "HOME": directory, "TMPDIR": directory})
        passed = tuple(re.findall(r"^ok (\w+)$", said, re.MULTILINE))
        if passed != STAGES:
            raise ProofError(f"passed {', '.join(passed)} of {', '.join(STAGES)}")


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise ProofError(done.stdout[-3000:])
    return done.stdout


def record(target: Target, proofs: Iterable[Proof], date: str) -> None:
    """Put a proof in the place of the one before it."""
    rows = {(proof.release, proof.python): (proof.lock_sha256, proof.date) for proof in proofs}
    rows[target[:2]] = (target.lock_sha256, date)
    lines = [
        f'  - {{release: "{release}", python: "{python}", lock_sha256: {sha256}, date: "{day}", source: [prove]}}\n'
        for (release, python), (sha256, day) in sorted(rows.items(), key=lambda row: tuple(map(Version, row[0])))
    ]
    head = PROOFS.read_text(encoding="utf-8").partition("rows:")[0]
    PROOFS.write_text(f"{head}rows:\n{''.join(lines)}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", help="a release, all, stale or turn")
    parser.add_argument("--python", help="minor version, such as 3.9")
    parser.add_argument("--number", type=int, default=1, help="how many with turn")
    arguments = parser.parse_args()
    tables = load_tables(str(FILES / "tables"))
    failed = 0
    try:
        chosen = choose(tables, arguments.release, arguments.python, arguments.number)
    except StackError as error:
        parser.error(error.message)
    for target in chosen:
        start = time.monotonic()
        try:
            prove(target)
        except ProofError as error:
            failed += 1
            print(f"{target.release} on Python {target.python}: FAILED\n{error}", flush=True)
            continue
        print(f"{target.release} on Python {target.python}: proven in {time.monotonic() - start:.0f} s", flush=True)
        if arguments.release != "turn":
            today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
            record(target, load_tables(str(FILES / "tables")).proofs, today)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
