"""GPUs, CUDA, cuDNN and the driver of one release on one node, which have to fit each other. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..tables.load import Tables
from ..tables.rows import Release
from .cuda import resolve_cuda
from .driver import resolve_driver
from .gpus import CHECK_SECONDS, plan_compiling, resolve_gpus
from .node import NodeFacts
from .stack import Driver, Findings, Gpu, Library, OtherGpu, Policy
from .usable_gpus import GpuChoice, choices, find_gpus, name_of, other_gpus, visible_gpus


@dataclass(frozen=True)
class System:
    """What is under TensorFlow, as far as it could be found."""

    gpus: tuple[Gpu, ...] = ()
    other_gpus: tuple[OtherGpu, ...] = ()
    visible_gpus: str | None = None
    check_seconds: int = CHECK_SECONDS
    driver: Driver | None = None
    libraries: Mapping[str, Library] = field(default_factory=dict)


def resolve_system(tables: Tables, release: Release, node: NodeFacts, policy: Policy, findings: Findings) -> System:
    """For as many GPUs as possible; if no choice is possible, the findings say why the first is not."""
    if not _check_ignored(tables, node, policy, findings):
        return System()
    first: tuple[System, Findings] | None = None
    for choice in choices(tables, release, node, policy):
        own = Findings()
        system = _resolve(tables, release, node, choice, policy, own)
        first = first or (system, own)
        if not own.refusals:
            first = system, own
            break
    assert first is not None  # there is always a choice
    findings.refusals.extend(first[1].refusals)
    findings.warnings.extend(first[1].warnings)
    return first[0]


def _resolve(
    tables: Tables, release: Release, node: NodeFacts, choice: GpuChoice, policy: Policy, findings: Findings
) -> System:
    chosen = replace(node, gpus=choice.used)
    gpus, models = resolve_gpus(tables, release, chosen, findings)
    system = System(gpus, other_gpus(tables, node, choice))
    if findings.refusals:  # no CUDA and no driver helps
        return system
    found = resolve_cuda(tables, release, chosen, models, policy, findings)
    if not found:
        return system
    driver = resolve_driver(tables, release, chosen, gpus, found[0], policy, findings)
    check_seconds = plan_compiling(tables, release, models, found[0], driver, findings)
    return replace(
        system,
        visible_gpus=visible_gpus(tables, node, choice, driver),
        check_seconds=check_seconds,
        driver=driver,
        libraries=dict(zip(("cuda", "cudnn"), found)),
    )


def _check_ignored(tables: Tables, node: NodeFacts, policy: Policy, findings: Findings) -> bool:
    """That each item of tensorflow_ignored_gpus names a GPU, and that one is left."""
    there = "; ".join(
        f"{gpu.index}: {name_of(tables, gpu)}, {gpu.pci_address or gpu.device_file}, {gpu.uuid or 'UUID not known yet'}"
        for gpu in node.gpus
    )
    unknown = [name for name in policy.ignored_gpus if not find_gpus(node, name)]
    if unknown:
        findings.refuse(
            "gpu",
            found=f"tensorflow_ignored_gpus has {', '.join(unknown)}, and the GPUs are {there}",
            wanted="an index, a PCI address or a UUID of one of them",
            set="Correct tensorflow_ignored_gpus.",
        )
        return False
    ignored = {gpu.index for name in policy.ignored_gpus for gpu in find_gpus(node, name)}
    if any(gpu.out_of_reach is None and gpu.index not in ignored for gpu in node.gpus):
        return True
    findings.refuse(
        "gpu",
        found=f"tensorflow_ignored_gpus has every GPU that can be used ({there})",
        wanted="a GPU",
        set="Leave one out of tensorflow_ignored_gpus, or set tensorflow_gpu to none for a CPU environment.",
    )
    return False
