#!/usr/bin/env python3
"""Build releases from their shipped locks for real, use what was built, and record the result in proofs.yml.

    scripts/prove.py 2.8.0                on the newest Python that the release has a lock for
    scripts/prove.py 2.8.0 --python 3.9
    scripts/prove.py all                  what of the following has no proof of today's lock: every release; the newest
                                          patch of each minor on each Python; each CUDA with every library opened
    scripts/prove.py stale                those without a proof of today's lock
    scripts/prove.py turn                 one, another each day; nothing is recorded

Each is built by playbooks/workstation.yml in a directory of its own (2 GB, with CUDA 8 GB, gone afterwards; TMPDIR says
where), then imports, multiplies, trains a step, saves and loads a model and starts TensorBoard
(scripts/proof_stages.py); with CUDA it opens every library over a double of the driver (scripts/prove_cuda.py). One
line a release; ends with 1 if any fails. A run that was stopped goes on where it was.
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

from prove_cuda import open_libraries  # noqa: E402  # beside this
from tensorflow_stack.errors import StackError  # noqa: E402  # found by the line above
from tensorflow_stack.io.uv import ensure_uv  # noqa: E402
from tensorflow_stack.node.record import read_node  # noqa: E402
from tensorflow_stack.records.lockfile import Lock, lock_path, read_lock  # noqa: E402
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
    flavour: str
    lock_sha256: str


class ProofError(Exception):
    """What was being proven does not hold."""


def shipped_lock(release: str, python: str, flavour: str) -> Lock | None:
    directory = str(FILES / "locks")
    return read_lock(lock_path(directory, release=release, python=python, platform="linux_x86_64", flavour=flavour))


def targets(release: str, pythons: Iterable[str], flavour: str = "cpu") -> list[Target]:
    """What there is a lock for, newest Python first."""
    found = []
    for python in sorted(pythons, key=Version, reverse=True):
        lock = shipped_lock(release, python, flavour)
        if lock is not None:
            found.append(Target(release, python, flavour, lock.sha256))
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
    if wish == "all":
        found = list(dict.fromkeys([*found, *newest_patches(tables), *newest_of_each_cuda(tables)]))
    if wish in ("all", "stale"):
        sha256 = {(proof.release, proof.python, proof.flavour): proof.lock_sha256 for proof in tables.proofs}
        found = [target for target in found if sha256.get(target[:3]) != target.lock_sha256]
    if wish == "turn":
        # A different one each day, and all of them in turn.
        start = datetime.datetime.now(datetime.timezone.utc).date().toordinal() * number % len(found)
        found = [*found, *found][start : start + number]
    return found


def newest_patches(tables: Tables) -> list[Target]:
    """The newest patch of each minor, on each Python."""
    newest = {Version(row.version).release[:2]: row for row in tables.releases}
    return [target for row in newest.values() for target in targets(row.version, row.pythons["x86_64"])]


def newest_of_each_cuda(tables: Tables) -> list[Target]:
    """The newest release of each CUDA and cuDNN as wheels, on its newest Python."""
    newest = {}
    for row in tables.releases:
        wheels = tables.cuda_wheels_for(row.version)
        if wheels:
            newest[wheels.cuda, wheels.cudnn] = row
    return [targets(row.version, row.pythons["x86_64"], "cuda")[0] for row in newest.values()]


def prove(target: Target, tables: Tables) -> tuple[str, ...]:
    """The libraries of CUDA that were opened. ProofError with the last words of what failed."""
    if target.flavour == "cuda":
        return prove_cuda(target, tables)
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
    return ()


def prove_cuda(target: Target, tables: Tables) -> tuple[str, ...]:
    lock, uv = shipped_lock(*target[:3]), tables.uv("x86_64")
    assert lock is not None and uv is not None
    with tempfile.TemporaryDirectory(prefix="tensorflow-proof-") as directory:
        try:
            tool = ensure_uv(directory=str(REPOSITORY / ".tools"), record=uv._asdict(), index_url=None)
            return tuple(open_libraries(tables, lock, tool, directory))
        except StackError as error:
            raise ProofError(error.message) from error


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


def record(target: Target, libraries: tuple[str, ...], proofs: Iterable[Proof], date: str) -> None:
    """Put a proof in the place of the one before it."""
    rows = {
        (proof.release, proof.python, proof.flavour): (proof.lock_sha256, proof.date, proof.libraries)
        for proof in proofs
    }
    rows[target[:3]] = (target.lock_sha256, date, libraries)
    lines = [
        f'  - {{release: "{release}", python: "{python}", flavour: {flavour}, lock_sha256: {sha256}, date: "{day}", '
        f"libraries: [{', '.join(opened)}], source: [prove]}}\n"
        for (release, python, flavour), (sha256, day, opened) in sorted(
            rows.items(), key=lambda row: (Version(row[0][0]), Version(row[0][1]), row[0][2])
        )
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
        what = f"{target.release} on Python {target.python}" + (", CUDA" if target.flavour == "cuda" else "")
        try:
            libraries = prove(target, tables)
        except ProofError as error:
            failed += 1
            print(f"{what}: FAILED\n{error}", flush=True)
            continue
        print(f"{what}: proven in {time.monotonic() - start:.0f} s", flush=True)
        if arguments.release != "turn":
            today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
            record(target, libraries, load_tables(str(FILES / "tables")).proofs, today)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
