"""The check on real TensorFlow, old and new, over doubles of everything below it, spoiled in one way after the other.

Each fault has to come back with its own verdict and its own cause, and none as good: the doubles compute nothing.
"""

from __future__ import annotations

import dataclasses
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.tensorflow_stack.check import doctor
from ansible.module_utils.tensorflow_stack.check.verdicts import GOOD_VERDICTS
from ansible.module_utils.tensorflow_stack.environment.links import link_libraries, point_to_compiler
from ansible.module_utils.tensorflow_stack.io.uv import uv_environment
from ansible.module_utils.tensorflow_stack.planning import door
from ansible.module_utils.tensorflow_stack.tables.load import load_tables
from ansible.module_utils.tensorflow_stack.tables.rows import Release
from ansible.modules import tensorflow_gpu_check
from packaging.specifiers import SpecifierSet

from tests import nodes
from tests.mock_gpu import DOUBLES, Doubles
from tests.needs import Python, python_of, require

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
FILES = REPOSITORY / "roles" / "tensorflow_release" / "files"
TABLES = load_tables(str(FILES / "tables"))
RELEASES = ("2.8.0", "2.21.0")
MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Sep 10 10:10:10 UTC 2024\n"
# A kernel module stands in a mount namespace of its own around the environment's Python.
LOADED = """#!/bin/sh
exec unshare --mount --propagation private sh -c '
mount -t tmpfs none /proc/driver && mkdir /proc/driver/nvidia && cp {text} /proc/driver/nvidia/version && exec "$@"
' sh {python} "$@"
"""

# As below Windows: the GPU's device, and no kernel module.
BELOW_WINDOWS = """#!/bin/sh
exec unshare --mount --propagation private sh -c '
mount -t tmpfs none {dev} && cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom {dev} && touch {dev}/dxg &&
mkdir {dev}/shm && mount --bind /dev/shm {dev}/shm && mount --bind {dev} /dev && exec "$@"
' sh {python} "$@"
"""

# XLA of an old release looks there first.
WITHOUT_CUDA = 'for place in /usr/local/cuda*/; do [ ! -d "$place" ] || mount -t tmpfs none "$place"; done; exec "$@"'
# tanh and exp are libdevice's.
COMPILE = """
import sys, tensorflow as tf
with tf.device("/GPU:0"):
    found = tf.function(lambda x: tf.tanh(x) * tf.exp(-x), jit_compile=True)(tf.ones((4, 4)))
print("compiled on", found.device, file=sys.stderr)
"""

RunModule = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Fault:
    """A row of faults.yml."""

    name: str
    verdict: str
    cause: str
    reason: str
    doubles: Mapping[str, Any] = field(default_factory=dict)
    driver: Sequence[str] = ("libcuda.so.1", "libnvidia-ml.so.1")
    module: str | None = None
    without: str | None = None
    old_cudnn: str | None = None
    gpus: int = 1
    time_limit: float = 120
    without_tensorflow: str | None = None
    releases: Sequence[str] = RELEASES
    slow: Sequence[str] = ()

    def is_slow(self, release: str) -> bool:
        """What is found before TensorFlow starts is found without it too, in seconds: test_doubles_are_never_good."""
        seen_in_ci = (self.name, release) == ("libcufft is missing", RELEASES[0])
        return release in self.slow or (self.without_tensorflow is None and not seen_in_ci)


FAULTS = [Fault(**row) for row in yaml.safe_load((DOUBLES / "faults.yml").read_text(encoding="utf-8"))]
CASES = [
    pytest.param(release, fault, id=f"{release}-{fault.name}", marks=[pytest.mark.slow] * fault.is_slow(release))
    for release in RELEASES
    for fault in FAULTS
    if release in fault.releases
]


