"""Why TensorFlow does not start or does not use the GPU: the rows of `diagnoses.yml` against what was seen. Pure.

The rows come as a parameter, so that no YAML is needed on a node.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any, Collection, Iterable, Mapping, Sequence

from ..records.gpus import gpus_in_reach
from .line_search import Lines
from .log_text import split_lines

_SHOWN_LINES = 4
# Facts are of now, so they come before whatever a log says.
_BEFORE_THE_LOG = -1
# What a log of WSL2 shows, whoever wrote it.
_OF_WSL = r"microsoft-standard-WSL|/usr/lib/wsl/|/dev/dxg\b"
# Kinds of nodes that rows have an advice of their own for, and how it is introduced if the node is not known.
KINDS = {"container": "In a container", "wsl": "On WSL2"}
_TENSORFLOWS = re.compile(r"^tensorflow(_cpu|_gpu|_intel|_macos|_rocm|_aarch64|_cpu_aws)?$")

# Every fact that a row may name, and what it says when it holds. Without a node or a report its facts are left out.
FACTS = {
    "gpus": "PCI addresses or device files of the NVIDIA GPUs that a process can use",
    "foreign_module": "a kernel module other than NVIDIA's that drives a GPU",
    "secure_boot": "Secure Boot is on",
    "kernel_headers": "headers of the running kernel",
    "container": "the container engine",
    "wsl": "the node is WSL2",
    "libcuda": "the libcuda that the loader finds first",
    "driver_installed": "version of the driver's libraries",
    "driver_loaded": "version of the loaded kernel module",
    "driver_moved": "different versions of libraries and module",
    "reboot_required": "the check did not run, because a reboot is required",
    "environment_missing": "the environment does not exist",
    "image_changed": "the file of the image that is the environment, if it is another one or cannot be read",
    "image_not_mounted": "the path at which the image that is the environment is to be mounted",
    "cuda_build": "TensorFlow was built with CUDA",
    "gpus_hidden": "variable that hides every GPU",
    "cudnn_copies": "directories of cuDNN libraries mapped by one process",
    "cudnn_shadowed": "copies of cuDNN, if the first one on the loader's path is too old",
    "library_path_wins": "CUDA libraries from LD_LIBRARY_PATH, although the environment has its own",
    "cpu_avx": "the CPU has the instructions AVX",
    "virtual": "the machine is a virtual one",
    "several_tensorflows": "distributions that all contain the package tensorflow",
}


@dataclasses.dataclass(frozen=True)
class Cause:
    """One row that fits: what is wrong, the lines and facts that say so, and what to do."""

    cause: str
    component: str
    says: str
    do: str
    evidence: list[str]
    # The cause before it from which it follows.
    follows: str | None = None


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A row that fits, with what of it was seen, and the line where it was seen first."""

    row: Mapping[str, Any]
    evidence: list[str]
    values: Mapping[str, str]
    first: int

    @property
    def key(self) -> tuple[bool, int, int]:
        return bool(self.row.get("warns")), self.first, self.row["rank"]


def diagnose(
    rows: Sequence[Mapping[str, Any]],
    *,
    text: str = "",
    facts: Mapping[str, Any] | None = None,
    expect_gpu: bool = True,
) -> list[Cause]:
    """The causes, first cause first. Rows that are about a GPU are left out where none is expected.

    What ends a program comes before what it goes on with, then what was seen first; what another cause explains comes
    after that one.
    """
    lines = Lines(split_lines(text))
    fitting = [row for row in rows if expect_gpu or not row["gpu"]]
    found = list(filter(None, (_look(row, lines, facts or {}) for row in fitting if not row["fallback"])))
    if not found:
        found = list(filter(None, (_look(row, lines, facts or {}) for row in fitting if row["fallback"])))[:1]
    kind = _kind_of_node(lines, facts or {})
    causes = []
    for seen, follows in _ordered(found):
        causes.append(
            Cause(
                seen.row["cause"],
                seen.row["component"],
                _told(seen.row["says"], seen.values),
                _told(_advice(seen.row, kind), seen.values),
                seen.evidence[:_SHOWN_LINES],
                follows,
            )
        )
    return causes


def _look(row: Mapping[str, Any], lines: Lines, facts: Mapping[str, Any]) -> _Seen | None:
    evidence, values, first = _match(row["evidence"], lines, facts)
    if not evidence:
        return None
    return _Seen(row, evidence, {name: ", ".join(seen) for name, seen in values.items()}, first)


