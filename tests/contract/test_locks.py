"""The locks that come with the toolkit are what the tables ask for today."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.lockfile import Lock, lock_path, read_lock
from ansible.module_utils.tensorflow_stack.locking import LockRequest, lock_inputs, lock_requests
from ansible.module_utils.tensorflow_stack.tables import Tables, load_tables

FILES = Path(__file__).resolve().parents[2] / "roles" / "tensorflow_release" / "files"
PATHS = sorted((FILES / "locks").glob("*/*"))
ARCHITECTURES = ("x86_64", "aarch64")
# Its wheel for aarch64 is a stub that requires tensorflow-cpu-aws==2.11.1, which has a wheel for CPython 3.7 alone.
CANNOT_BE_HAD = ("2.11.1", "linux_aarch64")


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(FILES / "tables"))


@pytest.fixture(params=PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def lock(request: pytest.FixtureRequest) -> Lock:
    lock = read_lock(str(request.param))
    assert lock is not None
    assert lock.text == request.param.read_text(encoding="utf-8")
    assert str(request.param) == lock_path(
        str(FILES / "locks"),
        release=lock.release,
        python=lock.python,
        platform=lock.platform,
        flavour=lock.flavour,
    )
    return lock


def test_lock_is_not_stale(lock: Lock, tables: Tables) -> None:
    request = LockRequest(lock.release, lock.python, lock.platform, lock.flavour)
    assert lock.inputs_sha256 == lock_inputs(request, tables).sha256, (
        f"the tables have changed: ansible-playbook playbooks/lock.yml -e tensorflow_version={lock.release}"
    )


def test_lock_is_sorted(lock: Lock) -> None:
    names = [distribution.name for distribution in lock.distributions]
    assert names == sorted(names)
    assert all(distribution.hashes == tuple(sorted(distribution.hashes)) for distribution in lock.distributions)


def test_lock_holds_its_release_and_its_flavour(lock: Lock) -> None:
    assert lock.packages["tensorflow"] == lock.release
    brought = {name.rpartition("-")[0] for name in lock.packages if name.startswith("nvidia-")}
    assert ("nvidia-cudnn" in brought) == (lock.flavour != "cpu")
    assert ("nvidia-cuda-runtime" in brought) == (lock.flavour == "cuda")
    assert all(distribution.bytes > 0 for distribution in lock.distributions)


def test_a_cudnn_lock_brings_cudnn_and_nothing_of_cuda(lock: Lock) -> None:
    if lock.flavour != "cudnn":
        assert lock.without == ()
        return
    assert [name for name in lock.packages if name.startswith("nvidia-")] == [
        name for name in lock.packages if name.startswith("nvidia-cudnn-")
    ]
    assert any(name.startswith("nvidia-cublas-") for name in lock.without)


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


def test_only_what_the_table_names_is_built_from_source(lock: Lock, tables: Tables) -> None:
    assert set(lock.from_source) <= set(tables.source_distributions_for(lock.release, lock.python))
    assert bool(lock.built_with) == bool(lock.from_source)


def test_a_proof_is_of_a_target_that_is_shipped(tables: Tables) -> None:
    for proof in tables.proofs:
        request = LockRequest(proof.release, proof.python, "linux_x86_64", "cpu")
        assert read_lock(request.path_in(str(FILES / "locks"))), f"{proof.release} on {proof.python} has no lock"
