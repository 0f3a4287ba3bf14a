"""The check on real installs of TensorFlow 2.8.0, and on Pythons that end as a faulty GPU makes them end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.io.uv import uv_environment
from ansible.module_utils.tensorflow_stack.records import manifest

from tests.needs import python_of, require

pytestmark = pytest.mark.integration

WANTED = ["tensorflow==2.8.0", "numpy==1.23.5", "keras==2.8.0"]
NAME = "tensorflow-2.8.0"

Check = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Iterator[Callable[..., Path]]:
    """Gives back the root of an environment with these requirements, known to its manifest."""
    python = python_of("3.9", "3.10").path

    def run(*requirements: str) -> Path:
        root = tmp_path_factory.mktemp("root")
        build = root / ".builds" / f"{NAME}-1"
        subprocess.run([uv, "venv", "-q", "--python", python, build], env=uv_environment(), check=True)
        install = [uv, "pip", "install", "-q", "--python", build / "bin/python", *requirements]
        subprocess.run(install, env=uv_environment(), check=True)
        (root / NAME).symlink_to(build.relative_to(root))
        manifest.update(str(root), lambda content: content["environments"].update({NAME: {"check": None}}))
        roots.append(root)
        return root

    roots: list[Path] = []
    yield run
    for root in roots:
        shutil.rmtree(root)  # a gigabyte each


@pytest.fixture(scope="module")
def good(install: Callable[..., Path]) -> Path:
    return install(*WANTED, "protobuf<3.21")


@pytest.fixture
def check(run_module: Check) -> Check:
    def run(root: Path, **arguments: Any) -> dict[str, Any]:
        defaults = {"release": "2.8.0", "expect_gpu": False, "evidence": {"boot_id": "1f0c"}}
        return run_module("tensorflow_gpu_check", environment=str(root / NAME), **{**defaults, **arguments})

    return run


def test_the_cpu_path_is_verified_once(check: Check, good: Path) -> None:
    result = check(good)
    assert not result.get("failed"), result
    assert (result["verdict"], result["reused"], result["stored"]) == ("cpu_only_no_gpu", False, True)
    report = result["report"]
    assert (report["tensorflow_version"], report["numpy_version"], report["gpu"]) == ("2.8.0", "1.23.5", "absent")
    assert (report["build_info"]["cuda_version"], report["libraries_mapped"]) == ("11.2", [])
    details = {stage["name"]: stage["detail"] for stage in report["stages"]}
    assert details["matmul"] == "4096 values equal NumPy's"
    assert details["training_step"] == "323 values equal NumPy's"
    assert details["convolution"] == "16384 values equal NumPy's"
    assert details["xla"] == "1024 values equal NumPy's"

    again = check(good)
    assert again["reused"]
    assert again["report"] == report


def test_the_cpu_is_no_gpu(check: Check, good: Path) -> None:
    result = check(good, expect_gpu=True)
    assert result["failed"]
    assert result["verdict"] == "driver_missing"
    assert "libcuda.so.1: cannot open shared object file" in result["reason"]
    assert "lists 0 of 1 expected GPUs" in result["reason"]
    rows = {row["name"]: row["path"] for row in result["report"]["libraries"]}
    assert {"libcudart.so.11.0", "libcublas.so.11", "libcusolver.so.11", "libcudnn.so.8"} <= set(rows)
    assert set(rows.values()) == {None}


def test_a_double_of_the_driver_is_refused(
    check: Check, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it has a GPU; the check's own kernel is not run by it, before TensorFlow is asked and after."""
    require("gcc", "libc6-dev")
    source = Path(__file__).parents[1] / "doubles" / "libcuda.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    for level in ("full", "libraries"):
        result = check(good, expect_gpu=True, level=level)
        assert result["failed"]
        assert result["verdict"] == "driver_failed", result["reason"]
        assert "kernel on GPU 0: CudaError: cuModuleLoadData" in result["reason"]
        assert result["report"]["driver"]["libcuda"]["gpus"][0]["description"] == "test double"


def test_the_libraries_alone_take_no_import(check: Check, good: Path) -> None:
    result = check(good, expect_gpu=True, level="libraries")
    assert result["failed"]
    assert result["verdict"] == "driver_missing"
    assert result["report"]["tensorflow_version"] is None
    assert "import" not in {stage["name"] for stage in result["report"]["stages"]}
    assert sum(stage["seconds"] for stage in result["report"]["stages"]) < 1


