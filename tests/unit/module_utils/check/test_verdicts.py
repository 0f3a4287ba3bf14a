"""Verdicts on the driver and the libraries, and on stages that end or hang in a process of their own."""

from __future__ import annotations

import copy
import signal
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.check import verdicts
from ansible.module_utils.tensorflow_stack.check.child import main
from ansible.module_utils.tensorflow_stack.check.verdicts import judge

CPU, GPU = "/device:CPU:0", "/device:GPU:0"
Record = dict[str, Any]


def done(stage: str, device: str | None = None, error: str | None = None, **facts: Any) -> Record:
    return {"stage": stage, "device": device, "finished": True, "seconds": 0.1, "error": error, **facts}


def computed(stage: str, device: str | None, *, wrong: int = 0) -> Record:
    place = f"/job:localhost/replica:0/task:0{device}"
    return done(stage, device, ran_on=[place], values=64, wrong=wrong, example="0.0, not 7.0" if wrong else None)


def library(name: str, version: str | None, **facts: Any) -> Record:
    path = f"/opt/e/tensorflow/{name}"
    row = {"name": name, "path": path, "target": path, "rule": "RUNPATH", "error": None, "others": []}
    return {**row, "version": version, **facts}


class Node:
    """Records of a whole check that is good; a test spoils a part of them."""

    def __init__(self) -> None:
        self.module: Record = {"version": "535.183.01", "kind": "open"}
        self.nvml: Record = {"code": 0, "text": "Success", "driver": "535.183.01", "gpus": [{"fabric": None}]}
        self.libcuda: Record = {
            "path": "/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01",
            "cuda": "12.2",
            "code": 0,
            "error": None,
            "gpus": [{"ordinal": 0, "name": "GPU 0", "description": "A100"}],
        }
        self.cuda = "11.2"
        self.libraries = [library("libcudart.so.11.0", None), library("libcudnn.so.8", "8.1.0")]
        self.dxg = False
        self.replaced: dict[str, Record] = {}
        self.sees_gpu = True
        self.after_import = True
        self.has_kernel = True

    def fail(self, stage: str, **facts: Any) -> None:
        devices = {"kernel": "GPU 0", **{name: GPU for name in main.DEVICE_STAGES}}
        self.replaced[stage] = {**done(stage, devices.get(stage)), **facts}

    @property
    def records(self) -> list[Record]:
        devices = [{"name": CPU, "type": "CPU", "description": ""}]
        if self.sees_gpu:
            devices.append({"name": GPU, "type": "GPU", "description": "A100"})
        kernel = {**computed("kernel", "GPU 0"), "ran_on": []}
        loader = {"LD_LIBRARY_PATH": ["/opt/lib"], "RUNPATH": [], "RPATH": []}
        found = {"built_with": {"cuda_version": self.cuda}, "libraries": self.libraries, "loader": loader}
        rows = [
            done("kernel_module", module=self.module, xids=[], dxg=self.dxg),
            done("nvml", nvml=self.nvml),
            done("libcuda", libcuda=self.libcuda),
            *([kernel] if self.libcuda["gpus"] and self.has_kernel else []),
            done("find_libraries", **found),
            done("load_libraries", libraries=self.libraries),
        ]
        if self.after_import:
            rows += [
                done("import", python="3.10.13", tensorflow_version="2.8.0", numpy_version="1.23.5", build_info={}),
                done("devices", devices=devices),
                *(computed(stage, GPU if self.sees_gpu else CPU) for stage in main.DEVICE_STAGES),
                done("libraries", libraries_mapped=[]),
            ]
        return [self.replaced.get(row["stage"], row) for row in copy.deepcopy(rows)]

    def judge(self, *, exit_status: int | None = 0, gpu_count: int = 1, **options: Any) -> verdicts.Verdict:
        wish = {"release": "2.8.0", "expect_gpu": True, "gpu_count": gpu_count, "cudnn_floor": "8.1.0"}
        return judge(self.records, exit_status, **{**wish, **options})


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_good_node(node: Node) -> None:
    assert node.judge().name == "ok"


