"""NVIDIA's devices on the PCI bus."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

from .files import NodeFiles

NVIDIA_VENDOR = "10de"
DISPLAY_CLASSES = ("0300", "0302")
BRIDGE_CLASS = "0680"
# Of others, whose GPUs TensorFlow's wheels do not use.
OTHER_VENDORS = ("1002", "8086")


class PciDevices(NamedTuple):
    gpus: list[dict[str, Any]]  # NVIDIA's, in order of address
    nvswitches: int
    other_gpus: list[dict[str, str]]  # AMD's and Intel's


def read_pci(files: NodeFiles) -> PciDevices:
    devices = "/sys/bus/pci/devices"
    if not files.is_dir(devices, "gpus"):
        files.add_unread("gpus", f"{devices}: absent")
    gpus: list[dict[str, Any]] = []
    others: list[dict[str, str]] = []
    nvswitches = 0
    for address in sorted(files.names(devices, "gpus"), key=_pci_order):
        try:
            device = _read_pci_device(files, f"{devices}/{address}")
        except OSError as error:
            files.add_unread("gpus", f"{devices}/{address}: {error.strerror}")
            continue
        if device is None:
            continue
        vendor = device.pop("vendor")
        if vendor != NVIDIA_VENDOR:
            if device["pci_class"] in DISPLAY_CLASSES:
                others.append({"pci_address": address, "vendor": str(vendor)})
        elif device["pci_class"] == BRIDGE_CLASS:
            nvswitches += 1
        elif device["pci_class"] in DISPLAY_CLASSES:
            gpus.append({"index": len(gpus), "pci_address": address, **device})
    return PciDevices(gpus, nvswitches, others)


def _pci_order(address: str) -> list[int]:
    return [int(number, 16) for number in re.findall(r"[0-9a-fA-F]+", address)]


def _read_pci_device(files: NodeFiles, directory: str) -> dict[str, str | None] | None:
    """A device of a vendor of GPUs, None for any other and for a part of one."""
    numbers = {}
    for name in ("vendor", "class", "device"):
        path = f"{directory}/{name}"
        text = files.text(path, "gpus") or ""
        if re.fullmatch(r"0x[0-9a-f]{4,6}", text) is None:
            files.add_unread("gpus", f"{path}: absent or not a PCI number")
            return None
        numbers[name] = text[2:6]
        if numbers["vendor"] not in (NVIDIA_VENDOR, *OTHER_VENDORS):
            return None
    place = files.resolve(directory)
    if files.link_target(f"{place}/physfn"):  # a virtual function of a GPU that this host shares out
        return None
    driver = files.link_target(f"{place}/driver")
    return {
        "vendor": numbers["vendor"],
        "device_id": numbers["device"],
        "pci_class": numbers["class"],
        "bound_to": os.path.basename(driver) if driver else None,
    }
