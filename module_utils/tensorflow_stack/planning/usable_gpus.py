"""Which GPUs of a node count for one release: those that it can use, and why it does not use the others. Pure.

A choice is tried as a whole, with its CUDA and its driver, in system.py. TensorFlow itself leaves out GPUs that are
older than its code, and small ones. It would use a GPU that is newer than its code, and fail. So what is not used is
hidden.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from packaging.version import Version

from ..tables.load import Tables
from ..tables.rows import Release
from .gpus import find_misfit
from .node import NodeFacts, NodeGpu
from .stack import Driver, OtherGpu, Policy

# Of multiprocessors: a GPU with fewer is left out, unless all are smaller.
# fact: gpu_device.cc of TensorFlow's source, 2026-11-26
_ENOUGH = 8
_LIMIT_VARIABLE = "TF_MIN_GPU_MULTIPROCESSOR_COUNT"
_NEXT_TO_MIG = (
    "CUDA gives a program one instance of MIG, and no whole GPU next to it (set the GPU with MIG aside with "
    "tensorflow_ignored_gpus to use the others)"
)


@dataclass(frozen=True)
class GpuChoice:
    """GPUs to plan for, and the others, each with the reason."""

    used: tuple[NodeGpu, ...]
    others: Mapping[int, str]  # by index

    def without(self, reasons: Mapping[int, str]) -> GpuChoice:
        used = tuple(gpu for gpu in self.used if gpu.index not in reasons)
        return GpuChoice(used, {**self.others, **reasons})


def choices(tables: Tables, release: Release, node: NodeFacts, policy: Policy) -> Iterator[GpuChoice]:
    """The best first: all that fit the release; then those that the installed driver drives."""
    ignored = {gpu.index for name in policy.ignored_gpus for gpu in find_gpus(node, name)}
    all_of_them = GpuChoice(node.gpus, {})
    start = all_of_them.without(
        {gpu.index: gpu.out_of_reach for gpu in node.gpus if gpu.out_of_reach}
        | {gpu.index: "it is in tensorflow_ignored_gpus" for gpu in node.gpus if gpu.index in ignored}
    )
    fitting = _without(start, lambda gpu: _misfit(tables, release, gpu))
    yield _without_small(tables, node, _without_whole(fitting))
    driven = _without(fitting, lambda gpu: why_not_driven(tables, node, gpu))
    if driven != fitting:
        yield _without_small(tables, node, _without_whole(driven))


def find_gpus(node: NodeFacts, name: str) -> list[NodeGpu]:
    """Those that a person means by an index, a PCI address (with its domain or without it) or a UUID."""
    wanted = name.strip().lower()
    address = wanted if wanted.count(":") > 1 else f"0000:{wanted}"
    return [
        gpu
        for gpu in node.gpus
        if wanted == str(gpu.index)
        or (gpu.pci_address or "").lower() == address
        or (wanted.startswith("gpu-") and (gpu.uuid or "").lower() == wanted)
    ]


def other_gpus(tables: Tables, node: NodeFacts, choice: GpuChoice) -> tuple[OtherGpu, ...]:
    rows = (gpu for gpu in node.gpus if gpu.index in choice.others)
    return tuple(OtherGpu(gpu.index, name_of(tables, gpu), gpu.pci_address, choice.others[gpu.index]) for gpu in rows)


def name_of(tables: Tables, gpu: NodeGpu) -> str:
    known = tables.chip(gpu.device_id)
    return known[1] if known else f"NVIDIA device {gpu.device_id}"


def visible_gpus(tables: Tables, node: NodeFacts, choice: GpuChoice, driver: Driver) -> str | None:
    """CUDA_VISIBLE_DEVICES for the GPUs that are used, in PCI order; None if nothing has to be hidden."""
    version = driver.branch or driver.present
    kind = driver.kernel_modules or node.driver.kind
    shown = [
        gpu
        for gpu in node.gpus
        if gpu.out_of_reach is None and not (version and _why_not_driven(tables, gpu, version, kind))
    ]
    hidden = [gpu for gpu in shown if gpu not in choice.used and choice.others[gpu.index] != _NEXT_TO_MIG]
    return ",".join(str(index) for index, gpu in enumerate(shown) if gpu in choice.used) if hidden else None


def why_not_driven(tables: Tables, node: NodeFacts, gpu: NodeGpu) -> str | None:
    """Why the installed driver does not drive a GPU; None if it does, or if there is no driver."""
    present = node.driver.present
    return _why_not_driven(tables, gpu, present, node.driver.kind) if present else None


def _why_not_driven(tables: Tables, gpu: NodeGpu, version: str, kind: str | None) -> str | None:
    """`version` is that of a driver, or its branch; `kind` that of its kernel modules."""
    known = tables.chip(gpu.device_id)
    if known is None:
        return None
    chip, branch = known[0], int(version.split(".")[0])
    if chip.last_driver_branch is not None and branch > chip.last_driver_branch:
        return f"driver {branch} does not support it (the last branch for it is {chip.last_driver_branch})"
    if kind and not chip.is_driven_by(kind):
        return f"the {kind} kernel modules of the driver do not support it"
    first = next((row.driver for row in tables.cuda_drivers if row.cuda == chip.first_cuda), version)
    if Version(version) < (Version(first) if "." in version else Version(first.split(".")[0])):
        return f"driver {version} is older than {first}, the first for it"
    return None


def _without(choice: GpuChoice, why_not: Callable[[NodeGpu], str | None]) -> GpuChoice:
    """Without those that something speaks against; all of them, if that leaves none."""
    reasons = {gpu.index: reason for gpu in choice.used for reason in [why_not(gpu)] if reason}
    return choice.without(reasons) if len(reasons) < len(choice.used) else choice


def _misfit(tables: Tables, release: Release, gpu: NodeGpu) -> str | None:
    """Why a release does not run on a GPU, whatever CUDA and driver it is given."""
    known = tables.chip(gpu.device_id)
    misfit = find_misfit(tables, release, known[0]) if known else None
    return misfit.why if misfit else None


def _without_whole(choice: GpuChoice) -> GpuChoice:
    """If a GPU is divided by MIG, its first instance is all that a program sees."""
    divided = [gpu for gpu in choice.used if gpu.mig_instances]
    if not divided or len(choice.used) == 1:
        return choice
    return choice.without({gpu.index: _NEXT_TO_MIG for gpu in choice.used if gpu != divided[0]})


def _without_small(tables: Tables, node: NodeFacts, choice: GpuChoice) -> GpuChoice:
    counts = {gpu.index: _multiprocessors(tables, gpu) for gpu in choice.used}
    given = node.variables.get(_LIMIT_VARIABLE, "")
    limit = int(given) if re.fullmatch(r"[0-9]{1,4}", given) else min(_ENOUGH, max(counts.values(), default=_ENOUGH))

    def why_not(gpu: NodeGpu) -> str | None:
        if counts[gpu.index] >= min(limit, _ENOUGH):
            return None
        return (
            f"TensorFlow leaves out a GPU with {counts[gpu.index]} multiprocessors, if another one has more "
            f"({_LIMIT_VARIABLE} is {limit})"
        )

    return _without(choice, why_not)


def _multiprocessors(tables: Tables, gpu: NodeGpu) -> int:
    """Of a GPU that is known to have few; of any other, as many as TensorFlow wants."""
    known = tables.chip(gpu.device_id)
    for row in tables.small_gpus:
        if known and row.chip == known[0].chip and re.search(row.names or "", known[1]):
            return row.multiprocessors
    return _ENOUGH
