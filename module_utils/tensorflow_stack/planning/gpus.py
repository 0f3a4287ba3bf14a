"""The GPUs of a node under one release: which code it has for them, and which CUDA, cuDNN and PTX they need. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from ..tables.load import Tables
from ..tables.rows import GpuChip, Release
from .node import NodeFacts, NodeGpu
from .stack import Driver, Findings, Gpu, Library

_version = functools.cache(Version)


@dataclass(frozen=True)
class GpuModel:
    """The GPUs of one kind in a node."""

    label: str  # GPU 0, 1 (Tesla K80, Kepler, compute capability 3.7)
    chip: GpuChip
    code: str  # as in Gpu
    runs_from: str  # the first CUDA with machine code that runs on it, compiled for it or for an older one of its major

    def limit_of_cuda(self, version: str, *, needs_own_code: bool = True) -> str | None:
        """What speaks against a CUDA, said of the GPU: "needs CUDA 12.8 or newer"."""
        first = self.chip.first_cuda if needs_own_code else self.runs_from
        return _limit("CUDA", version, first, self.chip.last_cuda)

    def limit_of_cudnn(self, version: str) -> str | None:
        return _limit("cuDNN", version, self.chip.first_cudnn, self.chip.last_cudnn)


@dataclass(frozen=True)
class Misfit:
    """Why a release does not run on GPUs of one kind, whatever CUDA and driver it is given."""

    component: str  # gpu, cuda, cudnn
    limit: str  # of the GPU, such as "which needs CUDA 12.8 or newer"; empty if there is no code for it
    wanted: str
    set: str
    why: str  # in short, for a GPU that others make up for


def _limit(name: str, version: str, first: str | None, last: str | None) -> str | None:
    # As far as the limits say: 9.10.2 is 9.10.
    minor = Version(version).release[:2]
    if first and minor < Version(first).release:
        return f"needs {name} {first} or newer"
    if last and minor > Version(last).release:
        return f"is supported up to {name} {last}"
    return None


def is_compatible(tables: Tables, version: str, built_with: str) -> bool:
    """May a release that was built with one CUDA be given this one?

    A newer one of the same major, if the libraries keep their sonames and NVIDIA promises that what was built runs.
    """
    given, wanted = _version(version), _version(built_with)
    is_newer = given.major == wanted.major and given > wanted
    return given == wanted or (is_newer and tables.cuda_driver(built_with).takes_newer)


def resolve_gpus(
    tables: Tables, release: Release, node: NodeFacts, findings: Findings
) -> tuple[tuple[Gpu, ...], tuple[GpuModel, ...]]:
    """Every GPU, and the kinds of those that the release can run on. Of others the findings say why it cannot."""
    gpus = tuple(_gpu(tables, release, row) for row in node.gpus)
    indices: dict[str | None, list[str]] = {}
    for row in node.gpus:
        indices.setdefault(row.device_id, []).append(str(row.index))
    models = []
    for device_id, same in indices.items():
        known = tables.chip(device_id)
        if known is None:
            findings.warnings.append(_of_unknown(node, device_id, ", ".join(same)))
            continue
        chip, name = known
        label = f"GPU {', '.join(same)} ({name}, {chip.architecture}, compute capability {chip.compute_capability})"
        misfit = find_misfit(tables, release, chip)
        if misfit:
            found = f"{label}, {misfit.limit}" if misfit.limit else label
            findings.refuse(misfit.component, found=found, wanted=misfit.wanted, set=misfit.set)
        else:
            models.append(GpuModel(label, chip, _code(tables, release, chip), _runs_from(tables, chip)))
    return gpus, tuple(models)


def find_misfit(tables: Tables, release: Release, chip: GpuChip) -> Misfit | None:
    """What is nearest to the release: its own code, then the CUDA and the cuDNN that it can be given."""
    code = _check_code(tables, release, chip)
    return code or _check_cuda(tables, release, chip) or _check_cudnn(release, chip)


def _of_unknown(node: NodeFacts, device_id: str | None, indices: str) -> str:
    what = f"is not in the table of GPUs (device {device_id})"
    if device_id is None:
        what = f"is reached by {node.gpus[0].device_file}, which does not name its model"
    return f"GPU {indices} {what}: whether this release has code for it will show in the check."


def _gpu(tables: Tables, release: Release, row: NodeGpu) -> Gpu:
    known = tables.chip(row.device_id)
    if known is None:
        name = f"NVIDIA device {row.device_id}" if row.device_id else f"the GPU at {row.device_file}"
        return Gpu(row.index, name, None, None, "unknown", row.pci_address)
    chip, name = known
    code = _code(tables, release, chip)
    return Gpu(row.index, name, chip.architecture, chip.compute_capability, code, row.pci_address)


def _runs_from(tables: Tables, chip: GpuChip) -> str:
    older = (row for row in tables.gpu_chips if _runs(row.compute_capability, chip.compute_capability))
    return min((row.first_cuda for row in older), key=Version)


def _check_code(tables: Tables, release: Release, chip: GpuChip) -> Misfit | None:
    if _code(tables, release, chip) != "none":
        return None
    capability = chip.compute_capability
    wanted = f"one that TensorFlow {release.version} has code for ({' '.join(release.gpu_code or ())})"
    missing = _without_code(tables.kernels_of(release.version), capability)
    if missing and kernel_code(release.gpu_code, capability) != "none":
        # The list says otherwise: it does not tell sm_90a from sm_90.
        target = missing["ptx"]["target"]
        only = ".".join(map(str, _numbers(target)))
        wanted = (
            f"one that TensorFlow {release.version} has code for: {missing['count']:,} of its kernels have "
            f"{' '.join(missing['machine_code'])} and PTX for {target}, which is for compute capability {only} alone"
        )
    return Misfit(
        "gpu",
        limit="",
        wanted=wanted,
        set="Set tensorflow_version to a release that has code for this GPU, or tensorflow_gpu to none.",
        why=f"TensorFlow {release.version} has no code for compute capability {capability}",
    )


def _check_cuda(tables: Tables, release: Release, chip: GpuChip) -> Misfit | None:
    """Is there a CUDA for this GPU that the release can be given, wherever it comes from?"""
    known = [row.cuda for row in tables.cuda_drivers if is_compatible(tables, row.cuda, release.cuda)]
    runs_from = _runs_from(tables, chip)
    limits = [_limit("CUDA", cuda, runs_from, chip.last_cuda) for cuda in known]
    if None in limits:
        return None
    is_newer = Version(known[-1]) < Version(runs_from)
    limit = limits[-1] if is_newer else limits[0]
    has = f"CUDA {release.cuda}{f' to {known[-1]}' if len(known) > 1 else ''}"
    return Misfit(
        "cuda",
        limit=f"which {limit}",
        wanted=f"{has} for TensorFlow {release.version}",
        set=f"Set tensorflow_version to a release on {_age(is_newer)} CUDA, or tensorflow_gpu to none.",
        why=f"it {limit}, and TensorFlow {release.version} has {has}",
    )


def _check_cudnn(release: Release, chip: GpuChip) -> Misfit | None:
    """Is there a cuDNN for this GPU among those of the release's major, which it is bound to?"""
    major = Version(release.cudnn_floor).major
    first, last = chip.first_cudnn, chip.last_cudnn
    is_newer = bool(first and Version(first).major > major)
    if not is_newer and not (last and Version(last) < Version(release.cudnn)):
        return None
    limit = f"needs cuDNN {first} or newer" if is_newer else f"is supported up to cuDNN {last}"
    has = f"cuDNN {release.cudnn} or a newer {major}.x"
    return Misfit(
        "cudnn",
        limit=f"which {limit}",
        wanted=f"{has} for TensorFlow {release.version}",
        set=f"Set tensorflow_version to a release on {_age(is_newer)} cuDNN, or tensorflow_gpu to none.",
        why=f"it {limit}, and TensorFlow {release.version} has {has}",
    )


