from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.check import probe
from ansible.module_utils.tensorflow_stack.check.child import libraries, main
from ansible.module_utils.tensorflow_stack.check.report import make_report
from ansible.module_utils.tensorflow_stack.check.verdicts import judge
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.records import manifest
from ansible.module_utils.tensorflow_stack.records.libraries import LOADER_DIRECTORIES, OPENED

CAPTURES = Path(__file__).parent / "captures"
CPU, GPU0, GPU1 = "/device:CPU:0", "/device:GPU:0", "/device:GPU:1"
PROTOBUF = "TypeError: Descriptors cannot not be created directly.\nIf this call came from a _pb2.py file, ..."

Record = dict[str, Any]


def done(stage: str, device: str | None = None, error: str | None = None, **facts: Any) -> Record:
    return {"stage": stage, "device": device, "finished": True, "seconds": 0.1, "error": error, **facts}


def begun(stage: str, device: str | None = None) -> Record:
    return {"stage": stage, "device": device, "finished": False}


def imported(version: str = "2.8.0", *, cuda: bool = True) -> Record:
    facts = {"python": "3.10.13", "numpy_version": "1.23.5", "build_info": {"is_cuda_build": cuda}}
    return done("import", tensorflow_version=version, **facts)


def devices(*gpus: str) -> Record:
    rows = [{"name": CPU, "type": "CPU", "description": "x86_64"}]
    rows += [{"name": gpu, "type": "GPU", "description": "A100"} for gpu in gpus]
    return done("devices", devices=rows)


def op(stage: str, device: str, *, ran_on: str | None = None, wrong: int = 0) -> Record:
    example = "0.0, not 61639" if wrong else None
    place = f"/job:localhost/replica:0/task:0{ran_on or device}"
    return done(stage, device, ran_on=[place], values=4096, wrong=wrong, example=example)


def ops(device: str) -> list[Record]:
    return [op(stage, device) for stage in main.DEVICE_STAGES]


LIBRARIES = done("libraries", libraries_mapped=[])
ON_CPU = [imported(), devices(), *ops(CPU), LIBRARIES]
ON_GPU = [imported(), devices(GPU0), *ops(GPU0), LIBRARIES]
ALL_REDUCE = done("all_reduce", ran_on=[], values=512, wrong=0, example=None)
ON_TWO = [imported(), devices(GPU0, GPU1), *ops(GPU0), *ops(GPU1), ALL_REDUCE, LIBRARIES]
ON_GPU_FAULTY = [imported(), devices(GPU0), op("training_step", GPU0), LIBRARIES]


def case(
    name: str,
    records: list[Record],
    verdict: str,
    reason: str,
    *,
    exit_status: int | None = 0,
    gpus: int = 0,
    release: str = "2.8.0",
    capture: str | None = None,
) -> Any:
    return pytest.param(records, exit_status, release, gpus, capture, verdict, reason, id=name)


