"""What GPUs need of a release, of CUDA, of cuDNN and of the driver; what an operator sees of it is in test_plan.py."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.planning import resolution
from ansible.module_utils.tensorflow_stack.planning.gpus import (
    kernel_code,
    plan_compiling,
    ptx_needed,
    resolve_gpus,
)
from ansible.module_utils.tensorflow_stack.planning.node import NodeFacts
from ansible.module_utils.tensorflow_stack.planning.stack import Assessment, Driver, Findings, Library, Policy
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables

from tests import nodes

TABLES = Path(__file__).resolve().parents[4] / "roles" / "tensorflow_release" / "files" / "tables"
SM_35_TO_80 = ("sm_35", "sm_50", "sm_60", "sm_70", "sm_75", "compute_80")
A100, RTX_3090, RTX_4090, H100, B200, RTX_5090 = "20f1", "2204", "2684", "2330", "2901", "2b85"


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(TABLES))


@pytest.fixture
def node(tmp_path: Path) -> dict[str, Any]:
    """A machine with every Python, whose driver runs everything."""
    record: dict[str, Any] = copy.deepcopy(nodes.read("a100_driver535", tmp_path))
    row = {"version": None, "origin": "system", "distutils": True, "public": True}
    pythons = [{**row, "minor": minor, "path": f"/usr/bin/python{minor}"} for minor in ("3.8", "3.10")]
    record.update(pythons=pythons, environments=[], cuda=[], cudnn=[])
    return record


def assess(
    tables: Tables, node: dict[str, Any], release: str, device_id: str, driver: str = "580.95.05", **policy: Any
) -> Assessment:
    node["gpus"][0]["device_id"] = device_id
    node["driver"].update(loaded=driver, installed=driver, kind="open")
    return resolution.assess_wish(tables, release, NodeFacts.read(node), Policy(**{"driver_source": "found", **policy}))


@pytest.mark.parametrize(
    ("gpu_code", "compute_capability", "code"),
    [
        (SM_35_TO_80, "3.5", "native"),
        (SM_35_TO_80, "3.7", "native"),
        (SM_35_TO_80, "3.0", "none"),
        (SM_35_TO_80, "8.0", "native"),
        (SM_35_TO_80, "8.9", "native"),
        (SM_35_TO_80, "9.0", "jit"),
        (SM_35_TO_80, "12.0", "jit"),
        (("sm_60", "sm_70"), "5.2", "none"),
        (("sm_60", "sm_70"), "8.0", "none"),
        (("sm_75",), "7.0", "none"),
        (None, "7.0", "unknown"),
    ],
)
def test_kernel_code(gpu_code: tuple[str, ...] | None, compute_capability: str, code: str) -> None:
    assert kernel_code(gpu_code, compute_capability) == code


SM_90A = {"count": 2, "machine_code": ("sm_70", "sm_80"), "ptx": {"target": "sm_90a", "version": "8.3"}}
SM_90 = {"count": 1, "machine_code": ("sm_70", "sm_80", "sm_90"), "ptx": {"target": "sm_90", "version": "8.1"}}


@pytest.mark.parametrize(
    ("compute_capability", "version"), [("7.5", None), ("8.9", None), ("9.0", "8.3"), ("12.0", "8.3")]
)
def test_ptx_is_needed_where_one_kind_of_kernels_has_no_machine_code(
    compute_capability: str, version: str | None
) -> None:
    assert ptx_needed([SM_90A, SM_90], compute_capability) == version


# What a GPU newer than Hopper can be given, by the kernels that were read from the wheels.
@pytest.mark.parametrize("device_id", [B200, RTX_5090])
@pytest.mark.parametrize("release", ["2.16.1", "2.16.2", "2.17.0", "2.17.1", "2.18.0", "2.18.1", "2.19.1", "2.20.0"])
def test_ptx_for_sm_90a_is_for_no_other_gpu(tables: Tables, node: dict[str, Any], release: str, device_id: str) -> None:
    (refusal, *_) = assess(tables, node, release, device_id).refusals
    assert (refusal.component, refusal.nearest_release) == ("gpu", "2.21.0")
    assert "1,149 of its kernels have sm_" in refusal.wanted
    assert "PTX for sm_90a, which is for compute capability 9.0 alone" in refusal.wanted
    assert assess(tables, node, release, H100).refusals == ()


@pytest.mark.parametrize("release", ["2.15.1", "2.8.0", "2.4.4"])
def test_what_has_no_library_for_a_gpu_is_refused(tables: Tables, node: dict[str, Any], release: str) -> None:
    refusals = assess(tables, node, release, RTX_5090).refusals
    assert {refusal.nearest_release for refusal in refusals} == {"2.21.0"}
    assert all("which needs cu" in refusal.found.lower() for refusal in refusals)


def test_a_release_whose_only_cuda_is_older_than_the_gpu(tables: Tables, node: dict[str, Any]) -> None:
    (refusal,) = assess(tables, node, "2.4.4", H100).refusals
    assert refusal.message == (
        "cuda: wanted CUDA 11.0 for TensorFlow 2.4.4; found GPU 0 (H100 SXM5 80GB, Hopper, compute capability 9.0), "
        "which needs CUDA 11.8 or newer. "
        "Set tensorflow_version to a release on a newer CUDA, or tensorflow_gpu to none."
    )
    assert refusal.nearest_release == "2.5.0"


@pytest.mark.parametrize(
    ("release", "device_id", "floor"),
    [
        ("2.8.0", A100, "450.80.02"),
        ("2.14.1", A100, "455.23"),
        ("2.15.1", A100, "525.60.13"),
        ("2.10.1", RTX_4090, "520.61.05"),
        ("2.21.0", RTX_4090, "525.60.13"),
        ("2.8.0", H100, "520.61.05"),
        ("2.15.1", H100, "530.30.02"),
        ("2.16.2", H100, "525.60.13"),
        ("2.17.1", H100, "545.23.06"),
        ("2.18.1", H100, "545.23.06"),
        ("2.19.1", H100, "555.42.02"),
        ("2.20.0", H100, "555.42.02"),
        ("2.21.0", H100, "555.42.02"),
        ("2.21.0", RTX_5090, "570.26"),
    ],
)
def test_the_driver_knows_the_ptx_that_it_has_to_compile(
    tables: Tables, node: dict[str, Any], release: str, device_id: str, floor: str
) -> None:
    stack = assess(tables, node, release, device_id, cuda_source="wheels").stack
    assert stack and stack.driver
    assert (stack.driver.floor, stack.driver.action) == (floor, "keep")


@pytest.mark.parametrize(
    ("release", "driver", "keeps"),
    [
        ("2.17.1", "535.183.01", False),
        ("2.17.1", "550.163.01", True),
        ("2.20.0", "550.163.01", False),
        ("2.21.0", "550.163.01", False),
        ("2.21.0", "570.133.20", True),
    ],
)
def test_a_driver_that_does_not_know_the_ptx_for_hopper_is_not_kept(
    tables: Tables, node: dict[str, Any], release: str, driver: str, keeps: bool
) -> None:
    refusals = assess(tables, node, release, H100, driver).refusals
    assert (refusals == ()) == keeps
    for refusal in refusals:
        assert refusal.found.startswith(f"driver {driver}, which does not compile PTX 8."), refusal
        assert "and PTX 8." in refusal.wanted, refusal


@pytest.mark.parametrize(
    ("driver", "cuda", "seconds"),
    [
        ("580.95.05", "11.8", 900),
        ("535.183.01", "11.8", 900),
        ("525.147.05", "11.8", 3600),
        ("580.95.05", "11.6", 3600),
    ],
)
def test_what_compiling_costs(tables: Tables, node: dict[str, Any], driver: str, cuda: str, seconds: int) -> None:
    """Long only if driver or CUDA load all kernels at the start."""
    node["driver"].update(loaded=driver, installed=driver, kind="open")
    node["gpus"][0]["device_id"] = H100
    release = tables.release("2.8.0")
    assert release
    findings = Findings()
    _, models = resolve_gpus(tables, release, NodeFacts.read(node), findings)
    allowed = plan_compiling(
        tables, release, models, Library(cuda, "found"), Driver("450.80.02", driver, driver), findings
    )
    assert allowed == seconds
    (warning,) = findings.warnings
    is_long = seconds > 900
    assert ("at the first start: 30 minutes or longer, once for each user" in warning) == is_long
    assert ("as they are first used: seconds each" in warning) != is_long


@pytest.mark.parametrize(
    ("release", "device_id", "code", "seconds"),
    [
        ("2.21.0", A100, "native", 300),
        ("2.4.4", A100, "native", 300),
        ("2.8.0", A100, "partly", 300),
        ("2.15.1", RTX_4090, "partly", 300),
        ("2.17.1", H100, "partly", 300),
        ("2.21.0", H100, "partly", 300),
        ("2.8.0", H100, "jit", 900),
        ("2.15.1", H100, "jit", 900),
        ("2.21.0", RTX_5090, "jit", 900),
    ],
)
def test_what_a_release_has_for_a_gpu(
    tables: Tables, node: dict[str, Any], release: str, device_id: str, code: str, seconds: int
) -> None:
    if release == "2.4.4":
        node.update(cuda=[_whole("11.0")], cudnn=[_whole("8.0.5")])
    stack = assess(tables, node, release, device_id).stack
    assert stack
    assert (stack.gpus[0].code, stack.check_seconds) == (code, seconds)
    assert any("has no machine code for it" in warning for warning in stack.warnings) == (code == "jit")


def _whole(version: str) -> dict[str, Any]:
    """CUDA or cuDNN with every library."""
    names = [name for row in load_tables(str(TABLES)).opened_libraries for name in row.libraries]
    prefix = f"/opt/cuda-{version}"
    row = {"version": version, "library_directory": f"{prefix}/lib64", "libraries": names}
    return {**row, "prefix": prefix, "library": f"{prefix}/lib64/libcudnn.so.8"}
