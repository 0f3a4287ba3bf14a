"""The locks that come with the toolkit are what the tables ask for today."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.locking.inputs import LockRequest, lock_inputs, lock_requests
from ansible.module_utils.tensorflow_stack.records.lockfile import Lock, read_lock
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables

FILES = Path(__file__).resolve().parents[2] / "roles" / "tensorflow_release" / "files"
PATHS = sorted((FILES / "locks").glob("*/*"))
ARCHITECTURES = ("x86_64", "aarch64")
# Its wheel for aarch64 is a stub that requires tensorflow-cpu-aws==2.11.1, which has a wheel for CPython 3.7 alone.
CANNOT_BE_HAD = ("2.11.1", "linux_aarch64")


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(FILES / "tables"))


@pytest.fixture(scope="module")
def locks() -> dict[Path, Lock]:
    """Each read once, since there are hundreds."""
    read = {path: read_lock(str(path)) for path in PATHS}
    assert None not in read.values()
    return {path: lock for path, lock in read.items() if lock is not None}


def offenders(locks: dict[Path, Lock], is_right: Callable[[Lock], bool]) -> list[str]:
    return [f"{path.parent.name}/{path.name}" for path, lock in locks.items() if not is_right(lock)]


def is_sorted(rows: Iterable[str]) -> bool:
    listed = list(rows)
    return listed == sorted(listed)


def test_a_lock_is_rendered_as_it_was_read(locks: dict[Path, Lock]) -> None:
    assert [path for path, lock in locks.items() if lock.text != path.read_text(encoding="utf-8")] == []


def test_a_lock_lies_where_it_is_looked_for(locks: dict[Path, Lock]) -> None:
    def place(lock: Lock) -> str:
        request = LockRequest(lock.release, lock.python, lock.platform, lock.flavour)
        return request.path_in(str(FILES / "locks"))

    assert [path for path, lock in locks.items() if place(lock) != str(path)] == []


def test_no_lock_is_stale(locks: dict[Path, Lock], tables: Tables) -> None:
    def is_fresh(lock: Lock) -> bool:
        request = LockRequest(lock.release, lock.python, lock.platform, lock.flavour)
        return lock.inputs_sha256 == lock_inputs(request, tables).sha256

    why = "the tables have changed: ansible-playbook playbooks/lock.yml -e tensorflow_version=<release>"
    assert offenders(locks, is_fresh) == [], why


def test_distributions_and_hashes_are_sorted(locks: dict[Path, Lock]) -> None:
    assert offenders(locks, lambda lock: is_sorted(row.name for row in lock.distributions)) == []
    assert offenders(locks, lambda lock: all(is_sorted(row.hashes) for row in lock.distributions)) == []


def test_a_lock_holds_its_release_and_its_flavour(locks: dict[Path, Lock]) -> None:
    def brings(lock: Lock, library: str) -> bool:
        return any(name.rpartition("-")[0] == f"nvidia-{library}" for name in lock.packages)

    def project(lock: Lock) -> str:
        return "tensorflow-gpu" if lock.flavour == "gpu" else "tensorflow"

    assert offenders(locks, lambda lock: lock.packages[project(lock)] == lock.release) == []
    assert offenders(locks, lambda lock: brings(lock, "cudnn") == (lock.flavour in ("cuda", "cudnn"))) == []
    assert offenders(locks, lambda lock: brings(lock, "cuda-runtime") == (lock.flavour == "cuda")) == []
    assert offenders(locks, lambda lock: all(row.bytes > 0 for row in lock.distributions)) == []


def test_every_environment_has_pip(locks: dict[Path, Lock]) -> None:
    # The last of each old Python. Newer ones follow the index.
    # fact: Requires-Python of pip on the package index, 2026-11-26
    last = {"3.6": "21.3.1", "3.7": "24.0", "3.8": "25.0.1"}
    assert offenders(locks, lambda lock: "pip" in lock.packages) == []
    assert offenders(locks, lambda lock: lock.packages["pip"] == last.get(lock.python, lock.packages["pip"])) == []


def test_a_cudnn_lock_brings_cudnn_and_nothing_of_cuda(locks: dict[Path, Lock]) -> None:
    def is_cudnn_alone(lock: Lock) -> bool:
        if lock.flavour != "cudnn":
            return lock.without == ()
        nvidia = [name for name in lock.packages if name.startswith("nvidia-")]
        needs_cublas = any(name.startswith("nvidia-cublas-") for name in lock.without)
        return needs_cublas and all(name.startswith("nvidia-cudnn-") for name in nvidia)

    assert offenders(locks, is_cudnn_alone) == []


def test_every_target_of_every_release_is_there(tables: Tables) -> None:
    wanted = {
        request.path_in(str(FILES / "locks"))
        for release in tables.releases
        for architecture in ARCHITECTURES
        if release.pythons.get(architecture)
        for request in lock_requests(
            tables, release=release.version, requirements=None, pythons=[], architectures=[architecture], flavours=[]
        )
        if (request.release, request.platform) != CANNOT_BE_HAD
    }
    # Those of the flavour cudnn are shipped where a distribution's CUDA is tested.
    assert {str(path) for path in PATHS if not path.stem.endswith("-cudnn")} == wanted


def test_only_what_the_table_names_is_built_from_source(locks: dict[Path, Lock], tables: Tables) -> None:
    def is_allowed(lock: Lock) -> bool:
        return set(lock.from_source) <= set(tables.source_distributions_for(lock.release, lock.python))

    assert offenders(locks, is_allowed) == []
    assert offenders(locks, lambda lock: bool(lock.built_with) == bool(lock.from_source)) == []


def test_a_proof_is_of_a_target_that_is_shipped(tables: Tables) -> None:
    for proof in tables.proofs:
        request = LockRequest(proof.release, proof.python, "linux_x86_64", proof.flavour)
        assert read_lock(request.path_in(str(FILES / "locks"))), f"{proof.release} on {proof.python} has no lock"