def test_a_good_node_without_tensorflow(node: Node) -> None:
    node.after_import = False
    verdict = node.judge(level="libraries")
    assert verdict.name == "libraries_ok"
    assert "A100" in verdict.reason and "libcudnn.so.8 8.1.0" in verdict.reason


def test_a_good_node_that_is_looked_at_without_computing(node: Node) -> None:
    node.after_import, node.has_kernel = False, False
    verdict = node.judge(level="health")
    assert verdict.name == "libraries_ok"
    assert verdict.reason.startswith("The driver shows A100;") and "libcudnn.so.8 8.1.0" in verdict.reason
    # What the child left out is due at the other level.
    assert node.judge(level="libraries").name == "op_failed"


def test_a_look_that_ended_early_is_not_good(node: Node) -> None:
    node.after_import, node.has_kernel = False, False
    node.fail("find_libraries", finished=False)
    assert node.judge(level="health", exit_status=None).name != "libraries_ok"


@pytest.mark.parametrize(
    ("facts", "verdict", "reason"),
    [
        pytest.param({"signal": signal.SIGABRT}, "killed", "Ended by SIGABRT in stage convolution on", id="abort"),
        pytest.param({"signal": signal.SIGSEGV}, "killed", "Ended by SIGSEGV in stage convolution on", id="crash"),
        pytest.param({"exit_status": 3}, "op_failed", "status 3 in stage convolution on", id="exit"),
        pytest.param({"time_limit": 150.2}, "timed_out", "Not done after 150 s, in stage convolution", id="hang"),
        pytest.param({"error": "UnimplementedError: DNN library is not found."}, "op_failed", "DNN", id="raise"),
        pytest.param(
            {"ran_on": [GPU], "values": 64, "wrong": 64, "example": "0.0, not 7.0"},
            "wrong_numbers",
            "convolution on /device:GPU:0: 64 of 64 values differ from NumPy's",
            id="wrong numbers from it alone",
        ),
        pytest.param({"ran_on": [CPU], "values": 64, "wrong": 0}, "gpu_not_used", "ran on", id="elsewhere"),
    ],
)
def test_a_stage_of_tensorflow_fails(node: Node, facts: Record, verdict: str, reason: str) -> None:
    node.fail("convolution", **{"last_words": "F cuda_dnn.cc: gone", **facts})
    found = node.judge()
    assert found.name == verdict
    assert reason in found.reason


def test_xla_without_libdevice(node: Node) -> None:
    node.fail("xla", error="InternalError: libdevice not found at ./libdevice.10.bc")
    found = node.judge()
    assert (found.name, "libdevice not found" in found.reason) == ("op_failed", True)


def test_a_missing_nvml_is_said_without_tensorflow_too(node: Node) -> None:
    node.nvml = {"code": None, "text": "libnvidia-ml.so.1: cannot open", "driver": None, "gpus": []}
    found = node.judge(level="libraries")
    assert found.name == "libraries_ok"
    assert "NVML cannot be opened (libnvidia-ml.so.1: cannot open)" in found.reason


@pytest.mark.parametrize("level", ["full", "libraries"])
def test_with_mig_a_process_sees_one_instance_of_all_gpus(node: Node, level: str) -> None:
    assert node.judge(level=level, gpu_count=8).name == "gpu_missing"
    node.nvml["gpus"] = [{"fabric": None, "mig": index == 3} for index in range(8)]
    assert node.judge(level=level, gpu_count=8).name == ("ok" if level == "full" else "libraries_ok")


