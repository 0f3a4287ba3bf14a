"""Whatever of a signed bundle is missing, cut or swapped: a plan that needs it names it, and a plan changes nothing."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.bundle import checking, signing
from ansible.module_utils.tensorflow_stack.bundle.manifest import BundledFile, BundleManifest, render_manifest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.records.lockfile import Lock

from tests.wheels import make_lock, make_tensorflow

REPOSITORY = "repositories/nvidia-cuda-debian12"
OF_DNF = "repositories/nvidia-cuda-rhel8"
FILES = {
    "wheels/tensorflow-2.8.0-py3-none-any.whl": ("wheel", "tensorflow", "2.8.0"),
    "simple/tensorflow/index.html": ("index", "", None),
    "simple/tensorflow/index.json": ("index", "", None),
    "wheels/uv-0.13.9-py3-none-any.whl": ("wheel", "uv", "0.13.9"),
    "python/1/cpython-3.10.1-x86_64-linux.tar.gz": ("python", "cpython", "3.10.1"),
    "redist/cuda_cudart/cuda_cudart.tar.xz": ("archive", "cuda_cudart", "11.2"),
    f"{REPOSITORY}/nvidia-driver_535.1-1_amd64.deb": ("package", "nvidia-driver", "535.1-1"),
    f"{REPOSITORY}/Packages.gz": ("index", "nvidia-cuda-debian12", None),
    f"{REPOSITORY}/InRelease": ("index", "nvidia-cuda-debian12", None),
    f"{REPOSITORY}/3bf863cc.pub": ("index", "nvidia-cuda-debian12", None),
    f"{OF_DNF}/nvidia-driver-535.1-1.el8.x86_64.rpm": ("package", "nvidia-driver", "3:535.1-1.el8"),
    f"{OF_DNF}/repodata/primary.xml.gz": ("index", "nvidia-cuda-rhel8", None),
}
# Whole, a plan finds nothing wrong with it.
BESIDES = ["manifest.json", "manifest.json.sig"]
SAID = {
    "manifest.json": "manifest",
    "manifest.json.sig": "not signed|manifest of the bundle .* is not signed by a key",
}


class Signed:
    """A bundle with one file of each kind, and a plan that installs all of them."""

    def __init__(self, path: Path) -> None:
        self.path = path / "bundle"
        self.lock: Lock = make_lock(make_tensorflow(path, "2.8.0"), release="2.8.0", python="3.10")
        bodies = {name: f"the contents of {name}".encode() for name in FILES}
        wheel = "wheels/tensorflow-2.8.0-py3-none-any.whl"
        bodies[wheel] = (path / wheel.rpartition("/")[2]).read_bytes()
        files = []
        for name, (kind, project, version) in FILES.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(bodies[name])
            digest = hashlib.sha256(bodies[name]).hexdigest()
            files.append(BundledFile(name, digest, len(bodies[name]), kind, project, version))
        self.digests = {file.name: file.sha256 for file in files}
        manifest = BundleManifest("2026-11-27T00:00:00Z", (), tuple(files))
        (self.path / "manifest.json").write_text(render_manifest(manifest))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path / "key"], check=True)
        self.signers = path / "signers"
        self.signers.write_text(f"site {(path / 'key.pub').read_text()}")
        signing.sign(str(self.path), str(path / "key"))

    @property
    def plan(self) -> dict[str, Any]:
        archive = {"component": "cuda_cudart", "version": "11.2", "relative_path": "cuda_cudart/cuda_cudart.tar.xz"}
        driver = {"source": "nvidia_repo", "packages": [{"name": "nvidia-driver", "version": "535.*"}]}
        return {
            "uv": {"version": "0.13.9", "sha256": self.digests["uv"], "bytes": 1},
            "python": {"source": "uv", "minor": "3.10", "path": None},
            "lock": {"architecture": "x86_64"},
            "driver": {**driver, "belongs": ["nvidia-*"]},
            "cuda": {
                "source": "redist",
                "url": "https://nvidia.invalid/",
                "archives": [{**archive, "sha256": self.digests["cuda_cudart"], "bytes": 1}],
            },
            "cudnn": None,
            "repositories": [{"kind": "nvidia", "name": place.partition("/")[2]} for place in (REPOSITORY, OF_DNF)],
            "steps": [{"component": name, "action": "install"} for name in ("driver", "cuda", "python", "environment")],
        }

    def faults(self, tools: Path) -> list[str]:
        try:
            found = checking.find_plan_faults(
                str(self.path), self.plan, self.lock, signers=str(self.signers), tools=str(tools)
            )
        except StackError as error:
            return [error.message]
        return [fault["found"] for fault in found]


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return Signed(tmp_path_factory.mktemp("signed"))


def test_a_whole_bundle_is_taken(signed: Signed, tmp_path: Path) -> None:
    assert signed.faults(tmp_path) == []


@pytest.mark.parametrize("damage", ["missing", "cut", "swapped"])
@pytest.mark.parametrize("name", [*FILES, *BESIDES])
def test_what_is_damaged_is_named(signed: Signed, tmp_path: Path, name: str, damage: str) -> None:
    """After it was seen whole, so that what is remembered of it does not count."""
    assert signed.faults(tmp_path) == []
    path = signed.path / name
    body = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(body[:-9] if damage == "cut" else body[:9] + bytes([body[9] ^ 1]) + body[10:])
    try:
        found = signed.faults(tmp_path)
    finally:
        path.write_bytes(body)
    assert len(found) == 1
    assert re.search(SAID.get(name, re.escape(name)), found[0]), found