def _ordered(found: Iterable[_Seen]) -> list[tuple[_Seen, str | None]]:
    """In the order in which to repair them, each with the cause that explains it.

    What is explained, and shows nothing besides the lines of what explains it, is left out.
    """
    waiting = sorted(found, key=lambda seen: seen.key)
    explaining: dict[str, _Seen] = {}
    for seen in waiting:
        for name in seen.row.get("explains") or ():
            explaining.setdefault(name, seen)
    ordered: list[tuple[_Seen, str | None]] = []
    while waiting:
        names = {name for seen in waiting for name in seen.row.get("explains") or ()}
        following = next((seen for seen in waiting if seen.row["cause"] not in names), waiting[0])
        waiting.remove(following)
        first = explaining.get(following.row["cause"])
        if first is None:
            ordered.append((following, None))
        elif not set(following.evidence) <= set(first.evidence):
            ordered.append((following, first.row["cause"]))
    return ordered


def _kind_of_node(lines: Lines, facts: Mapping[str, Any]) -> str | None:
    """None if nothing says it: whoever sends a log may have taken it anywhere."""
    if facts.get("wsl") or next(lines.search(_OF_WSL), None):
        return "wsl"
    if facts.get("container"):
        return "container"
    return "machine" if "container" in facts else None


def _advice(row: Mapping[str, Any], kind: str | None) -> str:
    """What to do on this kind of node; on every kind if it is not known."""
    special: Mapping[str, str] = row.get("do_on") or {}
    do: str = row["do"]
    if kind is None:
        return " ".join([do, *(f"{KINDS[name]}: {special[name]}" for name in sorted(special))])
    return special.get(kind, do)


def diagnose_check(
    rows: Sequence[Mapping[str, Any]],
    check: Mapping[str, Any],
    *,
    node: Mapping[str, Any],
    expect_gpu: bool,
    distributions: Iterable[str] = (),
    cpu: Mapping[str, bool] | None = None,
    image: Mapping[str, Any] | None = None,
) -> list[Cause]:
    """The causes of a verdict that is not the wished one, from the result of `tensorflow_gpu_check` and the node."""
    details = [stage["detail"] for stage in check["report"]["stages"]]
    # The log first: the others repeat it.
    text = "\n".join([*check["stderr_tail"], *details, check["reason"]])
    facts = read_facts(
        node=node, report=check["report"], verdict=check["verdict"], distributions=distributions, cpu=cpu, image=image
    )
    return diagnose(rows, text=text, facts=facts, expect_gpu=expect_gpu)


