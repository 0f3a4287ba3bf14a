"""NVIDIA's archives over http: from the double of its server, with everything that a network does to them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.archives import redist
from ansible.module_utils.tensorflow_stack.io import downloads
from ansible.module_utils.tensorflow_stack.node.record import read_node

from tests.needs import require
from tests.repositories.make_repositories import PACKAGES, Options, make_repositories
from tests.repositories.serve import Server, serve

pytestmark = pytest.mark.integration

RunModule = Callable[..., dict[str, Any]]
COMPONENTS = ["cuda_cudart", "libcublas", "libcufft", "libcurand", "libcusolver", "libcusparse"]


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require(*PACKAGES)
    directory = tmp_path_factory.mktemp("double")
    make_repositories(directory, Options(distributions=("debian12",)))
    return directory / "redist"


@pytest.fixture
def server(double: Path) -> Iterator[Server]:
    with serve(double) as running:
        yield running


@pytest.fixture(autouse=True)
def _node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (redist.plan_present, redist.plan_absent, redist.apply_present, redist.apply_absent):
        monkeypatch.setitem(function.__kwdefaults__, "records", str(tmp_path / "etc/tensorflow-gpu-stack"))
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)


def cuda(double: Path, server: Server, tmp_path: Path, release: str) -> dict[str, Any]:
    manifest = double / "cuda" / f"redistrib_{release}.json"
    return {
        "component": "cuda",
        "version": release,
        "prefix": str(tmp_path / "opt/nvidia" / f"cuda-{release[:4]}"),
        "url": f"{server.url}/cuda",
        "manifest": manifest.name,
        "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "manifest_components": COMPONENTS,
    }


def test_two_releases_side_by_side(run_module: RunModule, double: Path, server: Server, tmp_path: Path) -> None:
    for release in ("11.2.2", "11.8.0"):
        arguments = cuda(double, server, tmp_path, release)
        checked = run_module("nvidia_redist", check=True, **arguments)
        done = run_module("nvidia_redist", **arguments)
        assert checked == {**done, "pending": True}
        assert done["changed"], done
    prefixes = [tmp_path / "opt/nvidia" / name for name in ("cuda-11.2", "cuda-11.8")]
    for prefix in prefixes:
        library = next(path for path in (prefix / "lib").glob("libcufft.so.*") if not path.is_symlink())
        ctypes.CDLL(str(library))
    # Found as every CUDA of a node is: by the root where this one was laid.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").symlink_to("/bin/sh")
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64/ld-linux-x86-64.so.2").write_bytes(Path("/bin/sh").read_bytes()[:64])
    rows = read_node(filesystem_root=str(tmp_path))["cuda"]
    assert [(row["version"], row["library_directory"]) for row in rows] == [
        ("11.2", "/opt/nvidia/cuda-11.2/lib"),
        ("11.8", "/opt/nvidia/cuda-11.8/lib"),
    ]
    again = run_module("nvidia_redist", **cuda(double, server, tmp_path, "11.8.0"))
    assert again["changed"] is False


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """Puts what was written so far into a lower layer, as the image of a container does."""
    place, merged = tmp_path / "layers", tmp_path / "merged"
    for path in (place, merged):
        path.mkdir()
    mounted: list[Path] = []

    def mount(*arguments: str) -> None:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no overlay can be mounted here: {done.stderr.strip()}")
        mounted.append(Path(arguments[-1]))

    mount("-t", "tmpfs", "layers", str(place))
    uppers = [place / "empty"]
    uppers[0].mkdir()

    def commit() -> Path:
        if merged in mounted:
            subprocess.run(["umount", merged], check=True)
            mounted.remove(merged)
        upper, work = (place / f"{kind}{len(uppers)}" for kind in ("upper", "work"))
        for path in (upper, work):
            path.mkdir()
        lower = ":".join(map(str, reversed(uppers)))
        uppers.append(upper)
        mount("-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay", str(merged))
        return merged

    yield commit
    for path in reversed(mounted):
        subprocess.run(["umount", path], check=True)


def test_tree_of_an_image_is_repaired_and_removed(
    run_module: RunModule, double: Path, server: Server, layers: Callable[[], Path]
) -> None:
    arguments = cuda(double, server, layers(), "11.2.2")
    prefix = Path(arguments["prefix"])
    assert run_module("nvidia_redist", **arguments)["changed"]
    layers()
    with pytest.raises(OSError, match="cross-device"):
        prefix.rename(prefix.with_name("elsewhere"))
    next(prefix.glob("lib/libcufft.so.*.*")).unlink()
    done = run_module("nvidia_redist", **arguments)
    assert done.get("action") == "repair", done
    layers()
    assert run_module("nvidia_redist", **arguments)["changed"] is False
    absent = {"component": "cuda", "version": "11.2.2", "prefix": str(prefix), "state": "absent"}
    assert run_module("nvidia_redist", **absent).get("action") == "remove"
    assert os.listdir(prefix.parent) == [".locks"]


@pytest.mark.parametrize("variant", ["cuda11", "cuda12"])
def test_cudnn_9(run_module: RunModule, double: Path, server: Server, tmp_path: Path, variant: str) -> None:
    manifest = double / "cudnn" / "redistrib_9.3.0.json"
    done = run_module(
        "nvidia_redist",
        component="cudnn",
        version="9.3.0.75",
        prefix=str(tmp_path / "opt/nvidia" / f"cudnn-9.3.0.75-{variant}"),
        url=f"{server.url}/cudnn",
        manifest=manifest.name,
        manifest_sha256=hashlib.sha256(manifest.read_bytes()).hexdigest(),
        manifest_variant=variant,
    )
    assert done["changed"], done
    assert (
        os.readlink(tmp_path / "opt/nvidia" / f"cudnn-9.3.0.75-{variant}" / "lib/libcudnn.so.9") == "libcudnn.so.9.3.0"
    )


def test_connection_that_drops_once(
    run_module: RunModule, double: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults.append("drop=500:*libcufft*.tar.xz")
    # Between two attempts.
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: server.faults.clear())
    assert run_module("nvidia_redist", **cuda(double, server, tmp_path, "11.2.2"))["changed"]
    assert len([line for line in server.requests if "libcufft" in line]) == 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("drop=500:*libcufft*.tar.xz", "answers 'connection closed after 500 of "),
        ("404:*libcufft*.tar.xz", "answers 'HTTP Error 404"),
        ("503:*libcufft*.tar.xz", "answers 'HTTP Error 503"),
        ("tamper:*libcufft*.tar.xz", "is not the pinned file: expected "),
        ("tamper:*redistrib*.json", "is not the pinned manifest: expected sha256 "),
        ("404:*redistrib*.json", "redistrib_11.8.0.json cannot be fetched: the server of NVIDIA's archives http://"),
    ],
)
def test_fault_leaves_the_old_tree(
    run_module: RunModule, double: Path, server: Server, tmp_path: Path, fault: str, said: str
) -> None:
    """At a prefix that has another release already."""
    old = cuda(double, server, tmp_path, "11.2.2")
    run_module("nvidia_redist", **old)
    before = sorted(os.listdir(tmp_path / "opt/nvidia"))
    server.faults.append(fault)
    failed = run_module("nvidia_redist", **{**cuda(double, server, tmp_path, "11.8.0"), "prefix": old["prefix"]})
    assert failed["failed"]
    assert said in failed["msg"]
    assert "nvidia_redist_url" in failed["msg"] or "pinned" in failed["msg"]
    assert sorted(os.listdir(tmp_path / "opt/nvidia")) == before
    server.faults.clear()
    assert run_module("nvidia_redist", **old)["changed"] is False


def test_hostile_archives_of_the_double(run_module: RunModule, double: Path, server: Server, tmp_path: Path) -> None:
    manifests = sorted((double / "hostile").glob("redistrib_*.json"))
    assert len(manifests) >= 5
    prefix = tmp_path / "opt/nvidia/cuda-1"
    for manifest in manifests:
        result = run_module(
            "nvidia_redist",
            component="cuda",
            version="1",
            prefix=str(prefix),
            url=f"{server.url}/hostile",
            manifest=manifest.name,
            manifest_sha256=hashlib.sha256(manifest.read_bytes()).hexdigest(),
        )
        assert result.get("failed"), manifest.name
        assert "refused" in result["msg"] or "pinned" in result["msg"] or "cannot be unpacked" in result["msg"], result
        assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] in (
            [],
            ["opt", "opt/nvidia", "opt/nvidia/.locks", "opt/nvidia/.locks/cuda-1"],
        )