def test_the_sum_across_devices_is_right(good: Path) -> None:
    """On two logical CPUs, which need no NCCL; the rest is what GPUs run."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import tensorflow as tf\n"
        "two = [tf.config.LogicalDeviceConfiguration()] * 2\n"
        "tf.config.set_logical_device_configuration(tf.config.list_physical_devices('CPU')[0], two)\n"
        "from tensorflow_stack.check.child import main\n"
        "print(main.all_reduce(['/device:CPU:0', '/device:CPU:1']))\n"
    )
    utils = Path(__file__).parents[2] / "module_utils"
    command = [good / NAME / "bin/python", "-I", "-c", program, utils]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'values': 512, 'wrong': 0" in done.stdout


def test_another_release_is_expected(check: Check, good: Path) -> None:
    result = check(good, release="2.8.1")
    assert result["failed"]
    assert (result["verdict"], result["reason"]) == ("wrong_release", "TensorFlow 2.8.0 is there, not 2.8.1.")


def test_no_time_to_import(check: Check, good: Path) -> None:
    result = check(good, time_limit=0.5)
    assert result["failed"]
    assert result["verdict"] == "timed_out"
    assert [stage["name"] for stage in result["report"]["stages"] if not stage["passed"]] == ["import"]


def test_the_three_pins_alone_do_not_import(check: Check, install: Callable[..., Path]) -> None:
    result = check(install(*WANTED))
    assert result["failed"]
    assert result["verdict"] == "import_failed"
    assert "Descriptors cannot" in result["reason"]
    assert result["report"]["tensorflow_version"] is None


@pytest.mark.parametrize(
    ("fault", "verdict", "reason"),
    [
        pytest.param(
            "os.abort()", "killed", "SIGABRT in stage matmul on /device:CPU:0", id="abort", marks=pytest.mark.slow
        ),
        pytest.param("ctypes.string_at(0)", "killed", "SIGSEGV in stage matmul on /device:CPU:0", id="crash"),
        pytest.param("os._exit(7)", "op_failed", "status 7 in stage matmul", id="exit", marks=pytest.mark.slow),
        pytest.param("time.sleep(300)", "timed_out", "in stage matmul on /device:CPU:0", id="hang"),
        pytest.param(
            *("raise RuntimeError('no kernel image')", "op_failed", "RuntimeError: no kernel image"),
            id="raise",
            marks=pytest.mark.slow,
        ),
        pytest.param("return multiply(*operands) * 0", "wrong_numbers", "4096 of 4096 values differ", id="zeros"),
        pytest.param(
            "return tensorflow.where(tensorflow.eye(64) > 0, float('nan'), multiply(*operands))",
            "wrong_numbers",
            "64 of 4096 values differ",
            id="not a number",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_faulty_matmul(check: Check, good: Path, fault: str, verdict: str, reason: str) -> None:
    """TensorFlow is real; its product is replaced in the way that Python itself offers to an environment."""
    build = (good / NAME).resolve()
    hook = next(build.glob("lib/python3.*/site-packages")) / "faulty_matmul.pth"
    module = hook.with_suffix(".py")
    module.write_text(
        "import ctypes, importlib.abc, importlib.util, os, sys, time\n"
        "def spoil(tensorflow):\n"
        "    multiply = tensorflow.matmul\n"
        "    def matmul(*operands):\n"
        f"        {fault}\n"
        "    tensorflow.matmul = matmul\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name != 'tensorflow':\n"
        "            return None\n"
        "        sys.meta_path.remove(self)\n"
        "        spec = importlib.util.find_spec(name)\n"
        "        load = spec.loader.exec_module\n"
        "        spec.loader.exec_module = lambda loaded: (load(loaded), spoil(loaded))\n"
        "        return spec\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    hook.write_text("import faulty_matmul\n")
    try:
        result = check(good, reuse=False, time_limit=20 if verdict == "timed_out" else 300)
    finally:
        hook.unlink()
        module.unlink()
    assert result["failed"]
    assert result["verdict"] == verdict, result["reason"]
    assert reason in result["reason"]