def _age(is_newer: bool) -> str:
    return "a newer" if is_newer else "an older"


# -------------------------------------------------------------------------------------------------- code


def _code(tables: Tables, release: Release, chip: GpuChip) -> str:
    """What a release has for a GPU; `partly`: machine code, but PTX alone of some kinds of its kernels."""
    kernels = tables.kernels_of(release.version)
    if _without_code(kernels, chip.compute_capability):
        return "none"
    code = kernel_code(release.gpu_code, chip.compute_capability)
    return "partly" if code == "native" and ptx_needed(kernels, chip.compute_capability) else code


def kernel_code(gpu_code: tuple[str, ...] | None, compute_capability: str) -> str:
    """What a wheel built for `gpu_code` (sm_70, compute_80 ...) has for a GPU: native, jit, none or unknown.

    Machine code runs on its own major, at the same or a higher minor; PTX (compute_XY) is compiled by the driver for
    anything newer.
    """
    if gpu_code is None:
        return "unknown"
    jit = False
    for entry in gpu_code:
        if _runs(entry, compute_capability):
            return "native"
        jit = jit or (entry.startswith("compute_") and _compiles(entry, compute_capability))
    return "jit" if jit else "none"


def ptx_needed(kernels: Iterable[Mapping[str, Any]], compute_capability: str) -> str | None:
    """The newest version of PTX among the kernels that have no machine code for a GPU."""
    versions = [str(row["ptx"]["version"]) for row in kernels if not _has_machine_code(row, compute_capability)]
    return max(versions, key=Version, default=None)