CASES = [
    case("cpu", ON_CPU, "cpu_only_no_gpu", "no GPU was expected"),
    case("gpu", ON_GPU, "ok", f"the right numbers on {GPU0}.", gpus=1),
    case("gpu that nobody expected", ON_GPU, "ok", GPU0),
    case("more gpus than expected", ON_TWO, "ok", f"{GPU0}, {GPU1}", gpus=1),
    case("two gpus", ON_TWO, "ok", GPU1, gpus=2),
    case("one gpu is missing", ON_GPU, "gpu_not_used", "1 of 2 expected", gpus=2),
    case("everything on the cpu", ON_CPU, "gpu_not_used", "does not say why", gpus=1),
    case(
        "no cuda in the build",
        [imported(cuda=False), devices(), *ops(CPU), LIBRARIES],
        "gpu_not_used",
        "built without CUDA",
        gpus=1,
    ),
    case(
        "libraries missing",
        ON_CPU,
        "gpu_not_used",
        "Could not load dynamic library 'libcudnn.so.8'",
        gpus=1,
        capture="tf2.10.M-nolibs",
    ),
    case("gpu too old", ON_CPU, "gpu_not_used", "Cuda compute capability 3.0", gpus=1, capture="tf2.17.M-cc30"),
    case("no driver", ON_CPU, "gpu_not_used", "Could not find cuda drivers", gpus=1, capture="tf2.18.nodrv"),
    case(
        "driver of two versions",
        ON_CPU,
        "gpu_not_used",
        "kernel version 470.256.2 does not match DSO version 550.163.1",
        gpus=1,
        capture="tf2.8.mm470.256.02",
    ),
    case(
        "cuInit refuses",
        ON_CPU,
        "gpu_not_used",
        "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE: forward compatibility",
        gpus=1,
        capture="tf2.21.M-804",
    ),
    case(
        "operation ran elsewhere",
        [*ON_GPU_FAULTY, op("matmul", GPU0, ran_on=CPU)],
        "gpu_not_used",
        f"matmul on {GPU0} ran on /job:localhost/replica:0/task:0{CPU}",
        gpus=1,
    ),
    case(
        "a driver that computes nothing",
        [*ON_GPU_FAULTY, op("matmul", GPU0, wrong=4096)],
        "wrong_numbers",
        "4096 of 4096 values differ from NumPy's, such as 0.0, not 61639",
        gpus=1,
    ),
    case("the second gpu is wrong", [*ON_TWO, op("matmul", GPU1, wrong=1)], "wrong_numbers", GPU1, gpus=2),
    case("wrong on the cpu", [*ON_CPU, op("training_step", CPU, wrong=3)], "wrong_numbers", "training_step"),
    case("protobuf", [done("import", error=PROTOBUF)], "import_failed", "Descriptors cannot not be created"),
    case("exit within the import", [begun("import")], "import_failed", "status 3 in stage import", exit_status=3),
    case("python cannot start", [], "import_failed", "status 1 after 0 stages", exit_status=1),
    case("another release", ON_CPU, "wrong_release", "2.8.0 is there, not 2.8.1", release="2.8.1"),
    case("a release of another length", ON_CPU, "wrong_release", "not 2.8", release="2.8"),
    case(
        "another release without the gpu",
        [imported("2.10.1"), devices(), *ops(CPU), LIBRARIES],
        "wrong_release",
        "2.10.1",
        gpus=1,
    ),
    case("a post release", [imported("2.15.0"), *ON_CPU[1:]], "cpu_only_no_gpu", "", release="2.15.0.post1"),
    case("a candidate", [imported("2.8.0-rc1"), *ON_CPU[1:]], "cpu_only_no_gpu", "", release="2.8.0rc1"),
    case(
        "devices do not start",
        [imported(), done("devices", error="InternalError: cudaGetDevice() failed."), LIBRARIES],
        "op_failed",
        "devices: InternalError: cudaGetDevice() failed.",
        gpus=1,
    ),
    case(
        "operation raises",
        [*ON_GPU_FAULTY, done("matmul", GPU0, error="InternalError: CUDA driver version is insufficient")],
        "op_failed",
        f"matmul on {GPU0}: InternalError: CUDA driver version is insufficient",
        gpus=1,
    ),
    case(
        "exit within an operation",
        [imported(), devices(GPU0), begun("matmul", GPU0)],
        "op_failed",
        f"status 1 in stage matmul on {GPU0}",
        exit_status=1,
        gpus=1,
    ),
    case("a stage is missing", [*ON_GPU[:2], *ON_GPU[3:]], "op_failed", "status 0 after 6 stages", gpus=1),
    case("a device is missing", [*ON_TWO[:6], ALL_REDUCE, LIBRARIES], "op_failed", "status 0", gpus=2),
    case("no sum across the gpus", [*ON_TWO[:-2], LIBRARIES], "op_failed", "status 0", gpus=2),
    case("no device at all", [imported(), done("devices", devices=[]), LIBRARIES], "op_failed", "status 0"),
    case("bad exit after all stages", ON_GPU, "op_failed", "status 1 after 7 stages", exit_status=1, gpus=1),
    case("time over in the import", [begun("import")], "timed_out", "in stage import", exit_status=None),
    case(
        "time over on the gpu",
        [imported(), devices(GPU0), begun("matmul", GPU0)],
        "timed_out",
        f"in stage matmul on {GPU0}",
        exit_status=None,
        gpus=1,
    ),
    case(
        "memory full and then no end",
        [imported(), devices(GPU0), done("matmul", GPU0, error="InternalError: Failed copying input tensor")]
        + [begun("training_step", GPU0)],
        "op_failed",
        f"matmul on {GPU0}: InternalError: Failed copying",
        exit_status=None,
        gpus=1,
    ),
    case(
        "one gpu is missing and the other aborts",
        [imported(), devices(GPU0), begun("matmul", GPU0)],
        "gpu_not_used",
        "1 of 2",
        exit_status=-signal.SIGABRT,
        gpus=2,
    ),
    case("time over at the exit", ON_GPU, "timed_out", "after 7 stages", exit_status=None, gpus=1),
    case(
        "ecc",
        [imported(), devices(GPU0), begun("matmul", GPU0)],
        "killed",
        f"SIGABRT in stage matmul on {GPU0}. Last in its log: .*GPU->CPU Memcpy failed",
        exit_status=-signal.SIGABRT,
        gpus=1,
        capture="tf2.8.ecc",
    ),
    case("crash at the exit", ON_GPU, "killed", "SIGSEGV after 7 stages", exit_status=-signal.SIGSEGV, gpus=1),
    case("signal without a name", [], "killed", "signal 40 ", exit_status=-40),
]


