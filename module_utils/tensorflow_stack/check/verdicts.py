"""What the records of a check mean: its verdict. Pure.

TensorFlow's own numbers decide. Where they cannot be had, the first cause in the order driver, libraries, TensorFlow is
the verdict.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Sequence

from .child import main
from .expected_gpus import find_misfit

VERDICTS = {
    "ok": "every GPU that TensorFlow lists, and as many as expected, computed the right numbers",
    "cpu_only_no_gpu": "no GPU was expected and none is listed; the CPU computed the right numbers",
    "libraries_ok": "driver and libraries are in order; TensorFlow was not started (`level: libraries`)",
    "driver_missing": "the loader finds no libcuda, the driver's library",
    "driver_mismatch": "the driver's kernel module, libcuda and NVML have different versions",
    "driver_too_old": "the driver is older than the CUDA that the release is built with",
    "driver_failed": "the driver does not start, or does not run a kernel of the check's own on a GPU",
    "gpu_missing": "the driver works and lacks an expected GPU",
    "gpu_not_expected": "the driver shows a GPU that the plan is not for",
    "library_missing": "a library that the release opens is not found or does not load",
    "cudnn_too_old": "the cuDNN that the loader finds first is older than the one that the release is built with",
    "gpu_not_used": "TensorFlow lists fewer GPUs than expected, or an operation did not run on its GPU",
    "wrong_numbers": "an operation, or the check's own kernel, computed other numbers than the CPU",
    "import_failed": "`import tensorflow` raised or ended the process",
    "wrong_release": "the environment has another release than the expected one",
    "op_failed": "the devices or an operation raised or ended the process",
    "compiling_kernels": "the time limit passed while kernels were compiled for a GPU that is newer than the release",
    "timed_out": "the check exceeded its time limit and was ended",
    "killed": "a signal ended the process, for example TensorFlow's own abort",
    "environment_missing": "the environment does not exist, or its Python does not start",
    "reboot_required": "the driver works only after a reboot, so nothing was run",
    "not_checked": "nothing was run: check mode before the environment exists, or the check itself cannot run",
}
GOOD_VERDICTS = ("ok", "cpu_only_no_gpu", "libraries_ok")

# Verdicts on TensorFlow that its driver or its libraries may be the cause of.
_HAVE_CAUSES = ("gpu_not_used", "wrong_numbers", "op_failed", "compiling_kernels", "timed_out", "killed")
# TensorFlow computes, and not on the GPUs that were planned for.
_OF_OTHER_GPUS = ("gpu_missing", "gpu_not_expected")
_DRIVER_STAGES = ("kernel_module", "nvml", "libcuda", "kernel")
_LIBRARY_STAGES = ("find_libraries", "load_libraries")

_CUDA_NO_DEVICE = 100
_CUDA_DRIVER_MISMATCH = 803
_NVML_DRIVER_MISMATCH = 18
# From CUDA 11 on a driver runs every CUDA of its major number.
_FIRST_COMPATIBLE_CUDA = 11  # fact: cuda_drivers.yml, 2026-11-22

_COMPILES_KERNELS = re.compile(r"[Kk]ernels will be jit-compiled from PTX")
# What TensorFlow 1.15 to 2.21 say about a GPU that they do not use; libnvinfer (TensorRT) is optional.
_GPU_COMPLAINT = re.compile(
    r"Could not load dynamic library '(?!libnvinfer)[^;]*; dlerror: [^;]*|Could not find cuda drivers.*"
    r"|failed call to cuInit.*|kernel version \S+ does not match DSO version.*|no NVIDIA GPU device is present.*"
    r"|Cannot dlopen some GPU libraries|Ignoring visible gpu device.*"
)

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    name: str
    reason: str


def judge(
    records: Sequence[Record],
    exit_status: int | None,
    *,
    release: str,
    expect_gpu: bool,
    gpu_count: int,
    gpu_addresses: Sequence[str] = (),
    cudnn_floor: str | None = None,
    level: str = "full",
    stderr: str = "",
) -> Verdict:
    """`exit_status` is null at the time limit and negative for a signal, as in `subprocess`."""
    stages = last_records(records)
    wanted = max(gpu_count, 1) if expect_gpu else 0
    if _has_mig(facts_of(stages).get("nvml")):
        # A process sees one instance, and no whole GPU beside it (NVIDIA's MIG User Guide, "CUDA Device Enumeration").
        wanted = min(wanted, 1)
    own_kernel = [fault for fault in map(fault_of, _of(stages, ("kernel",))) if fault and fault.name == "wrong_numbers"]
    cause = _judge_driver(stages, wanted, gpu_addresses) or _judge_libraries(stages, cudnn_floor)
    if level != "full":
        return cause or _judge_end(stages, exit_status, wanted, stderr, has_kernel=level == "libraries")
    verdict = _judge_tensorflow(stages, exit_status, release=release, wanted=wanted, stderr=stderr)
    if own_kernel and verdict.name in (*GOOD_VERDICTS, *_HAVE_CAUSES):
        return own_kernel[0]
    if cause and verdict.name == "ok" and cause.name in _OF_OTHER_GPUS:
        return cause
    if cause and verdict.name in _HAVE_CAUSES:
        return Verdict(cause.name, f"{cause.reason} {verdict.reason}")
    nvml = facts_of(stages).get("nvml")
    if verdict.name == "gpu_not_used" and nvml and nvml["code"] is None:
        # TensorFlow 2.21 asks it first, and says nothing without it.
        return Verdict(verdict.name, f"{verdict.reason} NVML cannot be opened ({nvml['text']}).")
    return verdict


# -------------------------------------------------------------------------------------------------- driver


def _judge_driver(stages: Mapping[Any, Record], wanted: int, addresses: Sequence[str]) -> Verdict | None:
    """What keeps TensorFlow from its GPUs before it starts; null also where nothing was asked."""
    facts = facts_of(stages)
    for stage in _of(stages, ("kernel_module", "nvml", "libcuda")):
        fault = fault_of(stage)
        if fault:
            return Verdict("driver_failed", fault.reason)
    libcuda = facts.get("libcuda")
    if libcuda is None:
        return None
    module, nvml = facts["module"]["version"], facts["nvml"]
    if libcuda["path"] is None:
        loaded = f"the kernel module is {module}" if module else "no kernel module nvidia is loaded"
        if facts.get("dxg"):
            loaded = "the driver is that of Windows, whose libraries are in /usr/lib/wsl/lib"
        return Verdict(
            "driver_missing", f"There is no driver that TensorFlow could open ({libcuda['error']}); {loaded}."
        )
    versions = {"kernel module": module, "NVML": nvml["driver"], "libcuda": _driver_version(libcuda["path"])}
    if "/compat/" in libcuda["path"]:
        versions.pop("libcuda")  # forward compatibility: that of a newer branch, which the driver accepts or refuses
    different = len({_integers(version) for version in versions.values() if version}) > 1
    if different or nvml["code"] == _NVML_DRIVER_MISMATCH or libcuda["code"] == _CUDA_DRIVER_MISMATCH:
        found = ", ".join(f"{name} {version or 'unknown'}" for name, version in versions.items())
        said = [nvml["text"] if nvml["code"] else None, libcuda["error"]]
        what = "Of different versions" if different else "They do not match"
        return Verdict("driver_mismatch", ". ".join([f"{what}: {found}", *filter(None, said)]) + ".")
    if libcuda["code"]:
        on_windows = facts.get("dxg")  # which has no module in the kernel of Linux
        no_module = "" if module or on_windows else "; no kernel module nvidia is loaded"
        name = "gpu_missing" if libcuda["code"] == _CUDA_NO_DEVICE and (module or on_windows) else "driver_failed"
        mig = "; MIG is on, and without an instance there is no device" if _has_mig(nvml) else ""
        return Verdict(name, f"{libcuda['error']}{no_module}{_fabric(nvml)}{mig}.")
    if len(libcuda["gpus"]) < wanted:
        return Verdict("gpu_missing", f"The driver has {len(libcuda['gpus'])} of {wanted} expected GPUs.")
    misfit = find_misfit([gpu.get("pci_address") for gpu in libcuda["gpus"]], addresses)
    if misfit:
        return Verdict(*misfit)
    cuda = facts.get("built_with", {}).get("cuda_version")
    if cuda and not _runs(libcuda["cuda"], cuda):
        return Verdict("driver_too_old", f"The driver is for CUDA {libcuda['cuda']}, the release is built with {cuda}.")
    for stage in _of(stages, ("kernel",)):
        fault = fault_of(stage)
        if fault:
            name = fault.name if fault.name == "wrong_numbers" else "driver_failed"
            return Verdict(name, fault.reason)
    return None


def _driver_version(libcuda: str) -> str | None:
    """550.163.01 of libcuda.so.550.163.01, the file that is mapped; Windows calls its own libcuda.so.1.1."""
    found = re.search(r"\.so\.(\d{3,}\.\d+(?:\.\d+)?)$", libcuda)
    return found.group(1) if found else None


def _integers(version: str) -> tuple[int, ...]:
    """NVIDIA's versions are compared as numbers: 470.256.02 is what TensorFlow calls 470.256.2."""
    return tuple(int(part) for part in re.findall("[0-9]{1,18}", version))


