#!/usr/bin/env python3
"""Install companions next to TensorFlow, use them, and record the versions in companion_proofs.yml.

    scripts/prove_companions.py                       the newest patch of each minor, with each companion
    scripts/prove_companions.py 2.15.1 2.8.4
    scripts/prove_companions.py 2.15.1 --project tensorflow-text

Each is locked as a requirements file of these two lines would be, on the newest Python of this machine on which a
version of it fits, built, and used by a few lines of Python in a process of its own (3 GB for a release, gone
afterwards; TMPDIR says where). One line for each; ends with 1 if one is installed and does not work: then
companions.yml lacks a bound. A companion that does not fit a release has no row. A run that was stopped goes on where
it was.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "module_utils"))

from index_today import TODAY, IndexToday  # noqa: E402  # beside this
from prove import ENVIRONMENT  # noqa: E402
from tensorflow_stack.environment import venv  # noqa: E402  # found by the line above
from tensorflow_stack.environment.installing import Installer  # noqa: E402
from tensorflow_stack.errors import StackError  # noqa: E402
from tensorflow_stack.locking.inputs import UnsatisfiableError  # noqa: E402
from tensorflow_stack.locking.resolver import resolve_lock  # noqa: E402
from tensorflow_stack.node.record import read_node  # noqa: E402
from tensorflow_stack.records.environment import EnvironmentSpec  # noqa: E402
from tensorflow_stack.records.lockfile import Lock  # noqa: E402
from tensorflow_stack.tables.load import Tables, load_tables  # noqa: E402
from tensorflow_stack.tables.rows import CompanionProof, Release  # noqa: E402

TABLES = REPOSITORY / "roles/tensorflow_release/files/tables"
PROOFS = TABLES / "companion_proofs.yml"
# Each has a function in companion_uses.py.
PROJECTS = (
    "keras-cv",
    "keras-hub",
    "tensorflow-addons",
    "tensorflow-datasets",
    "tensorflow-hub",
    "tensorflow-io",
    "tensorflow-probability",
    "tensorflow-text",
    "tf-keras",
    "tf2onnx",
)
# tensorflow-datasets requires it, and it has no wheel.
SOURCE_BUILDS = ("promise",)


class Prover:
    """Uses companions in one environment, which has one release and Python after the other."""

    def __init__(self, tables: Tables, directory: str) -> None:
        self._directory = directory
        self._index = IndexToday(tables, directory)
        self._pythons = {row["minor"]: row["path"] for row in reversed(read_node()["pythons"])}

    def pythons(self, release: Release) -> list[str]:
        return sorted((m for m in release.pythons["x86_64"] if m in self._pythons), key=Version, reverse=True)

    def lock(self, release: str, python: str, project: str) -> Lock | None:
        """The lock of both, None if no version of the companion fits."""
        inputs = self._index.inputs(release, python, "cpu", f"{project}\n", source_builds=SOURCE_BUILDS)
        try:
            return resolve_lock(inputs, uv=lambda: self._index.uv, **self._index.options)
        except UnsatisfiableError:
            return None

    def use(self, lock: Lock, project: str) -> str | None:
        """Build the environment of the lock. The last line of what went wrong, None if the companion works."""
        spec = EnvironmentSpec("companion", self._directory, lock.release, "cpu", self._pythons[lock.python], lock)
        installer = Installer(uv=self._index.uv, cache=os.path.join(self._directory, ".cache", "uv"))
        venv.apply_present(spec, installer=lambda: installer, keep=1, lock_timeout=0)
        done = subprocess.run(
            [os.path.join(spec.path, "bin", "python"), "-I", str(REPOSITORY / "scripts/companion_uses.py"), project],
            env={**ENVIRONMENT, "HOME": self._directory},
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        return fault_of(done.stderr, done.returncode) if done.returncode else None


def fault_of(errors: str, code: int) -> str:
    """The last exception, else the end of the process by a signal, such as one of a wrong operation's."""
    lines = [line for line in errors.splitlines() if re.match(r"[\w.]+(Error|Exception): ", line)]
    return lines[-1] if lines else f"ended with {code}"


def record(release: str, project: str, proof: CompanionProof | None) -> None:
    """Put a proof, or that there is none, in the place of what the table has of both."""
    # Read now: another run may have added to it.
    found = load_tables(str(TABLES)).companion_proofs
    proofs = [row for row in found if (row.release, row.project) != (release, project)]
    rows = {(row.release, row.python, row.project): row for row in (*proofs, *([proof] if proof else []))}
    lines = [
        f'  - {{release: "{row.release}", python: "{row.python}", project: {row.project}, version: "{row.version}", '
        f'lock_sha256: {row.lock_sha256}, date: "{row.date}", source: [prove]}}\n'
        for _, row in sorted(rows.items(), key=lambda item: (Version(item[0][0]), Version(item[0][1]), item[0][2]))
    ]
    head = PROOFS.read_text(encoding="utf-8").partition("rows:")[0]
    PROOFS.write_text(f"{head}rows:\n{''.join(lines)}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="*")
    parser.add_argument("--project", choices=PROJECTS, action="append")
    arguments = parser.parse_args()
    tables = load_tables(str(TABLES))
    newest = {Version(row.version).release[:2]: row for row in tables.releases}
    chosen = [row for row in tables.releases if row.version in arguments.releases] or list(newest.values())
    failed = 0
    for release in chosen:
        with tempfile.TemporaryDirectory(prefix="tensorflow-companions-") as directory:
            prover = Prover(tables, directory)
            for project in arguments.project or PROJECTS:
                failed += not prove(prover, release, project)
    return 1 if failed else 0


def prove(prover: Prover, row: Release, project: str) -> bool:
    """Record whether it works on the newest Python that any version fits on; prints one line."""
    release = row.version
    locks = ((python, prover.lock(release, python, project)) for python in prover.pythons(row))
    python, lock = next(((python, lock) for python, lock in locks if lock is not None), ("", None))
    if lock is None:
        record(release, project, None)
        print(f"{project} with {release}: none fits", flush=True)
        return True
    what = f"{project} with {release} on Python {python}"
    version = lock.packages[project]
    proofs = load_tables(str(TABLES)).companion_proofs
    digests = {(row.release, row.python, row.project): row.lock_sha256 for row in proofs}
    if digests.get((release, python, project)) == lock.sha256:
        return True
    try:
        fault = prover.use(lock, project)
    except StackError as error:
        fault = error.message
    if fault is not None:
        record(release, project, None)
        print(f"{what}: {version} FAILED: {fault}", flush=True)
        return False
    record(release, project, CompanionProof(release, python, project, version, lock.sha256, TODAY, ("prove",)))
    print(f"{what}: {version} works", flush=True)
    return True


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
