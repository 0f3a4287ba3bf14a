"""The tables of releases in the documentation, from the tables of the role: for scripts/make_docs.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "module_utils"))

from markdown_tables import table  # noqa: E402  # beside this
from tensorflow_stack.records.lockfile import Lock, lock_path, read_lock  # noqa: E402  # found by the line above
from tensorflow_stack.tables.load import Tables, load_tables  # noqa: E402
from tensorflow_stack.tables.rows import Release  # noqa: E402

RELEASE_FILES = REPOSITORY / "roles" / "tensorflow_release" / "files"


def releases() -> str:
    """The short table: the newest patch of each minor."""
    tables = load_tables(str(RELEASE_FILES / "tables"))
    newest = {Version(row.version).release[:2]: row for row in tables.releases}
    rows = [
        (
            row.version,
            _span(row.pythons.get("x86_64", ())),
            f"{row.cuda}, {row.cudnn}",
            " ".join(row.gpu_code) if row.gpu_code else "not known",
            "CPU" if row.pythons.get("aarch64") else "none",
            _seen_on(tables, row),
        )
        for row in reversed(newest.values())
    ]
    return table(("newest", "Python", "CUDA, cuDNN of its build", "GPU code", "aarch64", "computed on"), rows)


def every_release() -> str:
    """The table of all releases, with what there is of each and what of it was proven."""
    tables = load_tables(str(RELEASE_FILES / "tables"))
    dates = {proof.release: proof.date for proof in tables.proofs}
    rows = []
    for row in reversed(tables.releases):
        wheels = tables.cuda_wheels_for(row.version)
        cuda = tables.cuda_driver(wheels.cuda if wheels else row.cuda)
        proven = _proven(tables, row)
        rows.append(
            (
                row.version,
                f"{row.cuda}, {row.cudnn}",
                f"{wheels.cuda}, {wheels.cudnn}" if wheels else "none",
                cuda.minor_compatibility_driver or cuda.driver,
                *(
                    ", ".join(_locked(row, f"linux_{architecture}", flavour)) or "none"
                    for architecture, flavour in (("x86_64", "cpu"), ("x86_64", "cuda"), ("aarch64", "cpu"))
                ),
                f"{', '.join(proven)} ({dates[row.version]})" if proven else "no",
            )
        )
    locks = ("locks, CPU", "locks, CUDA wheels", "locks, aarch64")
    return table(("release", "CUDA, cuDNN of its build", "as wheels", "driver from", *locks, "proven on Python"), rows)


def gpu_proofs() -> str:
    """The table of what computed on real GPUs."""
    rows = [
        (p.release, p.gpu, p.driver, p.cuda, p.cudnn, p.python, f"{len(p.verdicts)} of {len(p.verdicts)}",
         f"{p.seconds} s", p.date)
        for p in reversed(load_tables(str(RELEASE_FILES / "tables")).gpu_proofs)
    ]  # fmt: skip
    titles = ("release", "GPU", "driver", "CUDA", "cuDNN", "Python", "cases as expected", "first check", "date")
    return table(titles, rows)


def companions() -> str:
    """The table of companions that were used with each release: release by companion, each cell a version."""
    proofs = load_tables(str(RELEASE_FILES / "tables")).companion_proofs
    projects = sorted({proof.project for proof in proofs})
    pythons: dict[str, str] = {}
    for proof in reversed(proofs):
        pythons.setdefault(proof.release, proof.python)
    cells = {
        (proof.release, proof.project): proof.version
        + ("" if proof.python == pythons[proof.release] else f" (Python {proof.python})")
        for proof in proofs
    }
    rows = [(*row, *(cells.get((row[0], project), "-") for project in projects)) for row in pythons.items()]
    return table(("release", "Python", *projects), rows)


def kernels() -> str:
    """The table of the kinds of kernels of each release."""
    tables = load_tables(str(RELEASE_FILES / "tables"))
    rows = []
    for row in reversed(tables.kernels):
        for kernel in row.kernels:
            ptx = kernel["ptx"]
            driver = tables.driver_for_ptx(ptx["version"])
            machine_code = " ".join(kernel["machine_code"])
            rows.append(
                (
                    f"`{row.releases}`",
                    f"{kernel['count']:,}",
                    machine_code,
                    f"{ptx['version']}, {ptx['target']}",
                    driver,
                )
            )
    return table(("releases", "kernels", "machine code", "PTX", "driver"), rows)


def known_breaks() -> str:
    """The table of what releases need beyond their metadata."""
    tables = load_tables(str(RELEASE_FILES / "tables"))
    kinds = {"constraint": "limit", "add": "addition"}
    rows = [(f"`{c.releases}`", f"`{c.requirement}`", kinds[c.kind], f"`{c.symptom}`") for c in tables.constraints]
    return table(("releases", "requirement", "kind", "error without it"), rows)


def from_source() -> str:
    """The table of projects that have no wheel."""
    tables = load_tables(str(RELEASE_FILES / "tables"))
    return table(
        ("releases", "project"), [(f"`{s.releases}`", f"`{s.requirement}`") for s in tables.source_distributions]
    )


def _lock(row: Release, python: str, platform: str, flavour: str) -> Lock | None:
    locks = str(RELEASE_FILES / "locks")
    return read_lock(lock_path(locks, release=row.version, python=python, platform=platform, flavour=flavour))


def _locked(row: Release, platform: str, flavour: str) -> list[str]:
    """The Pythons that there is a lock for."""
    pythons = row.pythons.get(platform.partition("_")[2], ())
    return [python for python in pythons if _lock(row, python, platform, flavour)]


def _proven(tables: Tables, row: Release) -> list[str]:
    """The Pythons on which today's lock was proven; a lock that changed since is not."""
    found = []
    for proof in tables.proofs:
        lock = _lock(row, proof.python, "linux_x86_64", proof.flavour) if proof.release == row.version else None
        if lock and lock.sha256 == proof.lock_sha256:
            found.append(proof.python + (" with CUDA" if proof.flavour == "cuda" else ""))
    return found


def _seen_on(tables: Tables, row: Release) -> str:
    """The GPUs on which a patch of the release's minor computed; which patch, if it was another one."""
    minor = Version(row.version).release[:2]
    seen = []
    for proof in tables.gpu_proofs:
        if Version(proof.release).release[:2] == minor:
            which = "" if proof.release == row.version else f" ({proof.release})"
            seen.append(f"{proof.gpu.replace('NVIDIA ', '')}{which}")
    return ", ".join(dict.fromkeys(seen)) or "none yet"


def _span(versions: Sequence[str]) -> str:
    return f"{versions[0]} to {versions[-1]}" if versions else "none"