def _runs(driver: str, cuda: str) -> bool:
    have, need = _integers(driver), _integers(cuda)[:2]
    return have[0] >= need[0] if need[0] >= _FIRST_COMPATIBLE_CUDA else have >= need


def _has_mig(nvml: Mapping[str, Any] | None) -> bool:
    return any(gpu.get("mig") for gpu in nvml["gpus"]) if nvml else False


def _fabric(nvml: Mapping[str, Any]) -> str:
    states = {gpu["fabric"]["state"] for gpu in nvml["gpus"] if gpu.get("fabric")} - {"not_supported", "completed"}
    return f"; the fabric of its NVSwitches is {', '.join(sorted(states))}" if states else ""


# ----------------------------------------------------------------------------------------------- libraries


def _judge_libraries(stages: Mapping[Any, Record], cudnn_floor: str | None) -> Verdict | None:
    for stage in _of(stages, _LIBRARY_STAGES):
        fault = fault_of(stage)
        if fault:
            return Verdict("library_missing", fault.reason)
    facts = facts_of(stages)
    rows = [row for row in facts.get("libraries", []) if row["name"] != "libcuda.so.1"]
    missing = [row["name"] for row in rows if not row["path"]]
    if missing:
        places = [path for paths in facts["loader"].values() for path in paths]
        where = ", ".join([*places, "ld.so.cache and the loader's own directories"])
        return Verdict("library_missing", f"{', '.join(missing)}: in none of {where}.")
    broken = [f"{row['path']}: {row['error']}" for row in rows if row["error"]]
    if broken:
        return Verdict("library_missing", f"Found, but cannot be loaded: {'; '.join(broken)}.")
    cudnn = next((row for row in rows if row["name"].startswith("libcudnn.")), None)
    if cudnn and cudnn["version"] and cudnn_floor:
        have, floor = _integers(cudnn["version"]), _integers(cudnn_floor)
        if have[0] != floor[0] or have[:2] < floor[:2]:
            others = [copy["path"] for copy in cudnn["others"]]
            hidden = f" It hides {', '.join(others)}." if others else ""
            return Verdict(
                "cudnn_too_old",
                f"cuDNN is {cudnn['version']} at {cudnn['path']} ({cudnn['rule']}), and the release is built with "
                f"{cudnn_floor}.{hidden}",
            )
    return None