class Machine:
    """One release in an environment whose CUDA and cuDNN are doubles, linked as this toolkit links them."""

    def __init__(self, release: Release, root: Path, python: Python, uv: str) -> None:
        self.release, self.floor = release.version, release.cudnn_floor
        self.root, build = root, root / "environment"
        lock = f"cp{python.minor.replace('.', '')}-linux_x86_64-cpu.txt"
        requirements = FILES / "locks" / f"tensorflow-{release.version}" / lock
        subprocess.run([uv, "venv", "-q", "--python", python.path, build], env=uv_environment(), check=True)
        install = [uv, "pip", "install", "-q", "--no-deps", "--require-hashes", "--python", build / "bin/python"]
        subprocess.run([*install, "-r", requirements], env=uv_environment(), check=True)
        self._build, self._site = build, next(build.glob("lib/python3.*/site-packages"))
        doubles = Doubles(self._site, cudnn=self.floor)
        major, minor, _ = (int(part) for part in self.floor.split("."))
        doubles.build_driver(root / "driver")
        doubles.build_libraries(root / "whole")
        self._old_cudnn = doubles.build_cudnn(root / "old", f"{major}.{minor - 1}.0")
        self._links: Collection[str] = ()

    def environment(self, fault: Fault) -> Path:
        """Spoiled as the fault says."""
        for link in self._links:
            (self._build / link).unlink()
        libraries = self.root / "libraries"
        shutil.rmtree(libraries, ignore_errors=True)
        shutil.copytree(self.root / "whole", libraries)
        if fault.old_cudnn == "instead":
            shutil.copy(self._old_cudnn, libraries)
        for library in libraries.glob(f"{fault.without}.so.*"):
            library.unlink()
        site_packages = str(self._site.relative_to(self._build))
        self._links = link_libraries(str(self._build), site_packages, (str(libraries),))
        if fault.module is None:
            return self._build
        loaded = self.root / "loaded"
        (loaded / "bin").mkdir(parents=True, exist_ok=True)
        (loaded / "version").write_text(MODULE.format(fault.module))
        python = loaded / "bin" / "python"
        python.write_text(LOADED.format(text=loaded / "version", python=self._build / "bin" / "python"))
        python.chmod(0o755)
        return loaded

    def library_path(self, fault: Fault) -> str:
        """LD_LIBRARY_PATH: where the driver is, for the loader to find it as it finds a real one."""
        path = self.root / "path"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        for name in fault.driver:
            shutil.copy(self.root / "driver" / name, path)
        if fault.old_cudnn == "first":
            shutil.copy(self._old_cudnn, path)
        return str(path)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Iterator[Callable[[str], Machine]]:
    """The machine with a release, installed at its first use."""
    if platform.machine() != "x86_64":
        pytest.skip("the GPU builds of TensorFlow are for x86_64")
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("the doubles are for machines without a GPU: tests/gpu is for this one")
    require("gcc", "libc6-dev")

    def install(release: str) -> Machine:
        known = TABLES.release(release)
        assert known is not None
        minors = known.pythons["x86_64"]
        python = python_of(*minors)
        if release not in installed:
            root = tmp_path_factory.mktemp("mock_gpu")
            installed[release] = Machine(known, root, python, uv)
        return installed[release]

    installed: dict[str, Machine] = {}
    yield install
    for machine in installed.values():
        shutil.rmtree(machine.root)  # 1.3 GB, 2 GB


