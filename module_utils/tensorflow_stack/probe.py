"""Run the check of an environment as a child process and judge what it said.

The child (`probe_child.py`) observes and writes records; `judge` is the one place that turns them into a
verdict. A new stage is a function in the child, and a rule in `_fault` if it can fail in a new way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import inspect
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any

from . import manifest, probe_child
from .builds import check_owner
from .errors import StackError

VERDICTS = {
    "ok": "every GPU that TensorFlow lists, and as many as expected, computed the right numbers",
    "cpu_only_no_gpu": "no GPU was expected and none is listed; the CPU computed the right numbers",
    "gpu_not_used": "TensorFlow lists fewer GPUs than expected, or an operation did not run on its GPU",
    "wrong_numbers": "an operation gave other numbers than NumPy",
    "import_failed": "`import tensorflow` raised or ended the process",
    "wrong_release": "the environment holds another release than the expected one",
    "op_failed": "the devices or an operation raised or ended the process",
    "timed_out": "the check was not done within the time limit and was ended",
    "killed": "a signal ended the process, among them TensorFlow's own abort",
    "environment_missing": "there is no environment, or its Python does not start",
    "reboot_required": "the driver works only after a reboot, so nothing was run",
    "not_checked": "nothing was run: check mode before the environment exists, or the check itself cannot run",
}
GOOD_VERDICTS = ("ok", "cpu_only_no_gpu")

_TAIL_LINES = 40
_TAIL_BYTES = 64 * 1024
# After SIGKILL; a process that hangs in a broken driver cannot be reaped, and the verdict has to come anyway.
_REAP_SECONDS = 10
# Variables that decide which libraries and devices the child finds.
_DECIDING_VARIABLES = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "NVIDIA_VISIBLE_DEVICES")
# What TensorFlow 1.15 to 2.21 say about a GPU that they do not use; libnvinfer (TensorRT) is optional.
_GPU_COMPLAINT = re.compile(
    r"Could not load dynamic library '(?!libnvinfer)[^;]*; dlerror: [^;]*|Could not find cuda drivers.*"
    r"|failed call to cuInit.*|kernel version \S+ does not match DSO version.*|no NVIDIA GPU device is present.*"
    r"|Cannot dlopen some GPU libraries|Ignoring visible gpu device.*"
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Observation:
    """What the child left: its records, how it ended (null: at the time limit) and its log."""

    records: list[Mapping[str, Any]]
    exit_status: int | None
    stderr: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result keys of `tensorflow_gpu_check`."""

    verdict: str
    reason: str
    reused: bool = False
    stored: bool = False
    checked_at: str | None = None
    report: dict[str, Any] = dataclasses.field(default_factory=lambda: _report([], {}))
    stderr_tail: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return self.verdict in GOOD_VERDICTS


def check(
    environment: str,
    *,
    release: str,
    expect_gpu: bool,
    gpu_count: int = 0,
    time_limit: float = 300,
    reuse: bool = True,
    evidence: Mapping[str, Any],
    check_mode: bool = False,
    pending: bool = False,
    reboot_reasons: Sequence[str] = (),
) -> Outcome:
    """The outcome for the build that `environment` points to, run now or taken from the manifest."""
    if pending:
        return Outcome("not_checked", f"{environment} is about to be changed.")
    if reboot_reasons:
        return Outcome(
            "reboot_required",
            f"{'; '.join(reboot_reasons)}. Reboot the node and run again, or set nvidia_driver_reboot to true.",
        )
    if not os.path.isabs(environment):
        raise StackError(f"environment is {environment!r}: give an absolute path.")
    if time_limit <= 0:
        raise StackError(f"time_limit is {time_limit}: give a number of seconds above 0.")
    if not os.path.lexists(environment):
        missing = f"There is no environment at {environment}"
        if check_mode:
            return Outcome("not_checked", f"{missing} yet.")
        return Outcome("environment_missing", f"{missing}: build it with tensorflow_venv.")

    root, name = os.path.split(environment.rstrip("/"))
    check_owner(root)
    known = manifest.read(root)["environments"].get(name)
    # The link may be switched while the check runs: judge one build and record that one.
    build = os.path.realpath(environment)
    variables = {key: os.environ[key] for key in _DECIDING_VARIABLES if key in os.environ}
    evidence_sha256 = _digest(
        evidence,
        variables,
        build,
        release,
        expect_gpu,
        gpu_count,
        _source(probe_child),
        _source(sys.modules[__name__]),
    )
    stored = (known or {}).get("check") or {}
    is_same = stored.get("evidence_sha256") == evidence_sha256
    if reuse and evidence and is_same and stored["verdict"] in GOOD_VERDICTS:
        return Outcome(
            stored["verdict"],
            stored["reason"],
            reused=True,
            stored=True,
            checked_at=stored["checked_at"],
            report=stored["report"],
        )

    checked_at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    python = os.path.join(build, "bin", "python")
    try:
        observation = observe(python, time_limit=time_limit, hide_gpus=not expect_gpu)
    except OSError as error:
        reason = f"{python} does not start ({error.strerror}): rebuild the environment with tensorflow_venv."
        return Outcome("environment_missing", reason, checked_at=checked_at)
    verdict = judge(
        observation.records,
        observation.exit_status,
        release=release,
        expect_gpu=expect_gpu,
        gpu_count=gpu_count,
        stderr=observation.stderr,
    )
    report = _report(observation.records, variables)
    entry = {
        "verdict": verdict.name,
        "reason": verdict.reason,
        "evidence_sha256": evidence_sha256,
        "checked_at": checked_at,
        "report": report,
    }
    return Outcome(
        verdict.name,
        verdict.reason,
        stored=known is not None and not check_mode and _store(root, name, entry),
        checked_at=checked_at,
        report=report,
        stderr_tail=observation.stderr.splitlines()[-_TAIL_LINES:],
    )