@pytest.mark.parametrize("level", ["full", "libraries"])
@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        pytest.param(
            {"libcuda": {"path": None, "cuda": None, "code": None, "error": "libcuda.so.1: cannot open", "gpus": []}},
            "driver_missing",
            "libcuda.so.1: cannot open); the kernel module is 535.183.01",
            id="no libcuda",
        ),
        pytest.param({"nvml": {"driver": "550.54.14"}}, "driver_mismatch", "NVML 550.54.14", id="nvml is newer"),
        pytest.param(
            {"nvml": {"code": 18, "text": "Driver/library version mismatch", "driver": None, "gpus": []}},
            "driver_mismatch",
            "Driver/library version mismatch",
            id="nvml says so",
        ),
        pytest.param({"module": {"version": "470.256.02"}}, "driver_mismatch", "470.256.02", id="module is older"),
        pytest.param(
            {"libcuda": {"code": 100, "error": "cuInit answers 100 CUDA_ERROR_NO_DEVICE: none", "gpus": []}},
            "gpu_missing",
            "CUDA_ERROR_NO_DEVICE",
            id="no device",
        ),
        pytest.param(
            {
                "libcuda": {"code": 802, "error": "cuInit answers 802 CUDA_ERROR_SYSTEM_NOT_READY: no", "gpus": []},
                "nvml": {"gpus": [{"fabric": {"state": "in_progress", "status": 0}}]},
            },
            "driver_failed",
            "the fabric of its NVSwitches is in_progress",
            id="fabric",
        ),
        pytest.param(
            {
                "libcuda": {"code": 100, "error": "cuInit answers 100 CUDA_ERROR_NO_DEVICE: none", "gpus": []},
                "nvml": {"gpus": [{"fabric": None, "mig": True}]},
            },
            "gpu_missing",
            "MIG is on, and without an instance there is no device",
            id="mig without instances",
        ),
        pytest.param({"libcuda": {"cuda": "10.2"}}, "driver_too_old", "CUDA 10.2, the release is built", id="too old"),
    ],
)
def test_the_driver_is_the_first_cause(node: Node, change: Record, verdict: str, reason: str, level: str) -> None:
    for part, facts in change.items():
        getattr(node, part).update(facts)
    node.sees_gpu = False
    found = node.judge(level=level)
    assert found.name == verdict
    assert reason in found.reason
    assert ("lists 0 of 1" in found.reason) is (level == "full")


def test_no_module_is_no_missing_gpu(node: Node) -> None:
    node.module.update(version=None, kind=None)
    node.nvml.update(code=9, text="Driver Not Loaded", driver=None, gpus=[])
    node.libcuda.update(code=100, error="cuInit answers 100 CUDA_ERROR_NO_DEVICE: none", gpus=[])
    node.sees_gpu = False
    found = node.judge()
    assert (found.name, "no kernel module nvidia is loaded" in found.reason) == ("driver_failed", True)


def test_without_nvml_the_newest_release_says_nothing(node: Node) -> None:
    node.nvml.update(code=None, text="libnvidia-ml.so.1: cannot open", driver=None, gpus=[])
    assert node.judge().name == "ok"
    node.sees_gpu = False
    found = node.judge()
    assert (found.name, "NVML cannot be opened (libnvidia-ml.so.1" in found.reason) == ("gpu_not_used", True)


def test_versions_are_compared_as_numbers(node: Node) -> None:
    node.nvml["driver"] = "535.183.1"
    node.sees_gpu = False
    assert node.judge().name == "gpu_not_used"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        pytest.param({"signal": signal.SIGSEGV}, "SIGSEGV in stage kernel on GPU 0", id="crash"),
        pytest.param({"time_limit": 30.0}, "Not done after 30 s, in stage kernel", id="hang"),
        pytest.param({"error": "CudaError: cuLaunchKernel answers 719"}, "cuLaunchKernel answers 719", id="refused"),
    ],
)
def test_the_driver_runs_no_kernel(node: Node, facts: Record, reason: str) -> None:
    node.fail("kernel", **facts)
    assert node.judge().name == "ok"  # TensorFlow's own numbers decide
    node.sees_gpu = False
    for level in ("full", "libraries"):
        found = node.judge(level=level)
        assert found.name == "driver_failed"
        assert reason in found.reason


def test_a_driver_that_computes_wrong_is_never_good(node: Node) -> None:
    """Also where TensorFlow's own operations passed."""
    node.fail("kernel", ran_on=[], values=1024, wrong=1024, example="0, not 7")
    for level in ("full", "libraries"):
        found = node.judge(level=level)
        assert found.name == "wrong_numbers"
        assert "1024 of 1024 values differ from Python's, such as 0, not 7" in found.reason


