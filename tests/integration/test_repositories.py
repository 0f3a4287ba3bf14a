"""The doubles of NVIDIA's repositories do for real apt and dnf what NVIDIA's do: each in a private root.

apt and dnf are this machine's; their configuration, state and target are below the test's folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.node.files import NodeFiles
from ansible.module_utils.tensorflow_stack.node.libraries import find_cuda, find_cudnn, find_libcuda
from ansible.module_utils.tensorflow_stack.node.loader import read_loader

from tests.needs import require
from tests.repositories.contents import Contents
from tests.repositories.make_repositories import PACKAGES, Options, make_repositories
from tests.repositories.packages import Libraries, build_debs
from tests.repositories.redist import make_redist
from tests.repositories.serve import Server, serve

pytestmark = pytest.mark.integration

CUDNN = "libcudnn8=8.1.0.77-1+cuda11.2"
NEWER_CUDNN = "libcudnn8=8.6.0.163-1+cuda11.8"
KERNEL_HEADERS = "Your kernel headers for kernel"
# The whole of a driver on Debian, whose names carry no branch.
DRIVER = (
    "cuda-drivers-{branch} nvidia-driver nvidia-driver-libs libcuda1 libnvidia-ml1 libnvidia-ptxjitcompiler1 nvidia-smi"
    " nvidia-alternative nvidia-modprobe nvidia-kernel-dkms nvidia-kernel-support"
)


@dataclass(frozen=True)
class Result:
    returncode: int
    output: str


def execute(*argv: str | Path, env: dict[str, str] | None = None) -> Result:
    environment = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", **(env or {})}
    command = [str(word) for word in argv]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return Result(done.returncode, done.stdout + done.stderr)


@dataclass(frozen=True)
class Apt:
    """This machine's apt with a root, sources and state of its own."""

    root: Path
    url: str
    key: Path
    distribution: str = "debian12"

    def __post_init__(self) -> None:
        below = {
            "etc/apt": ("preferences.d", "apt.conf.d"),
            "var": (
                "lib/dpkg/updates",
                "lib/dpkg/info",
                "lib/apt/lists/partial",
                "cache/apt/archives/partial",
                "log/apt",
            ),
        }
        for parent, paths in below.items():
            for path in paths:
                (self.root / parent / path).mkdir(parents=True, exist_ok=True)
        (self.root / "var/lib/dpkg/status").touch()
        source = f"deb [signed-by={self.key}] {self.url}/{self.distribution}/x86_64 ./\n"
        (self.root / "etc/apt/sources.list").write_text(source)
        # Scripts run in place and are told the root: there is nothing in it that they could run.
        options = [f"--root={self.root}", "--force-script-chrootless", f"--log={self.root}/var/log/dpkg.log"]
        rows = [
            f'Dir "{self.root}/";',
            f'Dir::State::status "{self.root}/var/lib/dpkg/status";',
            f'Dir::Etc::Parts "{self.root}/etc/apt/apt.conf.d";',
            'APT::Architecture "amd64"; APT::Architectures { "amd64"; };',
            'APT::Sandbox::User "root";',
            'Acquire::Retries "0"; Acquire::Languages "none";',
            *[f'DPkg::Options:: "{option}";' for option in options],
        ]
        (self.root / "apt.conf").write_text("\n".join(rows))

    def run(self, *arguments: str) -> Result:
        env = {"APT_CONFIG": str(self.root / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
        return execute("apt-get", "--assume-yes", *arguments, env=env)

    def update(self) -> Result:
        return self.run("update", "--error-on=any")

    def install(self, *packages: str) -> Result:
        return self.run("install", "--no-install-recommends", "--allow-downgrades", *packages)

    def simulate(self, *packages: str) -> dict[str, str]:
        """The packages that apt would install, with their versions."""
        result = self.run("install", "--simulate", "--no-install-recommends", *packages)
        assert result.returncode == 0, result.output
        return dict(re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+)", result.output, re.MULTILINE))

    def status(self, package: str) -> str:
        wanted = "--showformat=${db:Status-Abbrev}${Version}"
        return execute("dpkg-query", f"--admindir={self.root}/var/lib/dpkg", "--show", wanted, package).output.strip()


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require(*PACKAGES, root=True)
    directory = tmp_path_factory.mktemp("repositories")
    make_repositories(directory)
    return directory


@pytest.fixture
def server(repositories: Path) -> Iterator[Server]:
    with serve(repositories) as running:
        yield running


@pytest.fixture
def apt(server: Server, repositories: Path, tmp_path: Path) -> Apt:
    require(*PACKAGES, root=True)
    return Apt(tmp_path / "root", server.url, repositories / "debian12/x86_64/3bf863cc.pub")


class TestApt:
    def test_an_exact_version_and_down_and_up_again(self, apt: Apt) -> None:
        assert apt.update().returncode == 0
        for package in (CUDNN, NEWER_CUDNN, CUDNN):
            result = apt.install(package)
            assert result.returncode == 0, result.output
            assert apt.status("libcudnn8") == f"ii {package.split('=')[1]}"

    @pytest.mark.parametrize("distribution", ["debian11", "debian13", "ubuntu2204"])
    def test_the_other_distributions(self, apt: Apt, repositories: Path, distribution: str) -> None:
        key = "8793F200.pub" if distribution == "debian13" else "3bf863cc.pub"
        other = replace(apt, distribution=distribution, key=repositories / distribution / "x86_64" / key)
        result = other.update()
        assert result.returncode == 0, result.output
        assert other.simulate(CUDNN) == {"libcudnn8": "8.1.0.77-1+cuda11.2"}

    def test_the_libraries_are_where_a_node_record_looks(self, apt: Apt) -> None:
        apt.update()
        driver = [f"{name}=535.309.01-1" for name in DRIVER.format(branch="535").split()]
        result = apt.install("cuda-toolkit-11-2=11.2.2-1", CUDNN, *driver)
        assert result.returncode == 0, result.output
        found = read_loader(NodeFiles(str(apt.root)))
        cuda = find_cuda(found)
        assert [(row["version"], row["prefix"]) for row in cuda] == [("11.2", "/usr/local/cuda-11.2")]
        assert [row["version"] for row in find_cudnn(found, cuda)] == ["8.1.0"]
        assert [Path(path).name for path in find_libcuda(found)] == ["libcuda.so.535.309.01"]

    def test_what_nvidia_s_packages_change_for_the_whole_machine(self, apt: Apt) -> None:
        apt.update()
        assert apt.install("cuda-toolkit-11-2", "cuda-toolkit-11-8").returncode == 0
        assert os.readlink(apt.root / "usr/local/cuda") == "/etc/alternatives/cuda"
        assert os.readlink(apt.root / "etc/alternatives/cuda") == "/usr/local/cuda-11.8"
        assert (apt.root / "etc/ld.so.conf.d/000_cuda.conf").exists()

    def test_a_branch_does_not_hold_by_its_name(self, apt: Apt) -> None:
        apt.update()
        assert apt.simulate("cuda-drivers-550")["nvidia-driver"] == "580.159.04-1"
        assert "unmet dependencies" in apt.run("install", "--simulate", "cuda-drivers-535=535.104.05-1").output
        whole = [f"{name}=535.104.05-1" for name in DRIVER.format(branch="535").split()]
        assert set(apt.simulate(*whole).values()) == {"535.104.05-1"}

    def test_a_transitional_package_leads_to_another_branch(self, apt: Apt, repositories: Path) -> None:
        ubuntu = replace(apt, distribution="ubuntu2204", key=repositories / "ubuntu2204/x86_64/3bf863cc.pub")
        ubuntu.update()
        assert "nvidia-dkms-535" in ubuntu.simulate("nvidia-driver-470")

    def test_a_version_that_is_gone_and_one_that_is_only_listed(self, apt: Apt) -> None:
        apt.update()
        gone = apt.install("libcudnn8=8.3.3.40-1+cuda11.5")
        assert gone.returncode and "was not found" in gone.output
        deleted = apt.install("libcudnn8=8.2.4.15-1+cuda11.4")
        assert deleted.returncode and "404" in deleted.output
        assert "ii" not in apt.status("libcudnn8")

    def test_a_postinst_that_fails_as_dkms_does(self, apt: Apt) -> None:
        apt.update()
        flag = apt.root / "etc/repository-double/dkms-fails"
        flag.parent.mkdir(parents=True)
        flag.touch()
        result = apt.install("nvidia-kernel-dkms")
        assert result.returncode and KERNEL_HEADERS in result.output
        assert apt.status("nvidia-kernel-dkms").startswith("iF")
        flag.unlink()
        assert apt.run("install", "--fix-broken").returncode == 0
        assert apt.status("nvidia-kernel-dkms").startswith("ii")

    def test_a_newer_candidate_appears_and_a_version_vanishes(self, apt: Apt, tmp_path: Path) -> None:
        apt.update()
        assert apt.simulate("libcudnn8")["libcudnn8"] == "8.9.7.29-1+cuda12.2"
        later = tmp_path / "later"
        make_repositories(later, Options(newer=True, without=(CUDNN,), distributions=("debian12",)))
        with serve(later) as server:
            moved = replace(apt, url=server.url)
            assert moved.update().returncode == 0
            assert moved.simulate("libcudnn8")["libcudnn8"] == "8.999.0.1-1+cuda12.2"
            assert "was not found" in moved.install(CUDNN).output

    def test_a_rotated_key(self, apt: Apt, tmp_path: Path) -> None:
        later = tmp_path / "later"
        make_repositories(later, Options(key="second", distributions=("debian12",)))
        with serve(later) as server:
            retired = replace(apt, url=server.url)
            assert retired.update().returncode != 0
            assert retired.install(CUDNN).returncode != 0
            renewed = replace(apt, url=server.url, key=later / "debian12/x86_64/second.pub")
            assert renewed.update().returncode == 0
            assert renewed.install(CUDNN).returncode == 0

    @pytest.mark.parametrize("rule", ["tamper:*/InRelease", "tamper:*/Packages*", "503:*", "drop=100:*/Packages*"])
    def test_faults_of_the_index(self, apt: Apt, server: Server, rule: str) -> None:
        server.faults = [rule]
        assert apt.update().returncode != 0
        assert apt.install(CUDNN).returncode != 0
        server.faults = []
        assert apt.update().returncode == 0
        assert apt.install(CUDNN).returncode == 0

    @pytest.mark.parametrize("rule", ["tamper:*.deb", "404:*.deb", "drop=500:*.deb"])
    def test_faults_of_the_packages(self, apt: Apt, server: Server, rule: str) -> None:
        apt.update()
        server.faults = [rule]
        assert apt.install(CUDNN).returncode != 0
        assert "ii" not in apt.status("libcudnn8")


@dataclass(frozen=True)
class Dnf:
    """This machine's dnf with an install root, sources and state of its own."""

    root: Path
    url: str
    key: Path

    def __post_init__(self) -> None:
        (self.root / "repos").mkdir(parents=True, exist_ok=True)
        (self.root / "target").mkdir(exist_ok=True)
        rows = {"gpgcheck": 1, "repo_gpgcheck": 1, "retries": 1, "gpgkey": self.key.as_uri()}
        repository = {"name": "cuda", "baseurl": f"{self.url}/rhel8/x86_64", **rows}
        lines = [f"{name}={value}" for name, value in repository.items()]
        (self.root / "repos/cuda.repo").write_text("\n".join(["[cuda-rhel8-x86_64]", *lines, ""]))
        settings = {"reposdir": "repos", "cachedir": "cache", "logdir": "log", "persistdir": "persist"}
        lines = [f"{name}={self.root / path}" for name, path in settings.items()]
        lines += ["assumeyes=1", "plugins=0", "module_platform_id=platform:el8"]
        (self.root / "dnf.conf").write_text("\n".join(["[main]", *lines, ""]))

    def run(self, *arguments: str) -> Result:
        place = [f"--config={self.root / 'dnf.conf'}", f"--installroot={self.root / 'target'}", "--releasever=8"]
        return execute("dnf", *place, *arguments)

    def installed(self) -> set[str]:
        return set(execute("rpm", "--root", self.root / "target", "--query", "--all").output.split())


class TestDnf:
    @pytest.fixture
    def dnf(self, server: Server, repositories: Path, tmp_path: Path) -> Dnf:
        require("dnf", *PACKAGES, root=True)
        return Dnf(tmp_path / "dnf", server.url, repositories / "rhel8/x86_64/D42D0685.pub")

    def test_an_exact_version_and_down(self, dnf: Dnf) -> None:
        for verb, version in (("install", "8.6.0.163-1.cuda11.8"), ("downgrade", "8.1.0.77-1.cuda11.2")):
            result = dnf.run(verb, f"libcudnn8-{version}")
            assert result.returncode == 0, result.output
            assert f"libcudnn8-{version}.x86_64" in dnf.installed()

    def test_a_version_that_is_gone(self, dnf: Dnf) -> None:
        result = dnf.run("install", "libcudnn8-8.3.3.40-1.cuda11.5")
        assert result.returncode and "No match" in result.output

    def test_the_streams_of_the_driver(self, dnf: Dnf) -> None:
        for branch, version in (("580", "580.159.04"), ("535", "535.309.01")):
            assert dnf.run("module", "reset", "nvidia-driver").returncode == 0
            result = dnf.run("module", "enable", f"nvidia-driver:{branch}-dkms")
            assert result.returncode == 0, result.output
            result = dnf.run("distro-sync" if dnf.installed() else "install", "nvidia-driver", "nvidia-driver-cuda")
            assert result.returncode == 0, result.output
            assert f"nvidia-driver-{version}-1.el8.x86_64" in dnf.installed()

    def test_a_rotated_key(self, dnf: Dnf, tmp_path: Path) -> None:
        later = tmp_path / "later"
        make_repositories(later, Options(key="second", distributions=("rhel8",)))
        with serve(later) as server:
            retired = replace(dnf, url=server.url)
            assert retired.run("install", "libcudnn8").returncode != 0
            assert not dnf.installed()
            shutil.rmtree(dnf.root)
            renewed = replace(dnf, url=server.url, key=later / "rhel8/x86_64/second.pub")
            result = renewed.run("install", "libcudnn8")
            assert result.returncode == 0, result.output

    def test_a_tampered_index(self, dnf: Dnf, server: Server) -> None:
        server.faults = ["tamper:*/repomd.xml"]
        assert dnf.run("install", "libcudnn8").returncode != 0
        assert not dnf.installed()


class TestArchives:
    @pytest.mark.parametrize("product", ["cuda", "cudnn"])
    def test_every_archive_is_what_its_manifest_says(self, repositories: Path, product: str) -> None:
        manifests = sorted((repositories / "redist" / product).glob("redistrib_*.json"))
        assert manifests
        for manifest in manifests:
            for entry in entries(json.loads(manifest.read_text())):
                body = (manifest.parent / entry["relative_path"]).read_bytes()
                assert entry["sha256"] == hashlib.sha256(body).hexdigest(), manifest.name
                assert entry["size"] == str(len(body)), manifest.name
                with tarfile.open(manifest.parent / entry["relative_path"]) as archive:
                    stem = Path(entry["relative_path"]).name.removesuffix(".tar.xz")
                    assert {name.split("/")[0] for name in archive.getnames()} == {stem}

    def test_the_old_layout(self, repositories: Path) -> None:
        path = "compute/redist/cudnn/v8.1.0/cudnn-11.2-linux-x64-v8.1.0.77.tgz"
        with tarfile.open(repositories / path) as archive:
            assert {"cuda/lib64/libcudnn.so.8.1.0", "cuda/include/cudnn_version.h"} <= set(archive.getnames())

    def test_of_the_hostile_ones_only_the_wrong_ones_do_not_match(self, repositories: Path) -> None:
        wrong = set()
        for manifest in (repositories / "redist/hostile").glob("redistrib_*.json"):
            (entry,) = entries(json.loads(manifest.read_text()))
            body = (manifest.parent / entry["relative_path"]).read_bytes()
            if (hashlib.sha256(body).hexdigest(), str(len(body))) != (entry["sha256"], entry["size"]):
                wrong.add(manifest.stem)
        assert wrong == {"redistrib_wrong_hash", "redistrib_wrong_size"}


def entries(manifest: dict[str, object]) -> list[dict[str, str]]:
    """Every archive that a manifest names, those by CUDA's major as well."""
    found = []
    for component in manifest.values():
        if isinstance(component, dict):
            platform = component["linux-x86_64"]
            found += [platform] if "sha256" in platform else list(platform.values())
    return found


class TestMaking:
    def test_what_there_is_not_is_refused(self, tmp_path: Path) -> None:
        require(*PACKAGES, root=True)
        with pytest.raises(RuntimeError, match="no repository has libcudnn8=1"):
            make_repositories(tmp_path / "new", Options(without=("libcudnn8=1",)))

    def test_a_folder_of_something_else_is_not_emptied(self, tmp_path: Path) -> None:
        require(*PACKAGES, root=True)
        (tmp_path / "precious").touch()
        with pytest.raises(RuntimeError, match="holds something else"):
            make_repositories(tmp_path)
        assert (tmp_path / "precious").exists()

    def test_the_same_bytes_again(self, repositories: Path, tmp_path: Path) -> None:
        """What is built without the cache is what the cache holds; RPMs differ by their signatures."""
        contents, libraries = Contents.load(), Libraries(tmp_path / "libraries")
        build_debs(contents.packages("cudnn8", "deb"), libraries, tmp_path / "debian12/x86_64")
        make_redist(contents, libraries, tmp_path / "redist")
        made = [path for path in tmp_path.rglob("*") if path.suffix in (".deb", ".xz", ".tgz", ".json")]
        compared = [path for path in made if (repositories / path.relative_to(tmp_path)).exists()]
        assert len(compared) > 100
        for path in compared:
            assert path.read_bytes() == (repositories / path.relative_to(tmp_path)).read_bytes(), path.name