@pytest.mark.parametrize(("records", "exit_status", "release", "gpus", "capture", "verdict", "reason"), CASES)
def test_judge(
    records: list[Record],
    exit_status: int | None,
    release: str,
    gpus: int,
    capture: str | None,
    verdict: str,
    reason: str,
) -> None:
    stderr = (CAPTURES / f"{capture}.err").read_text() if capture else ""
    found = judge(records, exit_status, release=release, expect_gpu=gpus > 0, gpu_count=gpus, stderr=stderr)
    assert found.name == verdict
    # Only the ECC case is a pattern; the others are literal text.
    assert all(part in found.reason for part in reason.split(".*"))


def test_one_gpu_is_expected_where_no_number_is_given() -> None:
    assert judge(ON_CPU, 0, release="2.8.0", expect_gpu=True, gpu_count=0).name == "gpu_not_used"


def test_tensorrt_and_factory_noise_is_no_reason() -> None:
    stderr = (CAPTURES / "tf2.10.M-nolibs.err").read_text()
    reason = judge(ON_CPU, 0, release="2.8.0", expect_gpu=True, gpu_count=1, stderr=stderr).reason
    assert "libnvinfer" not in reason
    assert "factory" not in reason
    assert reason.count("'libcudart.so.11.0'") == 1


def captured(name: str) -> list[Record]:
    return [json.loads(line) for line in (CAPTURES / f"{name}.records.jsonl").read_text().splitlines()]


def test_a_double_of_the_driver_that_computes_nothing_is_refused() -> None:
    """What TensorFlow 2.8.0 did on libraries that answer every call with success."""
    verdict = judge(captured("tf2.8.double"), 0, release="2.8.0", expect_gpu=True, gpu_count=1)
    assert verdict.name == "wrong_numbers"
    assert "4096 of 4096" in verdict.reason
    report = make_report(captured("tf2.8.double"), {})
    assert report["gpu"] == "present"
    assert "test double" in report["devices"][1]["description"]
    assert {library["name"] for library in report["libraries_mapped"]} >= {"libcuda.so.1", "libcudnn.so.8"}


