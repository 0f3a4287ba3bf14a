"""The locks that come with the toolkit are what the tables ask for today."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.lockfile import Lock, lock_path, read_lock
from ansible.module_utils.tensorflow_stack.locking import LockRequest, lock_inputs, lock_requests
from ansible.module_utils.tensorflow_stack.tables import Tables, load_tables

FILES = Path(__file__).resolve().parents[2] / "roles" / "tensorflow_release" / "files"
PATHS = sorted((FILES / "locks").glob("*/*"))
RELEASES = ["2.8.0", "2.8.4", "2.10.1", "2.15.1", "2.17.1", "2.21.0"]


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


@pytest.mark.parametrize("release", RELEASES)
def test_every_target_of_a_release_is_there(release: str, tables: Tables) -> None:
    wanted = {
        lock_path(
            str(FILES / "locks"),
            release=request.release,
            python=request.python,
            platform=request.platform,
            flavour=request.flavour,
        )
        for request in lock_requests(
            tables, release=release, requirements=None, pythons=[], architectures=["x86_64"], flavours=[]
        )
    }
    here = {str(path) for path in PATHS if path.parent.name == f"tensorflow-{release}"}
    # Those of the flavour cudnn are shipped where a distribution's CUDA is tested.
    assert {path for path in here if not path.endswith("-cudnn.txt")} == wanted
