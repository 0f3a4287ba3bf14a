"""The module as a task calls it, on a root with links of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.packages import cuda_links
from ansible.modules import nvidia_cuda_links

from tests.conftest import RunModule


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in ("usr/local/cuda-11.2", "usr/local/cuda-11.8", "etc/ld.so.conf.d"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "usr/local/cuda").symlink_to(tmp_path / "usr/local/cuda-11.2")
    links = cuda_links.CudaLinks(root=str(tmp_path), record=str(tmp_path / "record.json"))
    monkeypatch.setattr(nvidia_cuda_links, "CudaLinks", lambda: links)
    monkeypatch.setattr(cuda_links, "_run", lambda command: None)
    return tmp_path


def point(root: Path, version: str) -> None:
    (root / "usr/local/cuda").unlink()
    (root / "usr/local/cuda").symlink_to(root / "usr/local" / f"cuda-{version}")


@pytest.fixture
def install(root: Path) -> Callable[[], None]:
    """What the packages of CUDA 11.8 do to the machine."""

    def change() -> None:
        point(root, "11.8")
        (root / "etc/ld.so.conf.d/988_cuda-11.conf").write_text("/usr/local/cuda-11/lib64\n")

    return change


def test_what_an_installation_changed_is_put_back_and_named(
    run_module: RunModule, root: Path, install: Callable[[], None]
) -> None:
    options = {"prefix": f"{root}/usr/local/cuda-11.8", "diff": True}
    link, leads = f"{root}/usr/local/cuda", f"{root}/usr/local/cuda-11.2"
    recorded = run_module("nvidia_cuda_links", state="recorded", **options)
    assert (recorded["changed"], recorded["links"], recorded["put_back"]) == (False, {link: leads}, [])
    install()
    restored = run_module("nvidia_cuda_links", state="restored", **options)
    assert (restored["changed"], restored["links"], restored["loader_files"]) == (True, {link: leads}, [])
    file = f"{root}/etc/ld.so.conf.d/988_cuda-11.conf"
    assert restored["put_back"] == [f"{link} -> {root}/usr/local/cuda-11.8", file]
    assert restored["diff"] == {
        "before": f"{link} -> {root}/usr/local/cuda-11.8\n{file}\n",
        "after": f"{link} -> {leads}\n",
    }
    again = run_module("nvidia_cuda_links", state="restored", **options)
    assert (again["changed"], again["put_back"]) == (False, [])


def test_check_mode_predicts_and_changes_nothing(
    run_module: RunModule, root: Path, install: Callable[[], None]
) -> None:
    options = {"prefix": f"{root}/usr/local/cuda-11.8", "state": "restored"}
    run_module("nvidia_cuda_links", **{**options, "state": "recorded"})
    install()
    predicted = run_module("nvidia_cuda_links", check=True, **options)
    assert (root / "usr/local/cuda").resolve().name == "cuda-11.8"
    done = run_module("nvidia_cuda_links", **options)
    assert (predicted["changed"], predicted["put_back"]) == (done["changed"], done["put_back"])
    assert (root / "usr/local/cuda").resolve().name == "cuda-11.2"


def test_a_directory_in_the_place_of_the_link_is_a_failure(run_module: RunModule, root: Path) -> None:
    (root / "usr/local/cuda").unlink()
    (root / "usr/local/cuda").mkdir()
    result = run_module("nvidia_cuda_links", prefix=f"{root}/usr/local/cuda-11.8", state="linked")
    assert result["failed"] and "unset cuda_toolkit_global_link" in result["msg"]


def test_another_user_than_root_is_told_so(run_module: RunModule, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def record(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "/etc/tensorflow-gpu-stack")

    monkeypatch.setattr(cuda_links.CudaLinks, "record", record)
    result = run_module("nvidia_cuda_links", prefix=f"{root}/usr/local/cuda-11.8", state="recorded")
    assert result["failed"] and "Permission denied" in result["msg"] and result["msg"].endswith("Run as root.")