def observe(python: str, *, time_limit: float, hide_gpus: bool = False) -> Observation:
    """Run the child in `python`. Raises OSError when that cannot be started."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON") and key != "LD_PRELOAD"}
    environ.update(LC_ALL="C", TF_CPP_MIN_LOG_LEVEL="0")
    if hide_gpus:
        # An environment for the CPU is proven on the CPU, also on a node whose GPU TensorFlow would find.
        environ["CUDA_VISIBLE_DEVICES"] = "-1"
    # Files, not pipes: what was written is there whatever became of the writer.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [python, "-I", "-c", _source(probe_child), str(math.ceil(time_limit) + 60)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd="/",
            env=environ,
            start_new_session=True,
        )
        exit_status: int | None = None
        try:
            exit_status = process.wait(timeout=time_limit)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=_REAP_SECONDS)
        return Observation(
            records=_parse_records(_read(stdout, last=sys.maxsize)),
            exit_status=exit_status,
            stderr=_read(stderr, last=_TAIL_BYTES),
        )


def judge(
    records: Sequence[Mapping[str, Any]],
    exit_status: int | None,
    *,
    release: str,
    expect_gpu: bool,
    gpu_count: int,
    stderr: str = "",
) -> Verdict:
    """Pure. `exit_status` is null at the time limit and negative for a signal, as in `subprocess`.

    The first cause wins, in the order in which the child works.
    """
    stages = _stages(records)
    finished = {key: stage for key, stage in stages.items() if stage["finished"]}
    imported = finished.get(("import", None), {})
    devices = finished.get(("devices", None), {}).get("devices", [])
    gpus = [device["name"] for device in devices if device["type"] == "GPU"]
    wanted = max(gpu_count, 1) if expect_gpu else 0

    for (name, _), stage in finished.items():
        fault = _fault(stage)
        if fault:
            return fault
        if name == "import" and not _is_release(stage["tensorflow_version"], release):
            return Verdict("wrong_release", f"TensorFlow {stage['tensorflow_version']} is there, not {release}.")
        if name == "devices" and len(gpus) < wanted:
            why = _why_no_gpu(imported["build_info"], stderr)
            return Verdict("gpu_not_used", f"TensorFlow lists {len(gpus)} of {wanted} expected GPUs. {why}")

    running = [_label(stage) for key, stage in stages.items() if key not in finished]
    where = f"in stage {running[0]}" if running else f"after {len(stages)} stages"
    last_words = next((line for line in reversed(stderr.splitlines()) if line.strip()), "nothing")
    if exit_status is None:
        return Verdict("timed_out", f"Not done at the time limit, {where}. Last in its log: {last_words}")
    if exit_status < 0:
        by = _signal_name(-exit_status)
        return Verdict("killed", f"Ended by {by} {where}. Last in its log: {last_words}")
    tested = gpus or [device["name"] for device in devices]
    due = {("import", None), ("devices", None), ("libraries", None)}
    due.update((stage, device) for device in tested for stage in probe_child.DEVICE_STAGES)
    if exit_status != 0 or not tested or due - finished.keys():
        verdict = "op_failed" if imported else "import_failed"
        return Verdict(verdict, f"Python ended with status {exit_status} {where}. Last in its log: {last_words}")

    right = f"TensorFlow {imported['tensorflow_version']} computed the right numbers on {', '.join(tested)}"
    if gpus:
        return Verdict("ok", f"{right}.")
    return Verdict("cpu_only_no_gpu", f"{right}; no GPU was expected.")


def _fault(stage: Mapping[str, Any]) -> Verdict | None:
    """What is wrong with one stage's record, taken by itself."""
    label = _label(stage)
    if not stage["finished"]:
        return Verdict("op_failed", f"Stage {label} did not finish.")
    if stage["error"]:
        return Verdict("import_failed" if stage["stage"] == "import" else "op_failed", f"{label}: {stage['error']}")
    elsewhere = [name for name in stage.get("ran_on", []) if not name.endswith(stage["device"])]
    if elsewhere:
        return Verdict("gpu_not_used", f"{label} ran on {', '.join(elsewhere)}.")
    if stage.get("wrong"):
        found = f"{stage['wrong']} of {stage['values']} values differ from NumPy's, such as {stage['example']}"
        return Verdict("wrong_numbers", f"{label}: {found}.")
    return None


