"""Examine a TensorFlow, whoever installed it, and the node around it; or a text that somebody sent. Reads only."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from ..environment import images
from ..environment.root import check_program, check_root
from ..errors import NotStartedError, StackError
from ..io.commands import run
from ..node.record import read_node
from ..records.gpus import gpus_in_reach
from . import probe
from .cpu import read_cpu
from .diagnose import Cause, diagnose, diagnose_check, read_facts
from .kept_logs import kept_text
from .log_judge import judge_log, wants_gpu
from .log_text import Log, split_lines

# A driver in trouble can hang whoever asks it.
_COMMAND_SECONDS = 30
_SEARCH_PATH = "import json, sys; print(json.dumps(sys.path))"
_METADATA = re.compile(r"^(?P<name>[\w.]+)-(?P<version>[^-]+)(-py[\d.]+)?\.(dist|egg)-info$")
_SHOWN_DISTRIBUTIONS = re.compile(r"^(tensorflow|keras|numpy|protobuf|nvidia-|setuptools|tensorrt|jax)")
_OF_THE_DRIVER = re.compile(r"NVRM|nvidia|nouveau|nova_core|Xid|fabricmanager|Lockdown|module .* is rejected", re.I)
_PACKAGES = re.compile(r"nvidia|cuda|cudnn", re.I)
_SHOWN_LENGTH = 400


@dataclasses.dataclass(frozen=True)
class Examination:
    """The result keys of `tensorflow_doctor`. Without a TensorFlow to try, verdict and report are null."""

    subject: str
    healthy: bool
    causes: list[Cause]
    verdict: str | None = None
    reason: str | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    report: dict[str, Any] | None = None
    log_tail: list[str] = dataclasses.field(default_factory=list)
    # How many lines of a log look like faults; log_tail has some of them, or the last ones where there is none.
    faults: int = 0


def examine_log(rows: Sequence[Mapping[str, Any]], line_rows: Sequence[Mapping[str, Any]], log: Log) -> Examination:
    """A GPU is wanted unless the log shows a build for the CPU. `line_rows` are those of `log_lines.yml`."""
    if log.is_empty:
        return Examination("the log", healthy=False, causes=[], reason="The log is empty.")
    count = sum(1 for line in log.lines if line.strip())
    read = f"{log.note} {count} lines" if log.note else f"{count} line{'' if count == 1 else 's'}"
    expect_gpu = wants_gpu(line_rows, log.lines)
    causes = diagnose(rows, text="\n".join(log.lines), expect_gpu=expect_gpu)
    if causes:
        return Examination("the log", healthy=False, causes=causes, reason=f"{read} read.")
    judgement = judge_log(line_rows, log.lines)
    return Examination(
        "the log",
        healthy=judgement.healthy,
        causes=[],
        reason=f"{read} read: {judgement.says}.",
        log_tail=judgement.quoted,
        faults=judgement.faults,
    )


def examine_node(
    rows: Sequence[Mapping[str, Any]],
    *,
    root: str | None = None,
    environment: str | None = None,
    python: str | None = None,
    expect_gpu: bool | None = None,
    time_limit: float = 300,
) -> Examination:
    """One TensorFlow: that of `python`, of the named environment, or of the one that was applied last; and the node.

    Nothing is wrong where the TensorFlow computes, on every GPU where it is to use them: old messages of the kernel
    do not count then. Raises StackError where an environment is named that is not there.
    """
    node = read_node(environments_root=root)
    known = None
    if python is None:
        known, python = _environment(node, environment)
    gpus = gpus_in_reach(node)
    visible = (known or {}).get("visible_gpus")
    if visible:
        gpus = gpus[: len(visible.split(","))]  # as many as the environment shows
    if expect_gpu is None:
        expect_gpu = bool(gpus) and (known or {}).get("flavour") != "cpu"
    installed, loaded = node["driver"]["installed"] or "none", node["driver"]["loaded"] or "none"
    versions = {"driver": installed if installed == loaded else f"{installed} ({loaded} in the kernel)"}
    if python is None:
        root = node["environments_root"]["path"]
        subject = f"the last build of {environment}" if environment else "this node"
        subject = os.path.join(root, known["name"]) if known else subject
        text = f"{_system_text(node)}\n{kept_text(root, environment)}"
        facts = read_facts(node=node, image=_image_facts(node, known))
        causes = diagnose(rows, text=text, facts=facts, expect_gpu=expect_gpu)
        return Examination(subject, healthy=not causes, causes=causes, versions=versions)

    # From 2.15 on TensorFlow names a library that it does not find only when it is asked to.
    os.environ.update(TF_CPP_MAX_VLOG_LEVEL="1", TF_CPP_VMODULE="dso_loader=1")
    outcome = probe.examine(python, expect_gpu=expect_gpu, gpu_count=len(gpus), time_limit=time_limit)
    distributions = _distributions(python)
    return Examination(
        python,
        healthy=outcome.is_good,
        causes=[] if outcome.is_good else _causes(rows, outcome, node, known, expect_gpu, distributions),
        verdict=outcome.verdict,
        reason=outcome.reason,
        versions={**_shown(distributions), **versions},
        report=outcome.report,
        log_tail=outcome.stderr_tail[-20:],
    )


def _causes(
    rows: Sequence[Mapping[str, Any]],
    outcome: probe.CheckOutcome,
    node: Mapping[str, Any],
    known: Mapping[str, Any] | None,
    expect_gpu: bool,
    distributions: Mapping[str, str],
) -> list[Cause]:
    check = dataclasses.asdict(outcome)
    # What is seen now comes before what an earlier build or check said.
    check["stderr_tail"] += _system_text(node).splitlines()
    if known is not None:
        check["stderr_tail"] += split_lines(kept_text(node["environments_root"]["path"], known["name"]))
    return diagnose_check(
        rows,
        check,
        node=node,
        expect_gpu=expect_gpu,
        distributions=distributions,
        cpu=read_cpu(),
        image=_image_facts(node, known),
    )


def describe(examination: Examination) -> list[str]:
    """The examination as lines for a reader."""
    is_faulty = examination.causes or examination.verdict
    state = "healthy" if examination.healthy else "not healthy" if is_faulty else "unknown"
    verdict = f" ({examination.verdict})" if examination.verdict else ""
    lines = [f"{state}: {examination.subject}{verdict}"]
    if examination.reason:
        lines.append(f"  {examination.reason}")
    if examination.versions:
        lines.append("  " + "; ".join(f"{name} {version}" for name, version in examination.versions.items()))
    for number, cause in enumerate(examination.causes, 1):
        if number == 2:
            lines += ["", "After that, if still present:"]
        lines += ["", f"{number}. {cause.cause}: {cause.says}"]
        if cause.follows:
            lines.append(f"   follows from: {cause.follows}")
        lines += [f"   because: {line}" for line in cause.evidence]
        lines.append(f"   do: {cause.do}")
    if not examination.healthy and not examination.causes and (examination.log_tail or examination.verdict):
        heading = "Lines that look like a fault" if examination.faults else "Last in the log"
        lines += ["", f"No known cause fits. {heading}:"]
        lines += [f"   {line[:_SHOWN_LENGTH]}" for line in examination.log_tail]
        if examination.verdict is None:
            lines.append("   do: Report it with the log, so that it is known next time: 'A cause' in CONTRIBUTING.md.")
    return lines


def _environment(node: Mapping[str, Any], name: str | None) -> tuple[Mapping[str, Any] | None, str | None]:
    """The row of the environment and its Python; none where none was ever applied.

    Of an image that is not mounted, the manifest's entry and no Python.
    """
    root = node["environments_root"]["path"]
    name = name or (node["manifest"] or {}).get("current")
    if not name:
        return None, None
    rows = {row["name"]: row for row in node["environments"]}
    if name not in rows:
        unmounted = {"name": name, **((node["manifest"] or {}).get("environments", {}).get(name) or {})}
        if _image_facts(node, unmounted).get("image_not_mounted"):
            return unmounted, None
        # A first build that failed leaves nothing but its log.
        if kept_text(root, name):
            return None, None
        there = ", ".join(sorted(rows)) or "none"
        raise StackError(f"There is no environment {name} below {root}; there is {there}. Name one of these.")
    # What is below it is run.
    check_root(root)
    python = os.path.join(root, name, "bin", "python")
    check_program(python)
    return rows[name], python


def _image_facts(node: Mapping[str, Any], known: Mapping[str, Any] | None) -> dict[str, Any]:
    if known is None:
        return {}
    return images.facts_of(os.path.realpath(os.path.join(node["environments_root"]["path"], known["name"])))


def _distributions(python: str) -> dict[str, str]:
    """Name to version of what is installed for a Python, by its metadata; nothing where it does not start."""
    found: dict[str, str] = {}
    # As the check runs it: without the user's own packages, and from nowhere.
    for directory in _search_path(python):
        entries = os.listdir(directory) if os.path.isdir(directory) else []
        for match in filter(None, map(_METADATA.match, sorted(entries))):
            found.setdefault(match.group("name").lower().replace("_", "-"), match.group("version"))
    return found


def _search_path(python: str) -> list[str]:
    """Nothing of a Python that does not start, or whose start prints something of its own."""
    try:
        found = json.loads((_run([python, "-I", "-c", _SEARCH_PATH]).splitlines() or ["[]"])[-1])
    except (ValueError, RecursionError):
        return []
    return [str(directory) for directory in found] if isinstance(found, list) else []


def _shown(distributions: Mapping[str, str]) -> dict[str, str]:
    return {name: version for name, version in sorted(distributions.items()) if _SHOWN_DISTRIBUTIONS.match(name)}


def _system_text(node: Mapping[str, Any]) -> str:
    """What nvidia-smi, the kernel and dpkg say of the driver and of CUDA."""
    lines: list[str] = []
    # Without a loaded driver nvidia-smi has nothing to say, and makes device files.
    if node["driver"]["loaded"]:
        lines += _run(["nvidia-smi"]).splitlines()
    kernel = _run(["dmesg"]) or _run(["journalctl", "-k", "-b", "--no-pager", "-q"])
    lines += [line for line in kernel.splitlines() if _OF_THE_DRIVER.search(line)]
    packages = _run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${binary:Package} ${Version}\\n"])
    lines += [line for line in packages.splitlines() if _PACKAGES.search(line) and not line.startswith("ii ")]
    return "\n".join(lines)


def _run(command: list[str]) -> str:
    """What the command says, whatever its exit status; nothing where it is not there, does not start or hangs."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = run(command, timeout=_COMMAND_SECONDS, cwd="/", apart=True)
    except NotStartedError:
        return ""
    return "" if done.code is None else done.output