def _judge_end(
    stages: Mapping[Any, Record], exit_status: int | None, wanted: int, stderr: str, *, has_kernel: bool
) -> Verdict:
    """Of a check without TensorFlow that found nothing wrong."""
    finished = {name for (name, _), stage in stages.items() if stage["finished"]}
    if exit_status is None:
        return Verdict("timed_out", f"Not done at the time limit, {_where(stages)}. {_last_words(stderr)}")
    if exit_status < 0:
        return Verdict("killed", f"Ended by {_signal_name(-exit_status)} {_where(stages)}. {_last_words(stderr)}")
    due = {*_DRIVER_STAGES, "find_libraries"} - (set() if has_kernel else {"kernel"}) if wanted else set()
    if exit_status or due - finished:
        return Verdict("op_failed", f"Python ended with status {exit_status} {_where(stages)}. {_last_words(stderr)}")
    if not wanted:
        return Verdict("libraries_ok", "No GPU is expected, so neither driver nor CUDA was checked.")
    for stage in _of(stages, ("kernel",)):
        if stage.get("skipped"):
            reason = (
                f"No kernel ran on {stage['device']} ({stage['skipped']}); with `level: full` TensorFlow says more."
            )
            return Verdict("driver_failed", reason)
    facts = facts_of(stages)
    gpus = ", ".join(gpu["description"] for gpu in facts["libcuda"]["gpus"])
    found = ", ".join(f"{row['name']} {row['version'] or ''}".strip() for row in facts["libraries"])
    nvml = facts["nvml"]
    # fact: TensorFlow 2.21 asks it first, seen 2026-11-22
    warning = (
        f" NVML cannot be opened ({nvml['text']}): without it TensorFlow 2.21 uses no GPU."
        if nvml["code"] is None
        else ""
    )
    did = "ran a kernel on" if has_kernel else "shows"
    return Verdict("libraries_ok", f"The driver {did} {gpus}; found are {found or 'no CUDA libraries'}.{warning}")


# ---------------------------------------------------------------------------------------------- TensorFlow