def test_a_container_without_the_compiler_of_the_driver(node: Node) -> None:
    """TensorFlow can say that the GPU computes; without it nothing does."""
    node.fail("kernel", skipped="cuModuleLoadData answers 221")
    assert node.judge().name == "ok"
    node.after_import = False
    found = node.judge(level="libraries")
    assert found.name == "driver_failed"
    assert "No kernel ran on GPU 0 (cuModuleLoadData answers 221)" in found.reason


def test_a_library_is_missing(node: Node) -> None:
    node.libraries[1].update(path=None, target=None, rule=None, version=None)
    node.sees_gpu = False
    found = node.judge()
    assert found.name == "library_missing"
    assert found.reason.startswith("libcudnn.so.8: in none of /opt/lib, ld.so.cache")


def test_a_library_does_not_load(node: Node) -> None:
    node.libraries[0].update(error="libstdc++.so.6: version `GLIBCXX_3.4.29' not found")
    node.sees_gpu = False
    found = node.judge()
    assert (found.name, "GLIBCXX_3.4.29" in found.reason) == ("library_missing", True)


def test_loading_a_library_ends_the_process(node: Node) -> None:
    node.fail("load_libraries", signal=signal.SIGBUS, last_words="loading /opt/e/tensorflow/libcudnn.so.8")
    node.sees_gpu = False
    found = node.judge()
    assert found.name == "library_missing"
    assert "SIGBUS" in found.reason and "loading /opt/e/tensorflow/libcudnn.so.8" in found.reason


@pytest.mark.parametrize(
    ("version", "floor", "verdict"),
    [
        ("8.0.5", "8.1.0", "cudnn_too_old"),
        ("9.3.0", "8.1.0", "cudnn_too_old"),
        ("8.1.0", "8.1.0", "op_failed"),
        ("8.9.4", "8.1.0", "op_failed"),
        ("8.1.0", "8.1.1", "op_failed"),  # TensorFlow compares the first two numbers
        ("8.0.5", None, "op_failed"),
        (None, "8.1.0", "op_failed"),
    ],
)
def test_cudnn_against_the_build(node: Node, version: str | None, floor: str | None, verdict: str) -> None:
    node.libraries[1].update(version=version, others=[{"path": "/usr/lib/libcudnn.so.8", "rule": "ld.so.cache"}])
    node.fail("convolution", error="UnimplementedError: DNN library is not found.")
    found = node.judge(cudnn_floor=floor)
    assert found.name == verdict
    assert ("It hides /usr/lib/libcudnn.so.8." in found.reason) is (verdict == "cudnn_too_old")


def test_a_cause_of_wrong_numbers_comes_before_them(node: Node) -> None:
    node.libraries[1].update(version="8.0.5")
    node.fail("matmul", ran_on=[GPU], values=64, wrong=64, example="0.0, not 7.0")
    found = node.judge(cudnn_floor="8.1.0")
    assert found.name == "cudnn_too_old"
    assert "64 of 64 values differ" in found.reason


def test_kernels_that_are_compiled_are_told_from_a_hang(node: Node) -> None:
    said = "W gpu_device.cc] CUDA kernels will be jit-compiled from PTX, which could take 30 minutes or longer."
    node.fail("matmul", time_limit=300.0, last_words=said)
    found = node.judge(stderr=said)
    assert found.name == "compiling_kernels"
    assert found.reason.endswith("continues from there, or set tensorflow_check_time_limit to 3600.")
    assert node.judge(stderr="").name == "timed_out"


def test_compiled_kernels_take_the_time_of_all_operations(node: Node) -> None:
    """On the H200 training and convolution took 5.5 s and 6.4 s: 12 s together, and not 6 s."""
    said = "W gpu_device.cc] CUDA kernels will be jit-compiled from PTX, which could take 30 minutes or longer."
    for stage, seconds in (("matmul", 0.06), ("training_step", 5.5), ("convolution", 6.4), ("xla", 0.11)):
        node.replaced[stage] = {**computed(stage, GPU), "seconds": seconds}
    reason = node.judge(stderr=said).reason
    assert reason.endswith("; the driver compiled kernels for it first (all operations together took 12 s).")
    assert "compiled" not in node.judge().reason


