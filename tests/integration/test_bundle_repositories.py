"""A part of a double of NVIDIA's repository in a bundle, and what apt and dnf install from it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.bundle import repositories
from ansible.module_utils.tensorflow_stack.bundle.fetching import Shelf
from ansible.module_utils.tensorflow_stack.bundle.repositories import RepositoryPart
from ansible.module_utils.tensorflow_stack.errors import StackError

from tests.chroots import chroot
from tests.package_nodes import CUDA as ALL_OF_CUDA
from tests.package_nodes import doubles  # noqa: F401  # a fixture
from tests.repositories.serve import Server, serve

pytestmark = pytest.mark.integration

CUDNN = {
    "source": "nvidia_repo",
    "packages": [{"name": "libcudnn8", "version": "8.1.0.77-1+cuda11.2"}],
    "belongs": ["libcudnn*", "cudnn*"],
}


CUDA = {key: value for key, value in ALL_OF_CUDA.items() if key != "component"}
DRIVER = {
    "source": "nvidia_repo",
    "branch": "535",
    "packages": [
        {"name": "nvidia-driver", "version": "535.*"},
        {"name": "nvidia-kernel-dkms", "version": "535.*"},
        {"name": "linux-headers-6.1.0-28-amd64", "version": None},
    ],
    "belongs": ["*nvidia*", "libcuda1"],
}


@pytest.fixture
def double(doubles: Path) -> Path:  # noqa: F811
    return doubles / "plain"


@pytest.fixture
def server(double: Path) -> Iterator[Server]:
    with serve(double) as running:
        yield running


def part_of(double: Path, server: Server, **changes: Any) -> RepositoryPart:
    key = next((double / "debian12/x86_64").glob("*.pub")).name
    fingerprint = json.loads((double / "fingerprints.json").read_text())["first"]
    row = {"kind": "nvidia", "manager": "apt", "name": "double", "key": key, "fingerprints": [fingerprint]}
    return RepositoryPart({**row, **changes}, f"{server.url}/debian12/x86_64", "x86_64", {"cudnn": CUDNN})


def bring(part: RepositoryPart, directory: Path) -> dict[str, str]:
    """The packages that are in the bundle afterwards."""
    mirrored = repositories.read_repository(part)
    shelf = Shelf(str(directory))
    for one in mirrored.wanted:
        shelf.bring(one)
    files = repositories.write_indexes(shelf, part, mirrored)
    assert all(file.source == f"{part.url}/{file.path.removeprefix('repositories/double/')}" for file in files)
    return {one.name: str(one.version) for one in mirrored.wanted}


def test_a_part_of_a_repository_keeps_its_signature_and_apt_installs_from_it(
    double: Path, server: Server, tmp_path: Path
) -> None:
    part = part_of(double, server)
    assert bring(part, tmp_path / "bundle") == {"libcudnn8": "8.1.0.77-1+cuda11.2"}
    place = tmp_path / "bundle/repositories/double"
    assert (place / "InRelease").read_bytes() == (double / "debian12/x86_64/InRelease").read_bytes()
    with chroot("bookworm", tmp_path / "node") as node:
        shutil.copytree(tmp_path / "bundle", node.path / "mnt/bundle")
        rows = [{**part.row, "url": "https://nvidia.invalid/debian12/x86_64/"}]
        added = node.module("nvidia_repository", repositories=rows, url="/mnt/bundle/repositories/double")
        assert added.get("changed"), added
        done = node.module("nvidia_packages", component="cudnn", lock_timeout=5, **CUDNN)
        assert done.get("changed"), done
        held_and_installed = node.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "libcudnn8")
        assert held_and_installed.startswith("hi")


@pytest.mark.slow  # 40 packages; the way is that of cuDNN above
def test_driver_cuda_and_cudnn_are_installed_from_it_without_a_network(
    double: Path, server: Server, tmp_path: Path
) -> None:
    """The packages are doubles of NVIDIA's: empty, with the names, versions and dependencies of theirs."""
    driver = {**DRIVER, "packages": DRIVER["packages"][:2]}
    parts = {"driver": driver, "cuda": CUDA, "cudnn": CUDNN}
    part = dataclasses.replace(part_of(double, server), parts=parts)
    bundled = bring(part, tmp_path / "bundle")
    with chroot("bookworm", tmp_path / "node") as bare:
        node = dataclasses.replace(bare, within=("unshare", "--net"))
        shutil.copytree(tmp_path / "bundle", node.path / "mnt/bundle")
        rows = [{**part.row, "url": "https://nvidia.invalid/debian12/x86_64/"}]
        added = node.module("nvidia_repository", repositories=rows, url="/mnt/bundle/repositories/double")
        assert added.get("changed"), added
        for component, wish in parts.items():
            done = node.module("nvidia_packages", component=component, lock_timeout=5, **wish)
            assert done.get("changed"), done
            again = node.module("nvidia_packages", component=component, lock_timeout=5, **wish)
            assert again.get("changed") is False, again
        versions = dict(
            line.split() for line in node.run("dpkg-query", "-W", "-f", "${Package} ${Version}\n").splitlines()
        )
        assert {name: versions[name] for name in ("libcuda1", "libcudnn8")} == {
            "libcuda1": "535.309.01-1",
            "libcudnn8": "8.1.0.77-1+cuda11.2",
        }
        assert "cuda-libraries-11-8" in versions
        installed = {name: version for name, version in versions.items() if name in bundled}
        assert installed == {name: bundled[name] for name in installed}