def _why_no_gpu(build_info: Mapping[str, Any], stderr: str) -> str:
    if build_info.get("is_cuda_build") is False:
        return "This TensorFlow was built without CUDA: choose the release's package with the GPU build."
    complaints = [match.group(0) for match in map(_GPU_COMPLAINT.search, stderr.splitlines()) if match]
    if not complaints:
        return "Its log does not say why."
    return "Its log: " + "; ".join(dict.fromkeys(complaints))  # it repeats itself


def _is_release(version: str, release: str) -> bool:
    """TensorFlow spells 2.8.0rc1 as 2.8.0-rc1, and a post release by its base version."""
    return version.replace("-", "") == release.split(".post")[0]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _label(stage: Mapping[str, Any]) -> str:
    return f"{stage['stage']} on {stage['device']}" if stage["device"] else str(stage["stage"])


def _stages(records: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str | None], Mapping[str, Any]]:
    """The last record of each stage, in the order in which they began."""
    return {(record["stage"], record["device"]): record for record in records}


def _report(records: Sequence[Mapping[str, Any]], variables: Mapping[str, str]) -> dict[str, Any]:
    stages = _stages(records)
    known: dict[str, Any] = {}
    for record in stages.values():
        known.update(record)
    devices = known.get("devices", [])
    has_gpu = any(device["type"] == "GPU" for device in devices)
    return {
        "python": known.get("python"),
        "tensorflow_version": known.get("tensorflow_version"),
        "numpy_version": known.get("numpy_version"),
        "build_info": known.get("build_info", {}),
        "gpu": "present" if has_gpu else "absent" if devices else None,
        "devices": devices,
        "libraries_mapped": known.get("libraries_mapped", []),
        "variables": dict(variables),
        "stages": [_stage_row(record) for record in stages.values()],
    }


def _stage_row(record: Mapping[str, Any]) -> dict[str, Any]:
    fault = _fault(record)
    passed = f"{record['values']} values equal NumPy's" if "values" in record else ""
    return {
        "name": record["stage"],
        "device": record["device"],
        "passed": fault is None,
        "seconds": record.get("seconds"),
        "detail": fault.reason if fault else passed,
    }


def _parse_records(text: str) -> list[Mapping[str, Any]]:
    """Site hooks may print before the child starts, and a death may cut the last line: both are skipped."""
    records: list[Mapping[str, Any]] = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and "stage" in record:
                records.append(record)
    return records


def _read(file: IO[bytes], *, last: int) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - last))
    return file.read().decode("utf-8", "replace")


def _source(module: Any) -> str:
    # From the checkout and from the zip that Ansible sends to a node alike.
    return inspect.getsource(module)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _store(root: str, name: str, entry: Mapping[str, Any]) -> bool:
    """Whether the manifest holds the verdict now; one that may not be written is no failure."""

    def change(content: dict[str, Any]) -> None:
        content["environments"][name]["check"] = entry

    try:
        manifest.update(root, change)
    except (OSError, KeyError):
        return False
    return True


def examine(python: str, *, expect_gpu: bool, gpu_count: int, time_limit: float) -> Outcome:
    """The outcome for any Python, whatever release it has, with its whole log; nothing is reused or stored."""
    try:
        observation = observe(python, time_limit=time_limit, hide_gpus=not expect_gpu)
    except OSError as error:
        return Outcome("environment_missing", f"{python} does not start: {error.strerror}.")
    variables = {key: os.environ[key] for key in _DECIDING_VARIABLES if key in os.environ}
    report = _report(observation.records, variables)
    verdict = judge(
        observation.records,
        observation.exit_status,
        release=(report["tensorflow_version"] or "").replace("-", ""),
        expect_gpu=expect_gpu,
        gpu_count=gpu_count,
        stderr=observation.stderr,
    )
    return Outcome(verdict.name, verdict.reason, report=report, stderr_tail=observation.stderr.splitlines())
