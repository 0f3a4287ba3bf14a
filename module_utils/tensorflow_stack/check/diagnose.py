"""Why TensorFlow does not start or does not use the GPU: the rows of `diagnoses.yml` against what was seen. Pure.

The rows come as a parameter, so that no YAML is needed on a node.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any, Collection, Iterable, Mapping, Sequence

from ..records.gpus import gpus_in_reach
from .log_text import bare_forms, has_start, split_lines

_SHOWN_LINES = 4
_TENSORFLOWS = re.compile(r"^tensorflow(_cpu|_gpu|_intel|_macos|_rocm|_aarch64|_cpu_aws)?$")

# Every fact that a row may name, and what it says when it holds. Without a node or a report its facts are left out.
FACTS = {
    "gpus": "PCI addresses or device files of the NVIDIA GPUs that a process can use",
    "foreign_module": "a kernel module other than NVIDIA's that drives a GPU",
    "secure_boot": "Secure Boot is on",
    "kernel_headers": "headers of the running kernel",
    "container": "the container engine",
    "wsl": "Linux on Windows (WSL 2)",
    "linux_driver_on_wsl": "on WSL 2, the libcuda of a driver for Linux, which hides that of Windows",
    "libcuda": "the libcuda that the loader finds first",
    "driver_installed": "version of the driver's libraries",
    "driver_loaded": "version of the loaded kernel module",
    "driver_moved": "different versions of libraries and module",
    "reboot_required": "the check did not run, because a reboot is required",
    "environment_missing": "the environment does not exist",
    "cuda_build": "TensorFlow was built with CUDA",
    "gpus_hidden": "variable that hides every GPU",
    "cudnn_copies": "directories of cuDNN libraries mapped by one process",
    "cudnn_shadowed": "copies of cuDNN, if the first one on the loader's path is too old",
    "library_path_wins": "CUDA libraries from LD_LIBRARY_PATH, although the environment has its own",
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


def diagnose(
    rows: Sequence[Mapping[str, Any]],
    *,
    text: str = "",
    facts: Mapping[str, Any] | None = None,
    expect_gpu: bool = True,
) -> list[Cause]:
    """The causes, first cause first. Rows that are about a GPU are left out where none is expected."""
    lines = [bare_forms(line) for line in dict.fromkeys(line.strip() for line in split_lines(text))]
    found: list[Cause] = []
    for row in rows:
        if (row["gpu"] and not expect_gpu) or (row["fallback"] and found):
            continue
        evidence, values = _match(row["evidence"], lines, facts or {})
        if evidence:
            # A name that only another alternative of the row brings is not known here.
            words = _Words({name: ", ".join(seen) for name, seen in values.items()})
            says, do = row["says"].format_map(words), row["do"].format_map(words)
            found.append(Cause(row["cause"], row["component"], says, do, evidence[:_SHOWN_LINES]))
    return found


def diagnose_check(
    rows: Sequence[Mapping[str, Any]],
    check: Mapping[str, Any],
    *,
    node: Mapping[str, Any],
    expect_gpu: bool,
    distributions: Iterable[str] = (),
) -> list[Cause]:
    """The causes of a verdict that is not the wished one, from the result of `tensorflow_gpu_check` and the node."""
    details = [stage["detail"] for stage in check["report"]["stages"]]
    # The log first: the others repeat it.
    text = "\n".join([*check["stderr_tail"], *details, check["reason"]])
    facts = read_facts(node=node, report=check["report"], verdict=check["verdict"], distributions=distributions)
    return diagnose(rows, text=text, facts=facts, expect_gpu=expect_gpu)


def read_facts(
    *,
    node: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
    verdict: str | None = None,
    distributions: Iterable[str] = (),
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
            linux_driver_on_wsl=kinds.get("platform") == "wsl" and driver["installed"] and driver["libcuda"],
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
    names = sorted({name for name in distributions if _TENSORFLOWS.match(name.lower().replace("-", "_"))})
    facts["several_tensorflows"] = names if len(names) > 1 else []
    return facts


def _match(
    alternatives: Iterable[Mapping[str, Any]], lines: Sequence[Sequence[str]], facts: Mapping[str, Any]
) -> tuple[list[str], dict[str, list[str]]]:
    """What of it was seen, each message once, and the distinct values of the named groups and facts.

    `lines` are forms of one line each: as it is, and without what other tools put before it.
    """
    evidence: dict[str, str] = {}  # by what matched: a log repeats itself with other times
    values: dict[str, list[str]] = {}
    for alternative in alternatives:
        wanted = alternative.get("facts") or {}
        if wanted:
            if all(name in facts and bool(facts[name]) == holds for name, holds in wanted.items()):
                told = "; ".join(f"{name}: {_text(facts[name])}" for name in wanted)
                evidence[told] = told
                for name in wanted:
                    values.setdefault(name, []).append(_text(facts[name]))
            continue
        pattern = re.compile(alternative["line"])
        most = None if has_start(alternative["line"]) else 1
        for forms in lines:
            match = next(filter(None, map(pattern.search, forms[:most])), None)
            if match:
                evidence.setdefault(match.group(0), forms[0])
                for name, value in match.groupdict().items():
                    seen = values.setdefault(name, [])
                    if value and value not in seen:
                        seen.append(value)
    return list(evidence.values()), values


class _Words(Mapping[str, str]):
    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = words

    def __getitem__(self, name: str) -> str:
        return self._words.get(name) or "what is not known"

    def __iter__(self) -> Any:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return {None: "none", True: "yes", False: "no"}.get(value) or str(value)


def _different(installed: str | None, loaded: str | None) -> list[str]:
    """TensorFlow drops leading zeros: 163.01 is 163.1."""
    if not installed or not loaded:
        return []
    same = [int(part) for part in re.findall(r"\d+", installed)] == [int(part) for part in re.findall(r"\d+", loaded)]
    return [] if same else [installed, loaded]


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