def test_an_abort_of_tensorflow_shows_how_far_it_came() -> None:
    stderr = (CAPTURES / "tf2.8.ecc.err").read_text()
    arguments: Any = {"release": "2.8.0", "expect_gpu": True, "gpu_count": 1, "stderr": stderr}
    verdict = judge(captured("tf2.8.ecc"), -signal.SIGABRT, **arguments)
    assert verdict.name == "killed"
    assert "GPU->CPU Memcpy failed" in verdict.reason
    report = make_report(captured("tf2.8.ecc"), {})
    assert [(stage["name"], stage["passed"]) for stage in report["stages"]] == [
        ("import", True),
        ("devices", True),
        ("matmul", False),
    ]


@pytest.mark.parametrize("module", probe._CHILD, ids=lambda module: module.__name__.rsplit(".", 1)[-1])
def test_child_runs_where_the_oldest_tensorflow_does(module: ModuleType) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="ascii"), feature_version=(3, 6))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [node for node in imported if node.module == "__future__"]
    sent = {sent.__name__.rsplit(".", 1)[-1] for sent in probe._CHILD}
    relative = [node for node in imported if node.level]
    assert {node.module or alias.name for node in relative for alias in node.names} <= sent


@pytest.mark.parametrize(
    ("path", "is_cuda"),
    [
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01", True),
        ("/venv/lib/python3.10/site-packages/nvidia/cudnn/lib/libcudnn_ops_infer.so.8", True),
        ("/usr/local/cuda-11.2/lib64/libcublasLt.so.11.3.1.68", True),
        ("/usr/local/cuda-11.2/lib64/libcusolverMg.so.11", True),
        ("/usr/lib/libnvidia-ml.so.1", True),
        ("/venv/nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.3", True),
        ("/venv/lib/python3.10/site-packages/tensorflow/libtensorflow_framework.so.2", False),
        ("/usr/lib/x86_64-linux-gnu/libcurl.so.4", False),
        ("/home/libcuda/libm.so.6", False),
    ],
)
def test_cuda_libraries_are_told_apart(path: str, is_cuda: bool) -> None:
    assert bool(main.CUDA_LIBRARY.search(path)) is is_cuda


# The child process, with programs in the place of Python


def program(path: Path, body: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_a_python_without_tensorflow(tmp_path: Path) -> None:
    seen = probe.observe(sys.executable, has_gpu=False, time_limit=60)
    if not any(record.get("error") for record in seen.records):
        pytest.skip("TensorFlow is installed beside the tests")
    verdict = judge(seen.records, seen.exit_status, release="2.8.0", expect_gpu=False, gpu_count=0)
    assert verdict.name == "import_failed"
    assert "ModuleNotFoundError: No module named" in verdict.reason
    assert "Traceback" in seen.stderr


def test_an_abort_leaves_the_records_before_it(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(record) for record in [imported(), begun("devices")])
    python = program(tmp_path / "python", f'cat <<\'END\'\nnot a record\n{lines}\n{{"stage": "dev\nEND\nkill -ABRT $$')
    seen = probe.observe(python, has_gpu=False, time_limit=60)
    assert seen.exit_status == -signal.SIGABRT
    assert seen.records == [imported(), begun("devices")]


def test_the_time_limit_ends_the_whole_group(tmp_path: Path) -> None:
    python = program(tmp_path / "python", f"sleep 300 & echo $! > {tmp_path}/pid; echo alive >&2; wait")
    start = time.monotonic()
    seen = probe.observe(python, has_gpu=False, time_limit=0.5)
    assert time.monotonic() - start < 5
    assert (seen.exit_status, seen.stderr) == (None, "alive\n")
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    deadline = time.monotonic() + 5
    while stat.exists() and stat.read_text().rsplit(")")[-1].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not stat.exists() or stat.read_text().rsplit(")")[-1].split()[0] == "Z"


def test_the_child_gets_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LD_PRELOAD"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/kept")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    python = program(tmp_path / "python", 'env >&2; echo "stdin=$(readlink /proc/self/fd/0) cwd=$PWD $1 $2" >&2')
    lines = probe.observe(python, has_gpu=False, time_limit=60).stderr.splitlines()
    assert {"LC_ALL=C", "TF_CPP_MIN_LOG_LEVEL=0", "LD_LIBRARY_PATH=/opt/kept"} <= set(lines)
    assert not [line for line in lines if line.startswith(("PYTHON", "LD_PRELOAD"))]
    assert lines[-1] == "stdin=/dev/null cwd=/ -I -c"