def _without_code(kernels: Iterable[Mapping[str, Any]], compute_capability: str) -> Mapping[str, Any] | None:
    """The first kind of kernels that a GPU cannot run at all."""
    for row in kernels:
        if not _has_machine_code(row, compute_capability) and not _compiles(row["ptx"]["target"], compute_capability):
            return row
    return None


def _has_machine_code(kernel: Mapping[str, Any], compute_capability: str) -> bool:
    return any(_runs(entry, compute_capability) for entry in kernel["machine_code"])


def _runs(built_for: str, compute_capability: str) -> bool:
    built, wanted = _numbers(built_for), _numbers(compute_capability)
    return built[0] == wanted[0] and built[1] <= wanted[1]


def _compiles(target: str, compute_capability: str) -> bool:
    """Can PTX for this target (sm_90) be compiled for a GPU? With an `a` (sm_90a) it is for that one alone."""
    built, wanted = _numbers(target), _numbers(compute_capability)
    return built == wanted if target.endswith("a") else built <= wanted


# Of the newest release each of fifty is tried on each GPU.
@functools.cache
def _numbers(name: str) -> tuple[int, int]:
    """(9, 0) of sm_90a, compute_90 and 9.0."""
    digits = "".join(re.findall(r"\d", name))
    return int(digits[:-1]), int(digits[-1])


# ------------------------------------------------------------------------------------------- compiling it

# Seconds for the whole check. On an H200 it took 7 s with a release that has machine code for it, and 21 s with one
# that has none. Of loading everything at the start TensorFlow says "30 minutes or longer".
# fact: tests/gpu/run.py on an H200, 2026-11-26
CHECK_SECONDS = 300
_CHECK_SECONDS_LAZY = 900
_CHECK_SECONDS_EAGER = 3600


def plan_compiling(
    tables: Tables, release: Release, models: Iterable[GpuModel], cuda: Library, driver: Driver, findings: Findings
) -> int:
    """How many seconds the check may take with what the driver compiles first; the findings warn of that.

    Kernels of which there is `partly` machine code are generated and loaded one by one, which was not noticeable.
    """
    compiled = [model for model in models if model.code == "jit"]
    is_lazy = _loads_lazily(tables, cuda.version, driver)
    for model in compiled:
        start = f"{model.label}: TensorFlow {release.version} has no machine code for it, and the driver compiles its"
        when = "as they are first used: seconds each" if is_lazy else "at the first start: 30 minutes or longer"
        xla = ""
        first = model.chip.first_cuda
        if Version(first) > Version(release.cuda):
            xla = f" Its XLA needs the ptxas of CUDA {first} or newer, and gets that of {cuda.version}."
        findings.warnings.append(f"{start} kernels {when}, once for each user (kept in ~/.nv/ComputeCache).{xla}")
    if not compiled:
        return CHECK_SECONDS
    return _CHECK_SECONDS_LAZY if is_lazy else _CHECK_SECONDS_EAGER * len(compiled)


def _loads_lazily(tables: Tables, cuda: str, driver: Driver) -> bool:
    """Whether kernels are loaded as they are first used, with no variable set: driver and runtime have to do so."""
    version = driver.version if driver.is_of_system else driver.present
    if version is None or tables.cuda_driver(cuda).lazy_loading == "none":
        return False
    first = next(row.driver for row in tables.cuda_drivers if row.lazy_loading == "default")
    return int(version.split(".")[0]) >= Version(first).major
