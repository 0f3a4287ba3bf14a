"""What a driver has to be for one CUDA and the GPUs of a node. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import Version

from ..tables.load import Tables
from ..tables.rows import GpuChip, Release
from .gpus import ptx_needed
from .node import NodeFacts
from .stack import Gpu, Library


@dataclass(frozen=True)
class Need:
    """What a driver has to be, by CUDA, GPUs and wishes."""

    cuda: str
    floor: str  # by CUDA, by the PTX that it has to compile, and by the GPUs
    ptx: str | None  # the version of PTX that the floor is for
    chips: tuple[tuple[str, GpuChip], ...]  # each with the name of its GPU

    @property
    def last(self) -> tuple[int, str] | None:
        """The newest branch that still supports every GPU, and the GPU that it is for."""
        rows = [(chip.last_driver_branch, name) for name, chip in self.chips if chip.last_driver_branch is not None]
        return min(rows, default=None)

    def __str__(self) -> str:
        until = f", of branch {self.last[0]} or older for {self.last[1]}" if self.last else ""
        ptx = f" and PTX {self.ptx}" if self.ptx else ""
        return f"a driver of {self.floor} or newer for CUDA {self.cuda}{ptx}{until}"


def find_need(tables: Tables, release: Release, node: NodeFacts, gpus: tuple[Gpu, ...], cuda: Library) -> Need:
    """By CUDA's own promise, by what the driver has to compile, and by the GPUs."""
    row = tables.cuda_driver(cuda.version)
    known = [(f"GPU {gpu.index} ({gpu.name})", tables.chip(device.device_id)) for device, gpu in zip(node.gpus, gpus)]
    chips = tuple((name, chip[0]) for name, chip in known if chip)
    # A GPU is known to the driver that comes with the first CUDA that compiles for it.
    by_cuda = {row.cuda: row.driver for row in tables.cuda_drivers}
    floors = [by_cuda[chip.first_cuda] for _, chip in chips if chip.first_cuda in by_cuda]
    floors.append(row.minor_compatibility_driver or row.driver)
    # Minor-version compatibility promises machine code only. PTX is compiled by the driver, which has to know it.
    kernels = tables.kernels_of(release.version)
    versions = [version for _, chip in chips for version in [ptx_needed(kernels, chip.compute_capability)] if version]
    ptx = max(versions, key=Version, default=None)
    by_ptx = tables.driver_for_ptx(ptx) if ptx else None
    if not kernels and any(gpu.code == "jit" for gpu in gpus):
        by_ptx = row.driver  # its wheel was not read: the PTX is that of its CUDA at most
    floor = max([*floors, by_ptx] if by_ptx else floors, key=Version)
    return Need(cuda.version, floor, ptx if floor == by_ptx else None, chips)