def test_what_is_wrong_with_python_comes_before_the_driver(node: Node) -> None:
    node.libcuda.update(path=None, cuda=None, code=None, error="libcuda.so.1", gpus=[])
    node.fail("import", error="TypeError: Descriptors cannot be created directly.")
    assert node.judge().name == "import_failed"


@pytest.mark.parametrize(
    ("exit_status", "verdict"),
    [(None, "timed_out"), (-signal.SIGSEGV, "killed"), (1, "op_failed"), (0, "libraries_ok")],
)
def test_how_a_check_without_tensorflow_ends(node: Node, exit_status: int | None, verdict: str) -> None:
    node.after_import = False
    assert node.judge(level="libraries", exit_status=exit_status).name == verdict


def test_a_check_that_said_nothing_is_not_good() -> None:
    for level in ("full", "libraries"):
        found = judge([], 0, release="2.8.0", expect_gpu=True, gpu_count=1, level=level)
        assert found.name not in verdicts.GOOD_VERDICTS


# --------------------------------------------------------------------------------------- which GPUs, and whose driver


def gpus_at(*addresses: str | None) -> list[Record]:
    return [
        {"ordinal": index, "name": f"GPU {index}", "description": "A100", "pci_address": address}
        for index, address in enumerate(addresses)
    ]


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (["00000000:3B:00.0"], "ok"),
        ([None], "ok"),  # this driver does not say
        (["0000:5e:00.0"], "gpu_missing"),
        (["0000:3b:00.0", "0000:5e:00.0"], "gpu_not_expected"),
    ],
)
def test_the_gpus_are_those_that_were_planned_for(node: Node, shown: list[str | None], verdict: str) -> None:
    node.libcuda["gpus"] = gpus_at(*shown)
    node.after_import = False
    found = node.judge(gpu_addresses=["0000:3b:00.0"], level="libraries")
    assert found.name == ("libraries_ok" if verdict == "ok" else verdict)
    if verdict != "ok":
        assert "expected are those at 0000:3b:00.0" in found.reason


def test_a_gpu_that_is_set_aside_and_visible_is_no_good_verdict(node: Node) -> None:
    node.libcuda["gpus"] = gpus_at("0000:3b:00.0", "0000:5e:00.0")
    found = node.judge(gpu_addresses=["0000:3b:00.0"])
    assert found.name == "gpu_not_expected"


def on_windows(node: Node) -> None:
    """As on WSL 2: no module in the kernel, NVML names the driver of Windows, libcuda has no version in its name."""
    node.module = {"version": None, "kind": None}
    node.nvml["driver"] = "581.29"
    node.libcuda["path"] = "/usr/lib/wsl/lib/libcuda.so.1.1"
    node.dxg = True


def test_wsl_is_good_without_a_kernel_module(node: Node) -> None:
    on_windows(node)
    assert node.judge().name == "ok"


def test_wsl_without_a_device_says_nothing_of_a_kernel_module(node: Node) -> None:
    on_windows(node)
    node.libcuda.update(code=100, error="cuInit answers 100 CUDA_ERROR_NO_DEVICE: no device", gpus=[])
    node.sees_gpu = False
    found = node.judge()
    assert found.name == "gpu_missing"
    assert "kernel module" not in found.reason


def test_wsl_without_libcuda_names_the_driver_of_windows(node: Node) -> None:
    on_windows(node)
    node.libcuda.update(path=None, error="libcuda.so.1: cannot open shared object file", gpus=[])
    node.sees_gpu = False
    found = node.judge()
    assert found.name == "driver_missing"
    assert "the driver is that of Windows, whose libraries are in /usr/lib/wsl/lib" in found.reason


def test_a_libcuda_for_forward_compatibility_is_no_mismatch(node: Node) -> None:
    node.libcuda["path"] = "/usr/local/cuda-12.8/compat/libcuda.so.570.133.20"
    assert node.judge().name == "ok"
    node.libcuda.update(code=804, error="cuInit answers 804 CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", gpus=[])
    node.sees_gpu = False
    assert node.judge().name == "driver_failed"
