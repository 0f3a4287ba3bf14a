"""Debian's own CUDA, for real: from an empty host to TensorFlow bound to it, and down by the environment alone.

Driver, CUDA, Python and TensorFlow are Debian's and the real ones, several GB. Doubled are the kernel's view of a GPU
and of its loaded driver (tests/hosts/stand_ins.py) and, after the installation, libcuda, so that TensorFlow goes on to
open its libraries. Without it Debian's libcuda says that there is no device, and the check does: here that ends a run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.container import Host, running
from tests.needs import require
from tests.playbooks import ANSIBLE_PLAYBOOK, REPOSITORY, Run, run_playbook

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FREE_GIGABYTES = 15
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
CUDA_LIBRARY = re.compile(r"lib(cu(?!rl)|nv)")
# Without a driver that Debian 11's mirrors no longer have all files of.
PINS = {"debian-11": "Package: *nvidia* libcuda1 libnv*\nPin: version 470.*\nPin-Priority: 1001\n"}

LIST_GPUS = """\
import json, tensorflow
details = tensorflow.config.experimental.get_device_details
gpus = [details(gpu)["device_name"] for gpu in tensorflow.config.list_physical_devices("GPU")]
paths = {line.split(None, 5)[5].rstrip() for line in open("/proc/self/maps") if "/" in line}
print("SEEN", json.dumps({"gpus": gpus, "mapped": sorted(paths)}))
"""


@dataclass(frozen=True)
class Case:
    """`libraries` are the files of Debian's CUDA that TensorFlow opens."""

    image: str
    driver: str
    releases: tuple[str, str]
    cuda: str
    libraries: frozenset[str]


CASES = [
    Case(
        "debian-11",
        "470.256.02",
        ("2.10.1", "2.8.0"),
        "11.2",
        frozenset(
            {
                *("libcudart.so.11.2.152", "libcublas.so.11.4.1.1043", "libcublasLt.so.11.4.1.1043"),
                *("libcufft.so.10.4.1.152", "libcurand.so.10.2.3.152", "libcusolver.so.11.1.0.152"),
                "libcusparse.so.11.4.1.1152",
            }
        ),
    ),
    Case(
        "debian-12",
        "535.309.01",
        ("2.13.1", "2.12.1"),
        "11.8",
        frozenset(
            {
                *("libcudart.so.11.8.89", "libcublas.so.11.11.3.6", "libcublasLt.so.11.11.3.6"),
                *("libcufft.so.10.9.0.58", "libcurand.so.10.3.0.86", "libcusolver.so.11.4.1.48"),
                *("libcusparse.so.11.7.5.86", "libnvrtc.so.11.8.89"),
            }
        ),
    ),
]


@dataclass(frozen=True)
class Node:
    host: Host
    case: Case
    reports: Path

    def play(self, playbook: str, release: str, *options: str) -> tuple[Run, dict[str, Any]]:
        variables = {
            "tensorflow_version": release,
            "cuda_source": "distro",
            "cudnn_source": "wheels",
            "nvidia_driver_source": "distro",
            "stack_report_directory": str(self.reports),
        }
        command = [str(ANSIBLE_PLAYBOOK), "-i", str(self.host.inventory), f"playbooks/{playbook}.yml", *options]
        command += ["-e", json.dumps(variables)]
        report = self.reports / "host.json"
        report.unlink(missing_ok=True)
        run = run_playbook(command, directory=REPOSITORY, environ=dict(self.host.variables))
        assert report.exists(), run.output
        return run, json.loads(report.read_text())

    def packages(self) -> str:
        return self.host.run("dpkg-query", "--show")


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.image)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    case = request.param
    free = shutil.disk_usage(REPOSITORY).free / 10**9
    if free < FREE_GIGABYTES:
        pytest.skip(f"needs {FREE_GIGABYTES} GB, {free:.1f} GB are free")
    driver = {"version": case.driver, "kind": "proprietary"}
    with running(case.image, testhost_pci="a100", testhost_driver=driver, testhost_modules=["nvidia_uvm"]) as host:
        if case.image in PINS:
            host.put("/etc/apt/preferences.d/driver", PINS[case.image])
        yield Node(host, case, tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("gcc", "libc6-dev")
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = REPOSITORY / "tests" / "doubles" / "libcuda.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def assert_built_up_to_the_check(run: Run, report: dict[str, Any]) -> None:
    assert run.code != 0
    assert report["done"] and report["done"]["build"], run.output
    assert report["check"]["verdict"] in ("gpu_missing", "driver_failed"), run.output


def opened(node: Node, double: Path, release: str) -> dict[str, str]:
    """CUDA's libraries by name, with their directory, as TensorFlow opens them with a driver that lists a GPU."""
    node.host.put("/srv/list_gpus.py", LIST_GPUS)
    node.host.copy(double, "/usr/local/lib/libcuda.so.1")
    node.host.run("ldconfig")
    try:
        said = node.host.run("env", "-i", f"/opt/tensorflow/tensorflow-{release}/bin/python", "/srv/list_gpus.py")
    finally:
        node.host.run("rm", "/usr/local/lib/libcuda.so.1")
        node.host.run("ldconfig")
    seen = json.loads(said.partition("SEEN ")[2].splitlines()[0])
    assert seen["gpus"] == ["test double"], said
    return {os.path.basename(path): os.path.dirname(path) for path in seen["mapped"] if is_cuda(path)}


def assert_bound(libraries: dict[str, str], node: Node, release: str) -> None:
    ours = {name: directory for name, directory in libraries.items() if not name.startswith("libcuda.so")}
    cudnn = ours.pop("libcudnn.so.8")
    assert f"/tensorflow-{release}-" in cudnn and cudnn.endswith("/site-packages/nvidia/cudnn/lib")
    assert ours == dict.fromkeys(node.case.libraries, LIBRARIES)


def is_cuda(path: str) -> bool:
    return CUDA_LIBRARY.match(os.path.basename(path)) is not None


def test_from_nothing_to_the_newer_release(node: Node, double: Path) -> None:
    release = node.case.releases[0]
    run, report = node.play("workstation", release)
    assert_built_up_to_the_check(run, report)
    steps = {step["component"]: step for step in report["plan"]["steps"]}
    assert {name for name, step in steps.items() if step["action"] == "install"} >= {"driver", "cuda", "environment"}
    assert report["plan"]["cuda"]["version"] == node.case.cuda
    assert report["plan"]["lock"]["flavour"] == "cudnn"
    assert_bound(opened(node, double, release), node, release)


def test_down_to_the_older_release_touches_the_environment_alone(node: Node, double: Path) -> None:
    newer, release = node.case.releases
    packages = node.packages()
    live = node.host.run("readlink", f"/opt/tensorflow/tensorflow-{newer}")
    run, report = node.play("workstation", release)
    assert_built_up_to_the_check(run, report)
    steps = {step["component"]: step["action"] for step in report["plan"]["steps"]}
    assert {name: action for name, action in steps.items() if action not in ("keep", "skip")} == {
        "environment": "install"
    }
    assert node.packages() == packages
    assert node.host.run("readlink", f"/opt/tensorflow/tensorflow-{newer}") == live
    assert_bound(opened(node, double, release), node, release)


def test_a_second_run_changes_nothing(node: Node) -> None:
    run, report = node.play("workstation", node.case.releases[1])
    assert report["done"]["action"] == "keep", run.output
    assert run.changed == {"host": 0}