@pytest.fixture
def check(run_module: RunModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunModule:
    """Checks a machine with a fault; the rest of the node is one with an A100 and its driver, without a fault."""
    record = nodes.read("a100_driver535", tmp_path)
    monkeypatch.setattr(tensorflow_gpu_check, "read_node", lambda: record)

    def run(machine: Machine, fault: Fault, level: str = "full") -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setenv("LD_LIBRARY_PATH", machine.library_path(fault))
            for name, value in {"PTX": 221, **fault.doubles}.items():
                patch.setenv(f"TEST_DOUBLE_{name}", str(value))
            return run_module(
                "tensorflow_gpu_check",
                environment=str(machine.environment(fault)),
                release=machine.release,
                expect_gpu=True,
                gpu_count=fault.gpus,
                cudnn_floor=machine.floor,
                level=level,
                time_limit=fault.time_limit,
                diagnoses=[row._asdict() for row in TABLES.diagnoses],
            )

    return run


def can_be_made(fault: Fault) -> bool:
    """A kernel module stands in a mount namespace, which root of a machine may make, and of some containers."""
    make = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/proc/driver"]
    return not fault.module or subprocess.run(make, stderr=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize(("release", "fault"), CASES)
def test_a_fault_has_its_own_verdict_and_cause(
    check: RunModule, machines: Callable[[str], Machine], release: str, fault: Fault
) -> None:
    if not can_be_made(fault):
        pytest.skip("this user may not make the mount namespace that the kernel module stands in")
    result = check(machines(release), fault)
    print(f"{release} {fault.name}: {result['msg']}")
    for cause in result["causes"]:
        print("   ", cause["cause"], cause["evidence"])
    print("\n".join(result["stderr_tail"]))
    assert result["failed"]
    assert result["verdict"] == fault.verdict
    assert fault.reason in result["reason"]
    assert result["causes"][0]["cause"] == fault.cause
    if fault.verdict == "wrong_numbers":
        assert result["report"]["gpu"] == "present"
    if fault.cause == "cudnn_shadowed":
        assert result["causes"][0]["says"].count("/libcudnn.so.") == 2


@pytest.mark.parametrize("release", RELEASES)
def test_doubles_are_never_good(check: RunModule, machines: Callable[[str], Machine], release: str) -> None:
    """By the cases above with TensorFlow, here without it: what does not need TensorFlow is told all the same."""
    assert not {fault.verdict for fault in FAULTS} & set(GOOD_VERDICTS)
    for fault in FAULTS:
        if release in fault.releases and can_be_made(fault):
            result = check(machines(release), dataclasses.replace(fault, time_limit=10), level="libraries")
            assert result["failed"]
            assert result["verdict"] == (fault.without_tensorflow or fault.verdict), f"{fault.name}: {result['reason']}"
            assert result["verdict"] not in GOOD_VERDICTS
            assert result["report"]["tensorflow_version"] is None
            if fault.without_tensorflow is None:
                assert fault.reason in result["reason"], fault.name
            if fault.cause == "cudnn_shadowed":
                assert result["causes"][0]["says"].count("/libcudnn.so.") == 2


@dataclass(frozen=True)
class Windows:
    """A node of WSL 2 with an environment of 2.8.0: the doubles are the driver of Windows."""

    environment: Path
    libraries: Path

    @classmethod
    def make(cls, machine: Machine, root: Path, *, has_driver: bool = True) -> Windows:
        place, libraries, dev = root / "environment", root / "usr" / "lib" / "wsl" / "lib", root / "dev"
        for directory in (place / "bin", libraries, dev):
            directory.mkdir(parents=True)
        python = place / "bin" / "python"
        build = machine.environment(Fault("none", "", "", ""))
        python.write_text(BELOW_WINDOWS.format(dev=dev, python=build / "bin" / "python"))
        python.chmod(0o755)
        if has_driver:
            shutil.copy(machine.root / "driver" / "libcuda.so.1", libraries / "libcuda.so.1.1")
            (libraries / "libcuda.so.1").symlink_to("libcuda.so.1.1")
            shutil.copy(machine.root / "driver" / "libnvidia-ml.so.1", libraries)
        return cls(place, libraries)


@pytest.mark.parametrize(
    ("has_driver", "settings", "verdict", "reason"),
    [
        # The doubles are found, as on a node of Linux, and compute nothing.
        (True, {}, "wrong_numbers", "matmul on /device:GPU:0: 4096 of 4096 values differ"),
        pytest.param(True, {"cuInit": "100"}, "gpu_missing", "CUDA_ERROR_NO_DEVICE", marks=pytest.mark.slow),
        pytest.param(True, {"CUDA": "10020"}, "driver_too_old", "The driver is for CUDA 10.2", marks=pytest.mark.slow),
        (False, {}, "driver_missing", "the driver is that of Windows, whose libraries are in /usr/lib/wsl/lib"),
    ],
    ids=["driver of Windows", "no device", "old driver of Windows", "no driver in Windows"],
)
def test_wsl_goes_through_plan_build_check_and_doctor(
    run_module: RunModule,
    machines: Callable[[str], Machine],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    has_driver: bool,
    settings: Mapping[str, str],
    verdict: str,
    reason: str,
) -> None:
    if not can_be_made(Fault("none", "", "", "", module="575.0")):
        pytest.skip("this user may not make the mount namespace that the device stands in")
    machine, record = machines("2.8.0"), nodes.read("wsl_ubuntu2404", tmp_path)
    python = {"version": "3.10.1", "minor": "3.10", "path": "/usr/bin/python3.10", "origin": "system"}
    record["pythons"] = [{**python, "ensurepip": True, "distutils": True, "public": True}]
    plan = door.plan_for(
        release="2.8.0",
        requirements_path=None,
        node=record,
        environment=None,
        policy={},
        tables_directory=str(FILES / "tables"),
        shipped_locks=str(FILES / "locks"),
        locks=str(tmp_path / "locks"),
    )["plan"]
    assert (plan["refusals"], plan["flavour"], plan["verdict"], plan["roles"]) == ([], "cuda", "ok", [])
    windows = Windows.make(machine, tmp_path / "windows", has_driver=has_driver)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(windows.libraries))
    for name, value in {"PTX": "221", **settings}.items():
        monkeypatch.setenv(f"TEST_DOUBLE_{name}", value)
    for module in (tensorflow_gpu_check, doctor):
        monkeypatch.setattr(module, "read_node", lambda **_: record)
    rows = [row._asdict() for row in TABLES.diagnoses]
    result = run_module(
        "tensorflow_gpu_check",
        environment=str(windows.environment),
        release="2.8.0",
        expect_gpu=plan["verdict"] == "ok",
        gpu_count=len(plan["gpus"]),
        gpu_addresses=[gpu["pci_address"] for gpu in plan["gpus"] if gpu["pci_address"]],
        cudnn_floor=plan["cudnn"]["floor"],
        time_limit=120,
        diagnoses=rows,
    )
    print(result["msg"], result["causes"])
    assert (result["verdict"], result["failed"]) == (verdict, True)
    assert reason in result["reason"]
    assert "kernel module" not in result["reason"]
    examined = doctor.examine_node(rows, python=str(windows.environment / "bin" / "python"), time_limit=120)
    assert examined.verdict == verdict
    advice = " ".join(cause.do for cause in examined.causes)
    assert "modprobe" not in advice and "apt" not in advice


@pytest.mark.slow  # it fetches NVIDIA's compiler, and proves one release
def test_xla_before_2_14_finds_the_compiler_of_its_environment(machines: Callable[[str], Machine], uv: str) -> None:
    if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("a CUDA of this machine is hidden in a mount namespace, which this user may not make")
    machine = machines("2.8.0")
    fault = Fault("none", "", "", "")
    build, library_path = machine.environment(fault), machine.library_path(fault)
    row = next(row for row in TABLES.cuda_wheels if machine.release in SpecifierSet(row.releases))
    nvcc = next(name for name in row.requirements if name.startswith("nvidia-cuda-nvcc"))
    python = build / "bin" / "python"
    subprocess.run([uv, "pip", "install", "-q", "--python", python, nvcc], env=uv_environment(), check=True)

    def compiled() -> str:
        command = ["unshare", "--mount", "sh", "-c", WITHOUT_CUDA, "sh", python, "-c", COMPILE]
        environment = {"LD_LIBRARY_PATH": library_path}
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/").stderr

    assert "libdevice not found at" in compiled()
    (packages,) = build.glob("lib/python3.*/site-packages")
    point_to_compiler(str(build), str(packages.relative_to(build)), machine.release)
    said = compiled()
    assert "libdevice not found" not in said, said
    assert re.search("compiled on .*GPU:0", said), said


def test_the_documentation_says_what_was_seen() -> None:
    said = (REPOSITORY / "docs" / "check.md").read_text(encoding="utf-8")
    cause = "[{0}](troubleshooting.md#{0})"
    rows = [f"| {fault.name} | `{fault.verdict}` | {cause.format(fault.cause)} |" for fault in FAULTS]
    assert [row for row in rows if row not in said] == [], "\n".join(rows)