def read_facts(
    *,
    node: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
    verdict: str | None = None,
    distributions: Iterable[str] = (),
    cpu: Mapping[str, bool] | None = None,
    image: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The FACTS of a node record, and of the report and verdict of a check; a false value: it does not hold."""
    facts: dict[str, Any] = {}
    if node is not None:
        driver = node["driver"]
        kinds = {row["aspect"]: row["kind"] for row in node["kinds"]}
        foreign = {gpu["bound_to"] for gpu in node["gpus"]} & {"nouveau", "nova_core", "nova"}
        facts.update(
            gpus=[gpu["pci_address"] or gpu["device_file"] for gpu in gpus_in_reach(node)],
            foreign_module=sorted(foreign),
            secure_boot=node["secure_boot"],
            kernel_headers=node["kernel"]["headers"],
            container=kinds.get("container"),
            wsl=kinds.get("platform") == "wsl",
            libcuda=driver["libcuda"],
            driver_installed=driver["installed"],
            driver_loaded=driver["loaded"],
            driver_moved=_different(driver["installed"], driver["loaded"]),
        )
    if report:
        mapped = [library["path"] for library in report["libraries_mapped"]]
        variables = report["variables"]
        facts.update(
            gpus_hidden=_hiding(variables),
            cudnn_copies=_cudnn_directories(mapped),
            cudnn_shadowed=_cudnn_paths(report["libraries"]) if verdict == "cudnn_too_old" else [],
            library_path_wins=_by_library_path(mapped, variables.get("LD_LIBRARY_PATH", "")),
        )
        if "is_cuda_build" in report["build_info"]:
            facts["cuda_build"] = report["build_info"]["is_cuda_build"]
    if verdict:
        facts.update(reboot_required=verdict == "reboot_required", environment_missing=verdict == "environment_missing")
    facts.update({**(cpu or {}), **(image or {})})
    names = sorted({name for name in distributions if _TENSORFLOWS.match(name.lower().replace("-", "_"))})
    facts["several_tensorflows"] = names if len(names) > 1 else []
    return facts


def _match(
    alternatives: Iterable[Mapping[str, Any]], lines: Lines, facts: Mapping[str, Any]
) -> tuple[list[str], dict[str, list[str]], int]:
    """What of it was seen, each message once; the distinct values of the named groups and facts; and where first."""
    evidence: dict[str, tuple[int, str]] = {}  # by what matched: a log repeats itself with other times
    values: dict[str, list[str]] = {}
    for alternative in alternatives:
        wanted = alternative.get("facts") or {}
        if wanted:
            if all(name in facts and bool(facts[name]) == holds for name, holds in wanted.items()):
                told = "; ".join(f"{name}: {_text(facts[name])}" for name in wanted)
                evidence[told] = (_BEFORE_THE_LOG, told)
                for name in wanted:
                    values.setdefault(name, []).append(_text(facts[name]))
            continue
        if "with" in alternative and not lines.have(alternative["with"]):
            continue
        if "without" in alternative and lines.have(alternative["without"]):
            continue
        not_if = re.compile(alternative["unless"]) if "unless" in alternative else None
        for number, match in lines.search(alternative["line"]):
            if not_if and not_if.search(lines.lines[number]):
                continue
            evidence.setdefault(match.group(0), (number, lines.lines[number]))
            for name, value in match.groupdict().items():
                seen = values.setdefault(name, [])
                if value and value not in seen:
                    seen.append(value)
    ordered = sorted(evidence.values(), key=lambda shown: shown[0])
    return [line for _, line in ordered], values, (ordered[0][0] if ordered else 0)


# A part of a sentence that is left out if a name in it was not seen.
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
_NAME = re.compile(r"\{(\w+)\}")


def _told(template: str, values: Mapping[str, str]) -> str:
    """The text of a row with what was seen in it."""

    def part(match: re.Match[str]) -> str:
        return match.group(1) if all(map(values.get, _NAME.findall(match.group(1)))) else ""

    # A name that only another alternative of the row has is not known here.
    return _NAME.sub(lambda name: values.get(name.group(1)) or "what is not known", _OPTIONAL.sub(part, template))


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return {None: "none", True: "yes", False: "no"}.get(value) or str(value)


def _different(installed: str | None, loaded: str | None) -> list[str]:
    """TensorFlow drops leading zeros: 163.01 is 163.1."""
    if not installed or not loaded:
        return []
    one, other = ([part.lstrip("0") for part in re.findall("[0-9]+", text)] for text in (installed, loaded))
    return [] if one == other else [installed, loaded]


def _hiding(variables: Mapping[str, str]) -> list[str]:
    hiding = []
    if variables.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1", "NoDevFiles"):
        hiding.append("CUDA_VISIBLE_DEVICES")
    if variables.get("NVIDIA_VISIBLE_DEVICES", "all").strip() in ("none", "void"):
        hiding.append("NVIDIA_VISIBLE_DEVICES")
    return hiding


def _cudnn_directories(mapped: Collection[str]) -> list[str]:
    found = sorted({os.path.dirname(path) for path in mapped if os.path.basename(path).startswith("libcudnn")})
    return found if len(found) > 1 else []


def _cudnn_paths(libraries: Iterable[Mapping[str, Any]]) -> list[str]:
    found = next((row for row in libraries if row["name"].startswith("libcudnn.") and row["others"]), None)
    return [f"{copy['path']} ({copy['rule']})" for copy in (found, *found["others"])] if found else []


def _by_library_path(mapped: Collection[str], library_path: str) -> list[str]:
    """Those from a directory of the variable; none where the variable only leads to the wheels beside TensorFlow."""
    directories = {os.path.realpath(directory) for directory in library_path.split(":") if directory}
    return [
        path
        for path in mapped
        if os.path.realpath(os.path.dirname(path)) in directories
        and "/site-packages/nvidia/" not in path
        and not os.path.basename(path).startswith(("libcuda.so", "libnvidia-ml.so"))
    ]
