"""Run the check of an environment as a child process and judge what it said.

The child (`child/main.py`) observes and writes records; `verdicts.py` is the one place that turns them into a verdict.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from tempfile import TemporaryFile
from typing import IO, Any

from ..environment.builds import Build
from ..environment.damage import compare_build, find_added
from ..environment.root import check_program, check_root
from ..errors import NotStartedError, StackError
from ..io.clock import timestamp
from ..io.commands import run_into
from ..io.trust import private_directory
from ..io.writing import write_new
from ..records import history, manifest
from ..records.build import read_record
from ..records.evidence import deciding_variables, evidence_digest
from .child import driver, libraries, main, stages
from .kept_logs import keep_check_log
from .report import make_report
from .verdicts import GOOD_VERDICTS, judge

# What the manifest keeps of an outcome.
_STORED = ("verdict", "reason", "checked_at", "report")
# A package of its own for the environment's Python.
_CHILD = (stages, driver, libraries, main)
_RUN_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from check.main import main; main(*sys.argv[2:])"

_TAIL_BYTES = 64 * 1024


@dataclasses.dataclass(frozen=True)
class Observation:
    """What the child left: its records, how it ended (null: at the time limit) and its log."""

    records: list[Mapping[str, Any]]
    exit_status: int | None
    stderr: str


@dataclasses.dataclass(frozen=True)
class CheckOutcome:
    """The result keys of `tensorflow_gpu_check`."""

    verdict: str
    reason: str
    reused: bool = False
    stored: bool = False
    checked_at: str | None = None
    report: dict[str, Any] = dataclasses.field(default_factory=lambda: make_report([], {}))
    stderr_tail: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return self.verdict in GOOD_VERDICTS


def not_run(environment: str, *, pending: bool, reboot_reasons: Sequence[str]) -> CheckOutcome | None:
    """The outcome if the check of this environment has to wait."""
    if pending:
        return CheckOutcome("not_checked", f"{environment} would be changed.")
    if reboot_reasons:
        return CheckOutcome(
            "reboot_required",
            f"{'; '.join(reboot_reasons)}. Reboot the node and run again, or set nvidia_driver_reboot to true.",
        )
    return None


def check(
    environment: str,
    *,
    release: str,
    expect_gpu: bool,
    gpu_count: int = 0,
    gpu_addresses: Sequence[str] = (),
    cudnn_floor: str | None = None,
    level: str = "full",
    time_limit: float = 300,
    reuse: bool = True,
    evidence: Mapping[str, Any],
    check_mode: bool = False,
) -> CheckOutcome:
    """The outcome for the build that `environment` points to, run now or taken from the manifest."""
    if not os.path.isabs(environment):
        raise StackError(f"environment is {environment!r}: give an absolute path.")
    if time_limit <= 0:
        raise StackError(f"time_limit is {time_limit}: give a number of seconds above 0.")
    if not os.path.lexists(environment):
        return _without_environment(environment, check_mode=check_mode)
    root, name = os.path.split(environment.rstrip("/"))
    check_root(root)
    content = manifest.read(root)
    known = content["environments"].get(name)
    # The link may be switched while the check runs: judge one build and record that one.
    build = os.path.realpath(environment)
    python = os.path.join(build, "bin", "python")
    check_program(python)
    visible = (read_record(build) or {}).get("visible_gpus")
    expected = {
        "release": release,
        "expect_gpu": expect_gpu,
        "gpu_count": min(gpu_count, len(visible.split(","))) if visible else gpu_count,
        "gpu_addresses": list(gpu_addresses),
        "cudnn_floor": cudnn_floor,
    }
    digest = _evidence_digest(build, evidence, expected)
    is_whole = level == "full"
    reused = _reused(known or {}, digest) if is_whole and reuse and evidence else None
    if reused:
        if not check_mode and _note(content, name, build, reused):
            _update(root, lambda content: _note(content, name, build, reused))
        return reused
    checked_at = timestamp()
    try:
        observation = observe(python, time_limit=time_limit, has_gpu=expect_gpu, level=level)
    except NotStartedError as error:
        reason = f"{python} does not start ({error.reason}): rebuild the environment with tensorflow_venv."
        return CheckOutcome("environment_missing", reason, checked_at=checked_at)
    outcome = dataclasses.replace(_judged(observation, expected, level=level), checked_at=checked_at)
    is_kept = is_whole and known is not None and not check_mode
    if is_kept:
        keep_check_log(root, name, None if outcome.is_good else "\n".join(outcome.stderr_tail))
    stored = is_kept and _store(root, name, build, outcome, digest=digest, expected=expected)
    return dataclasses.replace(outcome, stored=stored)


def _without_environment(environment: str, *, check_mode: bool) -> CheckOutcome:
    missing = f"There is no environment at {environment}"
    if check_mode:
        return CheckOutcome("not_checked", f"{missing} yet.")
    return CheckOutcome("environment_missing", f"{missing}: build it with tensorflow_venv.")


def _evidence_digest(build: str, evidence: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    found = Build(build, read_record(build))
    return evidence_digest(
        evidence=evidence,
        additions=find_added(found, compare_build(found)) if found.record else (),
        variables=deciding_variables(os.environ),
        build=os.path.basename(build),
        **expected,
    )


def _reused(entry: Mapping[str, Any], digest: str) -> CheckOutcome | None:
    """The good verdict in an environment's entry of the manifest, if it holds for the same evidence."""
    stored = entry.get("check") or {}
    if stored.get("evidence_sha256") != digest or stored["verdict"] not in GOOD_VERDICTS:
        return None
    return CheckOutcome(**{key: stored[key] for key in _STORED}, reused=True, stored=True)