def test_a_long_log_is_cut_at_its_beginning(tmp_path: Path) -> None:
    python = program(tmp_path / "python", "seq 1 200000 >&2")
    seen = probe.observe(python, has_gpu=False, time_limit=60)
    assert len(seen.stderr) <= 64 * 1024
    assert seen.stderr.endswith("\n200000\n")


# The check of an environment


class Node:
    """A root with one environment whose Python replays what a real TensorFlow 2.8.0 said, and counts its runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = root / "tensorflow-2.8.0"
        self.arguments: dict[str, Any] = {
            "release": "2.8.0",
            "expect_gpu": False,
            "evidence": {"driver": None, "boot_id": "1f0c"},
        }
        self.build("tensorflow-2.8.0-1a2b3c4d5e6f-1")
        manifest.update(
            str(root), lambda content: content["environments"].update({"tensorflow-2.8.0": {"check": None}})
        )

    def build(self, name: str) -> None:
        replay = CAPTURES / "tf2.8.cpu.records.jsonl"
        program(self.root / ".builds" / name / "bin/python", f"echo >> {self.root}/runs; cat {replay}; echo log >&2")
        self.environment.unlink(missing_ok=True)
        self.environment.symlink_to(f".builds/{name}")

    @property
    def runs(self) -> int:
        path = self.root / "runs"
        return len(path.read_text()) if path.exists() else 0

    def check(self, **arguments: Any) -> probe.CheckOutcome:
        return probe.check(str(self.environment), **{**self.arguments, **arguments})


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_what_was_expected_is_stored(node: Node) -> None:
    """For the health check, which makes no plan."""
    node.check()
    stored = manifest.read(str(node.root))["environments"]["tensorflow-2.8.0"]["check"]["expected"]
    expected = {"release": "2.8.0", "expect_gpu": False, "gpu_count": 0, "gpu_addresses": [], "cudnn_floor": None}
    assert stored == expected


def test_a_check_is_reported_and_stored(node: Node) -> None:
    outcome = node.check()
    assert (outcome.verdict, outcome.reused, outcome.stored) == ("cpu_only_no_gpu", False, True)
    assert outcome.is_good
    assert outcome.stderr_tail == ["log"]
    report = outcome.report
    assert (report["tensorflow_version"], report["numpy_version"], report["gpu"]) == ("2.8.0", "1.23.5", "absent")
    assert report["build_info"]["cuda_version"] == "11.2"
    assert [(stage["name"], stage["passed"]) for stage in report["stages"]] == [
        ("import", True),
        ("devices", True),
        ("matmul", True),
        ("training_step", True),
        ("convolution", True),
        ("xla", True),
        ("libraries", True),
    ]
    entry = manifest.read(str(node.root))["environments"]["tensorflow-2.8.0"]["check"]
    assert entry["verdict"] == "cpu_only_no_gpu"
    assert entry["report"] == report
    assert entry["checked_at"] == outcome.checked_at


def test_the_same_evidence_reuses_a_good_verdict(node: Node) -> None:
    first = node.check()
    before = (node.root / "manifest.json").stat().st_mtime_ns
    again = node.check()
    assert node.runs == 1
    assert again.reused
    assert (again.verdict, again.reason, again.report, again.checked_at) == (
        first.verdict,
        first.reason,
        first.report,
        first.checked_at,
    )
    assert (node.root / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"reuse": False}, id="not wanted"),
        pytest.param({"evidence": {"driver": None, "boot_id": "2a1d"}}, id="rebooted"),
        pytest.param({"evidence": {"driver": "535.183.01", "boot_id": "1f0c"}}, id="driver installed"),
        pytest.param({"evidence": {}}, id="no evidence"),
        pytest.param({"release": "2.8.1"}, id="another release"),
        pytest.param({"expect_gpu": True}, id="a gpu is expected"),
    ],
)
def test_other_conditions_check_again(node: Node, arguments: dict[str, Any]) -> None:
    node.check()
    assert not node.check(**arguments).reused
    assert node.runs == 2


def test_no_evidence_is_never_reused(node: Node) -> None:
    assert not node.check(evidence={}).reused
    assert not node.check(evidence={}).reused


def test_another_build_checks_again(node: Node) -> None:
    node.check()
    node.build("tensorflow-2.8.0-1a2b3c4d5e6f-2")
    assert not node.check().reused


def test_what_was_added_to_the_build_checks_again(node: Node) -> None:
    build = Path(os.path.realpath(node.environment))
    (build / "site-packages").mkdir()
    texts = dict.fromkeys(("name", "release", "flavour", "digest", "build", "lock_sha256"), "")
    tables: dict[str, Any] = {key: {} for key in ("packages", "links", "frame", "records")}
    others = {"python": {"minor": "", "path": ""}, "site_packages": "site-packages", "top_level": []}
    others |= {"cuda": None, "cudnn": None}
    (build / "build.json").write_text(json.dumps({**texts, **tables, **others}))
    node.check()
    assert node.check().reused
    (build / "site-packages" / "sitecustomize.py").write_text("")
    assert not node.check().reused
    assert node.check().reused


def test_another_library_path_checks_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.check()
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/cuda/lib64")
    outcome = node.check()
    assert not outcome.reused
    assert outcome.report["variables"] == {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64"}


def test_a_bad_verdict_is_stored_and_never_reused(node: Node) -> None:
    for _ in range(2):
        outcome = node.check(expect_gpu=True)
        assert (outcome.verdict, outcome.reused, outcome.stored) == ("gpu_not_used", False, True)
    assert node.runs == 2
    assert manifest.read(str(node.root))["environments"]["tensorflow-2.8.0"]["check"]["verdict"] == "gpu_not_used"


def test_check_mode_runs_and_stores_nothing(node: Node) -> None:
    before = (node.root / "manifest.json").read_bytes()
    outcome = node.check(check_mode=True)
    assert (outcome.verdict, outcome.stored) == ("cpu_only_no_gpu", False)
    assert (node.root / "manifest.json").read_bytes() == before


def test_an_environment_that_the_manifest_does_not_know(tmp_path: Path) -> None:
    node = Node(tmp_path)
    (tmp_path / "manifest.json").unlink()
    shutil.rmtree(tmp_path / ".locks")
    outcome = node.check()
    assert (outcome.verdict, outcome.stored) == ("cpu_only_no_gpu", False)
    assert not (tmp_path / ".locks").exists()


def test_a_root_of_somebody_else_is_not_run_from(node: Node) -> None:
    node.root.chmod(0o777)
    with pytest.raises(StackError, match="could be changed by others"):
        node.check()
    assert node.runs == 0


def test_the_check_waits_for_a_change_and_for_a_reboot() -> None:
    assert probe.not_run("/opt/tensorflow/a", pending=False, reboot_reasons=()) is None
    pending = probe.not_run("/opt/tensorflow/a", pending=True, reboot_reasons=["the module is older"])
    assert pending == probe.CheckOutcome("not_checked", "/opt/tensorflow/a would be changed.")
    waiting = probe.not_run("/opt/tensorflow/a", pending=False, reboot_reasons=["the module is older", "nouveau"])
    assert waiting == probe.CheckOutcome(
        "reboot_required",
        "the module is older; nouveau. Reboot the node and run again, or set nvidia_driver_reboot to true.",
    )


def test_an_environment_for_the_cpu_is_checked_without_gpus(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    observe = probe.observe

    def watch(python: str, **options: Any) -> probe.Observation:
        asked.append(options["has_gpu"])
        return observe(python, **options)

    monkeypatch.setattr(probe, "observe", watch)
    node.check(reuse=False)
    node.check(reuse=False, expect_gpu=True)
    assert asked == [False, True]


def test_a_root_that_cannot_be_written(node: Node) -> None:
    shutil.rmtree(node.root / ".locks")
    (node.root / ".locks" / "manifest").mkdir(parents=True)  # also root cannot open that to write
    outcome = node.check()
    assert (outcome.verdict, outcome.stored) == ("cpu_only_no_gpu", False)


def test_an_environment_removed_meanwhile_is_not_written_back(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    observe = probe.observe

    def remove(python: str, **options: Any) -> probe.Observation:
        manifest.update(str(node.root), lambda content: content["environments"].clear())
        return observe(python, **options)

    monkeypatch.setattr(probe, "observe", remove)
    assert not node.check().stored
    assert manifest.read(str(node.root))["environments"] == {}


def test_a_damaged_manifest_stops_the_check(node: Node) -> None:
    (node.root / "manifest.json").write_text("{")
    with pytest.raises(StackError, match="is not JSON"):
        node.check()
    assert node.runs == 0


@pytest.mark.parametrize(
    ("check_mode", "verdict"), [(False, "environment_missing"), (True, "not_checked")], ids=["run", "check mode"]
)
def test_no_environment(tmp_path: Path, check_mode: bool, verdict: str) -> None:
    path = str(tmp_path / "tensorflow-2.8.0")
    outcome = probe.check(path, release="2.8.0", expect_gpu=False, evidence={}, check_mode=check_mode)
    assert outcome.verdict == verdict
    assert path in outcome.reason
    assert (outcome.checked_at, outcome.report["stages"]) == (None, [])


@pytest.mark.parametrize("check_mode", [False, True], ids=["run", "check mode"])
@pytest.mark.parametrize("damage", ["gone", "dangling", "not executable"])
def test_an_environment_whose_python_does_not_start(node: Node, damage: str, check_mode: bool) -> None:
    python = node.environment / "bin/python"
    if damage == "not executable":
        python.chmod(0o644)
    else:
        python.unlink()
    if damage == "dangling":
        python.symlink_to("/nonexistent/python3.10")
    outcome = node.check(check_mode=check_mode)
    assert outcome.verdict == "environment_missing"
    assert os.path.realpath(node.environment) in outcome.reason
    assert not outcome.is_good


def test_a_relative_environment_is_refused() -> None:
    with pytest.raises(StackError, match=r"'tensorflow-2\.8\.0': give an absolute path"):
        probe.check("tensorflow-2.8.0", release="2.8.0", expect_gpu=False, evidence={})


def test_no_time_is_refused(node: Node) -> None:
    with pytest.raises(StackError, match="time_limit is 0: give a number of seconds above 0"):
        node.check(time_limit=0)


def test_the_child_looks_for_what_the_rest_of_the_toolkit_knows() -> None:
    """It imports nothing of it, so it has lists of its own."""
    assert {f"lib{name}" for name in libraries._LIBRARIES} == set(OPENED["cuda"])
    directories = {path.format(name) for path in libraries._DEFAULT_DIRECTORIES for name in ("x86_64", "aarch64")}
    assert directories == set(LOADER_DIRECTORIES)
