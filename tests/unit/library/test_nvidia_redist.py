from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.archives import redist

from tests.archives import Shelf

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What lays CUDA below tmp_path, with the node's records there too."""
    for function in (redist.plan_present, redist.plan_absent, redist.apply_present, redist.apply_absent):
        monkeypatch.setitem(function.__kwdefaults__, "records", str(tmp_path / "etc"))
    shelf = Shelf(tmp_path / "shelf")
    wish = shelf.cuda(tmp_path / "opt" / "cuda-11.2")
    return {
        "component": "cuda",
        "version": "11.2.2",
        "prefix": wish.prefix,
        "url": shelf.url,
        "archives": [archive.row for archive in wish.archives],
    }


def test_four_runs(run_module: RunModule, arguments: dict[str, Any]) -> None:
    checked = run_module("nvidia_redist", check=True, diff=True, **arguments)
    assert not os.path.exists(os.path.dirname(arguments["prefix"]))
    done = run_module("nvidia_redist", diff=True, **arguments)
    assert checked == {**done, "pending": True}
    assert done["pending"] is False
    assert (done["changed"], done["action"], done["version"]) == (True, "install", "11.2.2")
    assert done["diff"] == {
        "before": "",
        "after": f"cuda 11.2.2 in {arguments['prefix']}\ncuda_cudart 11.2.152\nlibcublas 11.4.1.1043\n",
    }
    checked = run_module("nvidia_redist", check=True, **arguments)
    assert checked == run_module("nvidia_redist", **arguments)
    assert (checked["changed"], checked["action"], checked["drift"]) == (False, "keep", [])


def test_repair_says_what_was_wrong(run_module: RunModule, arguments: dict[str, Any]) -> None:
    run_module("nvidia_redist", **arguments)
    os.unlink(os.path.join(arguments["prefix"], "lib", "libcudart.so.11"))
    done = run_module("nvidia_redist", **arguments)
    assert (done["action"], done["drift"]) == ("repair", ["lib/libcudart.so.11 is missing"])
    assert done["diff"]["before"] == done["diff"]["after"] + "# lib/libcudart.so.11 is missing\n"


def test_absent(run_module: RunModule, arguments: dict[str, Any]) -> None:
    run_module("nvidia_redist", **arguments)
    absent = {"component": "cuda", "prefix": arguments["prefix"], "state": "absent"}
    checked = run_module("nvidia_redist", check=True, **absent)
    assert os.path.isdir(arguments["prefix"])
    assert checked == {**run_module("nvidia_redist", **absent), "pending": True}
    assert (checked["changed"], checked["action"], checked["version"], checked["archives"]) == (
        True,
        "remove",
        None,
        [],
    )
    assert not os.path.exists(arguments["prefix"])
    assert run_module("nvidia_redist", **absent)["changed"] is False


def test_modes_do_not_depend_on_the_umask(run_module: RunModule, arguments: dict[str, Any]) -> None:
    before = os.umask(0o077)
    try:
        run_module("nvidia_redist", **arguments)
    finally:
        os.umask(before)
    paths = [Path(arguments["prefix"]).parent, *Path(arguments["prefix"]).rglob("*")]
    assert {oct(path.stat().st_mode & 0o777) for path in paths if path.is_dir()} == {"0o755"}
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in paths)


def write_manifest(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with a manifest, in place of what it says."""
    directory = Path(arguments["url"].removeprefix("file://"))
    content: dict[str, Any] = {"release_date": "2021-02-16"}
    for row in arguments.pop("archives"):
        file = {"relative_path": row["relative_path"], "sha256": row["sha256"], "size": str(row["bytes"])}
        content[row["component"]] = {"version": row["version"], "linux-x86_64": file, "linux-sbsa": file}
    (directory / "redistrib_11.2.2.json").write_text(json.dumps(content))
    sha256 = hashlib.sha256((directory / "redistrib_11.2.2.json").read_bytes()).hexdigest()
    return {**arguments, "manifest": "redistrib_11.2.2.json", "manifest_sha256": sha256}


def test_manifest(run_module: RunModule, arguments: dict[str, Any]) -> None:
    rows = arguments["archives"]
    given = write_manifest(arguments)
    assert run_module("nvidia_redist", check=True, **given)["archives"] == rows
    one = run_module("nvidia_redist", manifest_components=["libcublas"], **given)
    assert one["archives"] == rows[1:]
    assert sorted(os.listdir(Path(given["prefix"], "lib")))[0] == "libcublas.so"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"manifest_sha256": "0" * 64}, "is not the pinned manifest: expected sha256 0000"),
        ({"manifest_sha256": None}, "missing parameter(s) required by 'manifest': manifest_sha256"),
        ({"manifest_components": ["cufft"]}, "has no component cufft; it has cuda_cudart, libcublas"),
        ({"manifest": "redistrib_99.json"}, "redistrib_99.json cannot be fetched"),
    ],
)
def test_refused_manifest(run_module: RunModule, arguments: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    given = {key: value for key, value in {**write_manifest(arguments), **changes}.items() if value is not None}
    failed = run_module("nvidia_redist", **given)
    assert failed["failed"]
    assert said in failed["msg"]
    assert not os.path.exists(given["prefix"])


@pytest.mark.parametrize("check", [True, False])
def test_archive_without_a_hash_is_refused(run_module: RunModule, arguments: dict[str, Any], check: bool) -> None:
    del arguments["archives"][1]["sha256"]
    failed = run_module("nvidia_redist", check=check, **arguments)
    assert failed["failed"]
    assert "of libcublas is refused: it has no sha256" in failed["msg"]
    assert not os.path.exists(arguments["prefix"])


def test_neither_archives_nor_manifest(run_module: RunModule, arguments: dict[str, Any]) -> None:
    del arguments["archives"]
    assert "any of the following are missing: archives, manifest" in run_module("nvidia_redist", **arguments)["msg"]