def test_the_closure_of_a_driver_is_of_one_version(double: Path, server: Server, tmp_path: Path) -> None:
    part = dataclasses.replace(part_of(double, server), parts={"driver": DRIVER})
    versions = bring(part, tmp_path / "bundle")
    assert versions["libcuda1"] == versions["nvidia-driver"] == versions["nvidia-kernel-dkms"] == "535.309.01-1"
    assert repositories.read_repository(part).left_out == ("linux-headers-6.1.0-28-amd64",)


def test_a_key_with_another_fingerprint_is_refused(double: Path, server: Server) -> None:
    with pytest.raises(StackError, match="The key .* is [0-9A-F]{40}, not 0{40}. Set nvidia_repository_fingerprints"):
        repositories.read_repository(part_of(double, server, fingerprints=["0" * 40]))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("tamper:*/InRelease", "InRelease is not signed by the repository's key"),
        ("tamper:*/Packages*", "Packages.* is not what its signed Release says"),
        ("404:*Release*", "has no InRelease, and no Release with a signature"),
        ("404:*/Packages*", "has no Packages, Packages.gz or Packages.xz that its Release lists"),
    ],
)
def test_an_index_that_is_not_the_signed_one_is_refused(double: Path, server: Server, rule: str, said: str) -> None:
    server.faults.append(rule)
    with pytest.raises(StackError, match=said):
        repositories.read_repository(part_of(double, server))


# --- dnf ------------------------------------------------------------------------------------------

RHEL_CUDNN = {**CUDNN, "packages": [{"name": "libcudnn8", "version": "8.1.0.77-1.cuda11.2"}]}
RHEL_DRIVER = {
    "source": "nvidia_repo",
    "branch": "535",
    "stream": "nvidia-driver:535-dkms",
    "packages": [
        *({"name": name, "version": "535.*"} for name in ("nvidia-driver", "nvidia-driver-cuda")),
        {"name": "kmod-nvidia-latest-dkms", "version": "535.*"},
    ],
    "belongs": ["kmod-nvidia*", "libnvidia-*", "nvidia-*"],
}


def part_of_dnf(double: Path, server: Server, **parts: Any) -> RepositoryPart:
    part = part_of(double, server, manager="dnf", key="D42D0685.pub")
    return dataclasses.replace(part, url=f"{server.url}/rhel8/x86_64", parts=parts or {"cudnn": RHEL_CUDNN})