def _judge_tensorflow(
    stages: Mapping[Any, Record], exit_status: int | None, *, release: str, wanted: int, stderr: str
) -> Verdict:
    """The first cause wins, in the order in which the child works."""
    before = (*_DRIVER_STAGES, *_LIBRARY_STAGES)
    finished = {key: stage for key, stage in stages.items() if stage["finished"] and stage["stage"] not in before}
    imported = finished.get(("import", None), {})
    devices = finished.get(("devices", None), {}).get("devices", [])
    gpus = [device["name"] for device in devices if device["type"] == "GPU"]
    compiles = bool(_COMPILES_KERNELS.search(stderr))

    for (name, _), stage in finished.items():
        fault = fault_of(stage)
        if fault:
            return _compiling(fault.reason) if fault.name == "timed_out" and compiles else fault
        if name == "import" and not _is_release(stage["tensorflow_version"], release):
            return Verdict("wrong_release", f"TensorFlow {stage['tensorflow_version']} is there, not {release}.")
        if name == "devices" and len(gpus) < wanted:
            why = _why_no_gpu(imported["build_info"], stderr)
            return Verdict("gpu_not_used", f"TensorFlow lists {len(gpus)} of {wanted} expected GPUs. {why}")

    if exit_status is None:
        reason = f"Not done at the time limit, {_where(stages)}. {_last_words(stderr)}"
        return _compiling(reason) if compiles else Verdict("timed_out", reason)
    if exit_status < 0:
        return Verdict("killed", f"Ended by {_signal_name(-exit_status)} {_where(stages)}. {_last_words(stderr)}")
    tested = gpus or [device["name"] for device in devices]
    due = {("import", None), ("devices", None), ("libraries", None)}
    due.update((stage, device) for device in tested for stage in main.DEVICE_STAGES)
    if len(gpus) > 1:
        due.add(("all_reduce", None))
    if exit_status != 0 or not tested or due - finished.keys():
        name = "op_failed" if imported else "import_failed"
        return Verdict(name, f"Python ended with status {exit_status} {_where(stages)}. {_last_words(stderr)}")

    right = f"TensorFlow {imported['tensorflow_version']} computed the right numbers on {', '.join(tested)}"
    if not gpus:
        return Verdict("cpu_only_no_gpu", f"{right}; no GPU was expected.")
    if compiles:
        # The stages are mostly that: on an H200, 12 s with a release that compiles, and 1 s with one that does not.
        seconds = sum(stage["seconds"] for key, stage in finished.items() if key[1] in gpus)
        right += f"; the driver compiled kernels for it first (all operations together took {seconds:.0f} s)"
    return Verdict("ok", f"{right}.")


def _compiling(reason: str) -> Verdict:
    return Verdict(
        "compiling_kernels",
        "The release has no machine code for this GPU: the driver compiles its kernels once, which can take minutes. "
        f"{reason} Compiled kernels are kept in ~/.nv/ComputeCache: check again, which continues from there, or set "
        "tensorflow_check_time_limit to 3600.",
    )


def fault_of(stage: Record) -> Verdict | None:
    """What is wrong with one stage's record, taken by itself."""
    label = _label(stage)
    if not stage["finished"]:
        return Verdict("op_failed", f"Stage {label} did not finish.")
    said = f"Last in its log: {stage.get('last_words') or 'nothing'}"
    if stage.get("signal"):
        return Verdict("killed", f"Ended by {_signal_name(stage['signal'])} in stage {label}. {said}")
    if stage.get("exit_status") is not None:
        return Verdict("op_failed", f"Python ended with status {stage['exit_status']} in stage {label}. {said}")
    if stage.get("time_limit") is not None:
        return Verdict("timed_out", f"Not done after {stage['time_limit']:.0f} s, in stage {label}. {said}")
    if stage["error"]:
        return Verdict("import_failed" if stage["stage"] == "import" else "op_failed", f"{label}: {stage['error']}")
    elsewhere = [name for name in stage.get("ran_on", []) if not name.endswith(stage["device"] or "")]
    if elsewhere:
        return Verdict("gpu_not_used", f"{label} ran on {', '.join(elsewhere)}.")
    if stage.get("wrong"):
        found = f"{stage['wrong']} of {stage['values']} values differ from {reference_of(stage)}"
        return Verdict("wrong_numbers", f"{label}: {found}, such as {stage['example']}.")
    return None


def reference_of(stage: Record) -> str:
    return "Python's" if stage["stage"] == "kernel" else "NumPy's"


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


# -------------------------------------------------------------------------------------------------- report


def last_records(records: Sequence[Record]) -> dict[tuple[str, str | None], Record]:
    """The last record of each stage, in the order in which they began."""
    return {(record["stage"], record["device"]): record for record in records}


def _of(stages: Mapping[Any, Record], names: Sequence[str]) -> Iterator[Record]:
    return (stage for (name, _), stage in stages.items() if name in names)


def facts_of(stages: Mapping[Any, Record]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for record in stages.values():
        facts.update(record)
    return facts


def _where(stages: Mapping[Any, Record]) -> str:
    running = [_label(stage) for stage in stages.values() if not stage["finished"]]
    return f"in stage {running[0]}" if running else f"after {len(stages)} stages"


def _last_words(stderr: str) -> str:
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "nothing")
    return f"Last in its log: {last}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _label(stage: Record) -> str:
    return f"{stage['stage']} on {stage['device']}" if stage["device"] else str(stage["stage"])
