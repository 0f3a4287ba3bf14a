"""Nodes for the tests of nvidia_packages: a private root, and a server with the doubles of NVIDIA's repository."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chroots import Chroot, chroot
from tests.needs import require
from tests.repositories.make_repositories import PACKAGES, Options, make_repositories
from tests.repositories.serve import Server, serve

DISTRIBUTIONS = {"bookworm": "debian12", "bullseye": "debian11", "trixie": "debian13", "el": "rhel8"}
SUITES = ("bookworm", "bullseye", "trixie")
# For a test whose subject no version of apt changes: on the others at night.
MAINLY_ONE = [pytest.param(suite, marks=[pytest.mark.slow] * (suite != "bookworm")) for suite in SUITES]


@pytest.fixture(scope="session")
def doubles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain` and `newer` repositories; a node's address of a repository is <url>/current."""
    require("mmdebstrap", *PACKAGES, root=True)
    directory = tmp_path_factory.mktemp("repositories")
    distributions = tuple(DISTRIBUTIONS.values())
    make_repositories(directory / "plain", Options(distributions=distributions))
    make_repositories(directory / "newer", Options(distributions=("debian12", "rhel8"), newer=True))
    gone = (
        "libcudnn8=8.1.0.77-1+cuda11.2",
        "libcudnn8-dev=8.1.0.77-1+cuda11.2",
        "libnvidia-ml1=535.309.01-1",
        "libnvidia-ml1=550.163.01-1",
        *(f"nvidia-modprobe={version}-1" for version in ("535.54.03", "535.104.05", "535.309.01")),
    )
    make_repositories(directory / "gone", Options(distributions=("debian12", "rhel8"), without=gone))
    return directory


class Node:
    """A root with the repository in its sources, and the server that it asks."""

    def __init__(self, root: Chroot, server: Server, doubles: Path, suite: str) -> None:
        self.root, self.server, self.doubles, self.suite = root, server, doubles, suite

    def use(self, repository: str) -> None:
        distribution = DISTRIBUTIONS[self.suite]
        flat = self.doubles / repository / distribution / "x86_64"
        self.root.write("/etc/pki/nvidia.pub", next(flat.glob("*.pub")).read_text())
        self.root.write("/usr/share/keyrings/nvidia.asc", next(flat.glob("*.pub")).read_text())
        url = f"{self.server.url}/{repository}/{distribution}/x86_64/"
        if self.suite == "el":
            text = f"[nvidia]\nname=double\nbaseurl={url}\ngpgcheck=1\ngpgkey=file:///etc/pki/nvidia.pub\n"
            self.root.write("/etc/yum.repos.d/nvidia.repo", text)
            self.root.run("dnf", "--refresh", "makecache")
            return
        self.root.write("/etc/apt/sources.list", f"deb [signed-by=/usr/share/keyrings/nvidia.asc] {url} ./\n")
        self.root.run("apt-get", "update")

    def __call__(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        return self.root.module("nvidia_packages", check=check, lock_timeout=5, **arguments)

    def both(self, **arguments: Any) -> dict[str, Any]:
        """The real run, after a check that has to say the same, but that it is still to be done."""
        said, done = self(check=True, **arguments), self(**arguments)
        pending = [one.pop("pending", False) for one in (said, done)]
        for one in (said, done):
            one.pop("invocation", None)
        assert said == done
        assert pending == [done.get("changed", False), False]
        assert not done.get("failed") or done.get("refusals"), done
        return done

    def rpms(self) -> dict[str, str]:
        """What rpm has of NVIDIA's; both versions where a package is there twice."""
        text = self.root.run("rpm", "-qa", "--qf", r"%{NAME} %{VERSION}-%{RELEASE}\n")
        rows: dict[str, str] = {}
        for name, version in sorted(line.split() for line in text.splitlines()):
            if "nvidia" in name or "cud" in name or re.match("libcu(?!rl)", name):
                rows[name] = f"{rows[name]} {version}" if name in rows else version
        return rows

    def versions(self) -> dict[str, str]:
        """What dpkg has of NVIDIA's, with its state before the version where that is not `held and installed`."""
        text = self.root.run("dpkg-query", "-W", "-f", r"${Package} ${db:Status-Abbrev}=${Version}\n")
        rows = {}
        for line in text.splitlines():
            name, _, rest = line.partition(" ")
            status, _, version = rest.partition("=")
            if "nvidia" in name or "cud" in name or re.match("libcu(?!rl)", name):
                rows[name] = version if status == "hi " else f"{status.strip()} {version}"
        return rows

    def record(self, component: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.root.read(f"/etc/tensorflow-gpu-stack/{component}.json"))
        return record

    def candidate(self, name: str) -> str:
        policy = self.root.run("apt-cache", "policy", name)
        return policy.split("Candidate: ")[1].split("\n")[0]


@pytest.fixture
def suite(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "bookworm")


@pytest.fixture
def node(suite: str, doubles: Path, tmp_path: Path) -> Iterator[Node]:
    with serve(doubles) as server, chroot(suite, tmp_path / "node") as root:
        node = Node(root, server, doubles, suite)
        if suite == "el":
            release = "ID=rocky\nID_LIKE='rhel centos fedora'\nVERSION_ID=8.10\nPLATFORM_ID=platform:el8\n"
            (root.path / "etc/os-release").unlink()
            root.write("/etc/os-release", release)
            root.write("/etc/dnf/vars/releasever", "8\n")
        node.use("plain")
        server.requests.clear()
        yield node


def file_of(node: Node, name: str) -> Path:
    return next((node.doubles / "plain" / DISTRIBUTIONS[node.suite]).rglob(name))


# All libraries of CUDA 11.8, whose dependencies float.
CUDA: dict[str, Any] = {
    "component": "cuda",
    "source": "nvidia_repo",
    "packages": [{"name": "cuda-libraries-11-8", "version": None}],
    "belongs": ["cuda-*", "lib*-11-8"],
}


def cudnn(version: str | None, *further: str, **arguments: Any) -> dict[str, Any]:
    packages = [{"name": name, "version": version} for name in ("libcudnn8", *further)]
    wish = {"component": "cudnn", "source": "nvidia_repo", "packages": packages, "belongs": ["libcudnn*"]}
    return {**wish, "allow_downgrade": True, **arguments}


def driver(version: str, *, branch: str | None = "535", **arguments: Any) -> dict[str, Any]:
    wanted = [{"name": name, "version": version} for name in ("nvidia-driver", "nvidia-kernel-dkms")]
    belongs = ["*nvidia*", "libcuda1", "cuda-drivers*"]
    wish = {"component": "driver", "source": "nvidia_repo", "packages": wanted, "belongs": belongs, "branch": branch}
    return {**wish, **arguments}


OLD, MIDDLE = "8.1.0.77-1+cuda11.2", "8.6.0.163-1+cuda11.8"