def _judged(observation: Observation, expected: Mapping[str, Any], *, level: str = "full") -> CheckOutcome:
    verdict = judge(observation.records, observation.exit_status, stderr=observation.stderr, level=level, **expected)
    return CheckOutcome(
        verdict.name,
        verdict.reason,
        report=make_report(observation.records, deciding_variables(os.environ)),
        stderr_tail=observation.stderr.splitlines(),
    )


def _store(
    root: str, name: str, build: str, outcome: CheckOutcome, *, digest: str, expected: Mapping[str, Any]
) -> bool:
    def change(content: dict[str, Any]) -> None:
        entry = {key: getattr(outcome, key) for key in _STORED}
        content["environments"][name]["check"] = {**entry, "evidence_sha256": digest, "expected": dict(expected)}
        _note(content, name, build, outcome)

    return _update(root, change)


def _note(content: dict[str, Any], name: str, build: str, outcome: CheckOutcome) -> bool:
    position = history.Position(name, os.path.basename(build))
    return history.note_verdict(content.get("history", []), position, outcome.verdict)


def _update(root: str, change: Callable[[dict[str, Any]], object]) -> bool:
    """Whether the manifest holds the verdict now; one that may not be written is no failure."""
    try:
        manifest.update(root, change)
    except (OSError, KeyError):
        return False
    return True


def examine(python: str, *, expect_gpu: bool, gpu_count: int, time_limit: float) -> CheckOutcome:
    """The outcome for any Python, whatever release it has, with its whole log; nothing is reused or stored."""
    try:
        observation = observe(python, time_limit=time_limit, has_gpu=expect_gpu)
    except NotStartedError as error:
        return CheckOutcome("environment_missing", f"{python} does not start: {error.reason}.")
    found = make_report(observation.records, {})["tensorflow_version"] or ""
    return _judged(observation, {"release": found.replace("-", ""), "expect_gpu": expect_gpu, "gpu_count": gpu_count})


def look(python: str, expected: Mapping[str, Any], *, time_limit: float) -> CheckOutcome:
    """The outcome for driver and libraries, found without computing: it may run next to jobs, and uses no GPU's memory.

    `expected` is what the manifest keeps of a check. Raises NotStartedError.
    """
    observation = observe(python, time_limit=time_limit, has_gpu=expected["expect_gpu"], level="health")
    return _judged(observation, expected, level="health")


def observe(python: str, *, time_limit: float, has_gpu: bool, level: str = "full") -> Observation:
    """Run the child in `python`. Raises NotStartedError."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON") and key != "LD_PRELOAD"}
    environ.update(LC_ALL="C", TF_CPP_MIN_LOG_LEVEL="0")
    if not has_gpu:
        # An environment for the CPU is proven on the CPU, also on a node whose GPU TensorFlow would find.
        environ["CUDA_VISIBLE_DEVICES"] = "-1"
    # Files, not pipes: what was written is there whatever became of the writer.
    with private_directory("tensorflow-check-") as directory, TemporaryFile() as stdout, TemporaryFile() as stderr:
        _write_child(directory)
        command = [python, "-I", "-c", _RUN_CHILD, directory, level, str(time_limit), "gpu" if has_gpu else "cpu"]
        exit_status = run_into(command, stdout, stderr, env=environ, timeout=time_limit, cwd="/")
        return Observation(
            records=_parse_records(_read(stdout, last=sys.maxsize)),
            exit_status=exit_status,
            stderr=_read(stderr, last=_TAIL_BYTES),
        )


def _write_child(directory: str) -> None:
    package = os.path.join(directory, "check")
    os.mkdir(package)
    for module in _CHILD:
        name = module.__name__.rpartition(".")[2]
        write_new(os.path.join(package, f"{name}.py"), _source(module))


def _parse_records(text: str) -> list[Mapping[str, Any]]:
    """Site hooks may print before the child starts, and a death may cut the last line: both are skipped."""
    records: list[Mapping[str, Any]] = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
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