def test_lists_of_dnf_stay_as_they_are_and_a_driver_is_of_its_stream(
    double: Path, server: Server, tmp_path: Path
) -> None:
    headers = {"name": "kernel-devel", "version": None}
    driver = {**RHEL_DRIVER, "packages": [*RHEL_DRIVER["packages"], headers]}
    part = part_of_dnf(double, server, driver=driver)
    versions = bring(part, tmp_path / "bundle")
    assert set(versions.values()) == {"3:535.309.01-1.el8"}
    assert {"nvidia-driver-libs", "nvidia-modprobe", "nvidia-persistenced"} < versions.keys()
    assert "kmod-nvidia-open-dkms" not in versions
    assert repositories.read_repository(part).left_out == ("kernel-devel",)
    place = tmp_path / "bundle/repositories/double"
    published = {path.name: path.read_bytes() for path in (double / "rhel8/x86_64/repodata").iterdir()}
    assert {path.name: path.read_bytes() for path in (place / "repodata").iterdir()} == published


def test_a_stream_that_the_repository_of_dnf_does_not_have_is_refused(double: Path, server: Server) -> None:
    part = part_of_dnf(double, server, driver={**RHEL_DRIVER, "stream": "nvidia-driver:525-dkms"})
    with pytest.raises(StackError, match="no module stream nvidia-driver:525-dkms.* are: 470-dkms, 535-dkms"):
        repositories.read_repository(part)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("tamper:*/repomd.xml", "repodata/repomd.xml is not signed by the repository's key"),
        ("404:*/repomd.xml.asc", "has no repodata/repomd.xml.asc, which is the signature of its lists"),
        ("tamper:*primary.xml*", "primary.xml.* is not what its signed repomd.xml says"),
        ("404:*filelists.xml*", "filelists.xml.* cannot be fetched"),
    ],
)
def test_a_list_of_dnf_that_is_not_the_signed_one_is_refused(
    double: Path, server: Server, rule: str, said: str
) -> None:
    server.faults.append(rule)
    with pytest.raises(StackError, match=said):
        repositories.read_repository(part_of_dnf(double, server))


@pytest.mark.slow  # another root, and rpm with dnf on it; the way of apt above is the same but for the manager
def test_driver_cuda_and_cudnn_of_dnf_are_installed_from_it_without_a_network(
    double: Path, server: Server, tmp_path: Path
) -> None:
    parts = {"driver": RHEL_DRIVER, "cuda": CUDA, "cudnn": RHEL_CUDNN}
    part = part_of_dnf(double, server, **parts)
    bundled = bring(part, tmp_path / "bundle")
    with chroot("el", tmp_path / "node") as bare:
        (bare.path / "etc/os-release").unlink()
        bare.write("/etc/os-release", "ID=rocky\nID_LIKE=rhel\nVERSION_ID=8.10\nPLATFORM_ID=platform:el8\n")
        bare.write("/etc/dnf/vars/releasever", "8\n")
        node = dataclasses.replace(bare, within=("unshare", "--net"))
        shutil.copytree(tmp_path / "bundle", node.path / "mnt/bundle")
        rows = [{**part.row, "url": "https://nvidia.invalid/rhel8/x86_64/"}]
        place = "/mnt/bundle/repositories/double"
        added = node.module("nvidia_repository", repositories=rows, url=place)
        assert added.get("changed"), added
        section = node.read("/etc/yum.repos.d/double.repo")
        assert f"baseurl=file://{place}/\n" in section
        assert "gpgcheck=1\nrepo_gpgcheck=1\n" in section
        for component, wish in parts.items():
            wish = {**wish, "component": component}
            done = node.module("nvidia_packages", lock_timeout=5, **wish)
            assert done.get("changed"), done
            again = node.module("nvidia_packages", lock_timeout=5, **wish)
            assert again.get("changed") is False, again
        lines = node.run("rpm", "-qa", "--qf", r"%{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\n").splitlines()
        installed = dict(line.split() for line in lines if not line.startswith("gpg-pubkey"))
        assert installed == bundled
