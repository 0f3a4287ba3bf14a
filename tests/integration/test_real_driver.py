"""The check, the doctor, the node record and the plan on NVIDIA's real libcuda, NVML and nvidia-smi, 390 to 550.

There is no GPU: what is proven is what fails before one is needed. tests/real_driver.py says what is real.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.check.verdicts import judge
from ansible.module_utils.tensorflow_stack.io.uv import uv_environment
from ansible.module_utils.tensorflow_stack.planning import resolution
from ansible.module_utils.tensorflow_stack.planning.node import NodeFacts
from ansible.module_utils.tensorflow_stack.planning.stack import Policy

from tests.chroots import REPOSITORY
from tests.needs import require
from tests.playbooks import Site
from tests.real_driver import GPU_NODE, TABLES, Node, Parts, real_driver

pytestmark = pytest.mark.integration


def beside(branch: str, cuda: str, name: str) -> Parts:
    """One of those that Debian 11 has beside its own driver; 450 brings 470 with it and is passed over for that."""
    packages = (f"libnvidia-{name}-cuda1", f"libnvidia-{name}-ml1", f"nvidia-{name}-smi")
    return Parts(branch, "bullseye", cuda, packages, name if branch == "450" else None)


PARTS = [
    beside("390", "9.1", "legacy-390xx"),
    beside("418", "10.1", "tesla-418"),
    beside("450", "11.0", "tesla-450"),
    Parts("470", "bullseye", "11.4"),
    Parts("535", "bookworm", "12.2"),
    Parts("550", "trixie", "12.4"),
]
IN_CI = ("550",)

# cudart's lock: that of a release for CUDA 12.
CUDA_12_LOCK = REPOSITORY / "roles/tensorflow_release/files/locks/tensorflow-2.15.1/cp310-linux_x86_64-cuda.txt"
ASK_CUDART = """
import ctypes, json, sys
cudart = ctypes.CDLL(sys.argv[1])
code = cudart.cudaGetDeviceCount(ctypes.byref(ctypes.c_int()))
cudart.cudaGetErrorString.restype = ctypes.c_char_p
print(json.dumps([code, cudart.cudaGetErrorString(code).decode()]))
"""


def slow_beside(parts: Parts) -> Any:
    return pytest.param(parts, id=parts.branch, marks=[] if parts.branch in IN_CI else [pytest.mark.slow])


@pytest.fixture(scope="module", params=map(slow_beside, PARTS))
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    require("mmdebstrap", root=True)
    with real_driver(request.param, tmp_path_factory.mktemp(request.param.branch) / "node") as node:
        yield node


@pytest.fixture(autouse=True)
def fresh(node: Node) -> None:
    node.unload()
    (node.root.path / GPU_NODE.lstrip("/")).unlink(missing_ok=True)


def add_gpu_that_does_not_start(node: Node) -> None:
    node.root.run("mknod", GPU_NODE, "c", "195", "0")


def test_the_node_record_has_what_is_installed_and_what_is_loaded(node: Node) -> None:
    driver = node.record()["driver"]
    assert (driver["installed"], driver["loaded"]) == (node.installed, None)
    assert len(driver["other_libcuda"]) == (1 if node.parts.branch == "450" else 0)
    for kind in ("proprietary", "open"):
        node.load(node.installed, kind=kind)
        driver = node.record()["driver"]
        assert (driver["loaded"], driver["kind"]) == (node.installed, kind)


def test_a_driver_that_is_not_loaded(node: Node) -> None:
    result = node.check()
    assert result["verdict"] == "driver_failed"
    assert ("CUDA_ERROR_UNKNOWN" if node.parts.branch == "390" else "CUDA_ERROR_NO_DEVICE") in result["reason"]
    assert "no kernel module nvidia is loaded" in result["reason"]
    assert result["report"]["driver"]["nvml"]["text"] == "Driver Not Loaded"
    assert node.causes()[0] == "driver_not_loaded"

    status, said = node.nvidia_smi()
    assert status == 9
    assert node.causes(text=said) == ["driver_not_loaded"]


def test_a_driver_without_a_device(node: Node) -> None:
    node.load(node.installed)
    result = node.check()
    assert result["verdict"] == "gpu_missing", result["reason"]
    libcuda = result["report"]["driver"]["libcuda"]
    assert (libcuda["code"], libcuda["cuda"]) == (100, node.parts.cuda)


def test_a_gpu_that_does_not_start(node: Node) -> None:
    node.load(node.installed)
    add_gpu_that_does_not_start(node)
    result = node.check()
    assert result["verdict"] in ("gpu_missing", "driver_failed")
    nvml = result["report"]["driver"]["nvml"]
    assert (nvml["code"], nvml["driver"]) == (0, node.installed)
    # Up to 450 NVML counts it, and has no handle of it.
    is_counted = int(node.parts.branch) <= 450
    assert nvml["gpus"] == ([{"index": 0, "error": 999}] if is_counted else [])
    cause = "gpu_lost" if is_counted else "no_device"
    for options in ((), ("-L",)):
        _, said = node.nvidia_smi(*options)
        assert said.lower().startswith("unable to determine the device handle" if is_counted else "no devices")
        assert node.causes(text=said) == [cause]
    assert node.causes() == [cause]


def test_nvidia_uvm_is_not_loaded(node: Node) -> None:
    node.load(node.installed, uvm=False)
    result = node.check()
    assert result["verdict"] == "driver_failed"
    assert "cuInit answers 999 CUDA_ERROR_UNKNOWN" in result["reason"]
    assert node.causes(text=result["reason"]) == ["cuda_unknown_error"]


@pytest.mark.parametrize(("version", "kind"), [("367.48", "proprietary"), ("999.12.01", "open")])
def test_the_module_is_of_another_version_than_the_libraries(
    node: Node, version: str, kind: str, tmp_path: Path
) -> None:
    """What nvidia-smi says goes to the doctor as an operator gives it to him, by the playbook."""
    node.load(version, kind=kind)
    result = node.check()
    assert result["verdict"] == "driver_mismatch"
    assert f"kernel module {version}" in result["reason"]
    assert f"libcuda {node.installed}" in result["reason"]
    assert result["report"]["driver"]["module"] == {"version": version, "kind": kind}
    assert "Driver/library version mismatch" in result["reason"]
    assert node.causes() == ["driver_mismatch"]

    status, said = node.nvidia_smi()
    assert status != 0
    log = tmp_path / "nvidia-smi.txt"
    log.write_text(said)
    run = Site(tmp_path).play("doctor", doctor_log=str(log))
    assert run.code != 0
    assert "1. driver_mismatch: " in run.output


def test_a_mismatch_is_told_by_the_files_of_the_kernel_alone(node: Node) -> None:
    node.load("367.48", answers=False)
    assert node.check()["verdict"] == "driver_mismatch"
    assert node.causes()[0] == "driver_mismatch"


def test_leading_zeros_make_no_other_version(node: Node) -> None:
    """As TensorFlow spells it; the real module spells it as its libraries do."""
    shorter = ".".join(str(int(part)) for part in node.installed.split("."))
    node.load(shorter, answers=False)
    assert node.check()["verdict"] != "driver_mismatch"
    assert "driver_mismatch" not in node.causes()


def test_nvml_is_missing(node: Node) -> None:
    node.load(node.installed)
    with node.without("libnvidia-ml"):
        result = node.check()
        assert result["verdict"] == "gpu_missing"
        assert "libnvidia-ml.so.1: cannot open shared object file" in result["report"]["driver"]["nvml"]["text"]
        assert node.causes() == ["nvml_missing"]
        status, said = node.nvidia_smi()
    assert status == 12
    assert node.causes(text=said) == ["nvml_missing"]


def test_libcuda_is_missing(node: Node) -> None:
    node.load(node.installed)
    with node.without("libcuda"):
        result = node.check()
        assert result["verdict"] == "driver_missing"
        assert "libcuda.so.1: cannot open shared object file" in result["reason"]
        assert f"the kernel module is {node.installed}" in result["reason"]
        assert node.causes()[0] == "driver_not_installed"


def test_too_old_for_cuda_12(node: Node, uv: str, tmp_path: Path) -> None:
    """The plan and the check on what the real library says of its CUDA, the doctor on the words of the real runtime."""
    is_too_old = int(node.parts.branch) < 525
    node.load(node.installed)
    wish = Policy(driver_source="found", python_source="uv", cuda_source="wheels", today="2026-11-22")
    for release, refused in (("2.15.1", is_too_old), ("2.8.0", int(node.parts.branch) < 450)):
        refusals = resolution.assess_wish(TABLES, release, NodeFacts.read(node.record()), wish).refusals
        assert [row.component for row in refusals] == ["driver"] * refused
        assert not refused or node.installed in refusals[0].found

    driver = node.check()["report"]["driver"]
    gpu = {"ordinal": 0, "name": "GPU 0", "description": "a GPU that is not there", "compute_capability": "8.0"}
    libcuda = {**driver["libcuda"], "code": 0, "error": None, "gpus": [gpu]}
    facts = {**driver, "libcuda": libcuda, "nvml": {"code": 0, "text": "", "driver": node.installed, "gpus": []}}
    record = {"stage": "libcuda", "device": None, "finished": True, "error": None, **facts}
    built = {"stage": "find_libraries", "device": None, "finished": True, "error": None, "loader": {}}
    built.update(libraries=[], built_with={"cuda_version": "12.2"})
    verdict = judge([record, built], 0, release="2.15.1", expect_gpu=True, gpu_count=1, level="libraries")
    assert (verdict.name == "driver_too_old") is is_too_old, verdict.reason

    wheels = node.root.path / "root" / "cudart"
    locked = tmp_path / "locked.txt"
    locked.write_text("\n".join(line for line in CUDA_12_LOCK.read_text().splitlines() if "-runtime-cu12==" in line))
    install = [uv, "pip", "install", "-q", "--no-deps", "--require-hashes", "--target", wheels, "-r", locked]
    subprocess.run([*install, "--python-platform", "x86_64-manylinux_2_28"], env=uv_environment(), check=True)
    code, said = node.run_python(ASK_CUDART, "/root/cudart/nvidia/cuda_runtime/lib/libcudart.so.12")
    assert code == (35 if is_too_old else 100), said
    assert node.causes(text=said) == (["driver_too_old"] if is_too_old else ["no_device"])
