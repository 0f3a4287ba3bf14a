"""The NVIDIA GPUs of a node: those on the PCI bus, and those that something else than a bus leads to."""

from __future__ import annotations

import re
from typing import Any

from .files import NodeFiles
from .kind import kind_of
from .libraries import WSL_DIRECTORY
from .pci import PciDevices, read_pci

_DRIVERS_LIST = "/proc/driver/nvidia/gpus"
_MIG = "/proc/driver/nvidia/capabilities"
_WSL_DEVICE = "/dev/dxg"


def read_gpus(files: NodeFiles, kinds: list[dict[str, str]], libcuda: str | None) -> PciDevices:
    """What is on the bus, each GPU with what the driver says of it, and the GPUs that are on no bus."""
    devices = read_pci(files)
    listed = files.names(_DRIVERS_LIST, "gpus") if files.is_dir(_DRIVERS_LIST, "gpus") else None
    gpus = [{**gpu, **_of_the_driver(files, gpu, listed)} for gpu in devices.gpus]
    if not gpus:
        gpus = [
            {
                "index": index,
                "pci_address": None,
                "device_id": None,
                "pci_class": None,
                "bound_to": None,
                "uuid": None,
                "listed": None,
                "excluded": False,
                "device_file": path,
                "mig_instances": 0,
            }
            for index, path in enumerate(_device_files(files, kinds, libcuda))
        ]
    return devices._replace(gpus=gpus)


def _of_the_driver(files: NodeFiles, gpu: dict[str, Any], listed: list[str] | None) -> dict[str, Any]:
    """`listed`: whether the driver has the GPU; null if it is not loaded, or hides its list."""
    address, minor = gpu["pci_address"], gpu["index"]
    is_listed = None if listed is None else address in listed
    values: dict[str, str] = {}
    if is_listed:
        text = files.text(f"{_DRIVERS_LIST}/{address}/information", "gpus") or ""
        values = dict(re.findall(r"^([^:\n]+):[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
        minor = values.get("Device Minor", minor)
    # Question marks: nothing has started the GPU yet.
    uuid = re.fullmatch(r"GPU-[0-9a-f-]{36}", values.get("GPU UUID", ""))
    path = f"/dev/nvidia{minor}"
    return {
        "uuid": uuid.group(0) if uuid else None,
        "listed": is_listed,
        "excluded": "Yes" in (values.get("GPU Excluded"), values.get("Blacklisted")),
        "device_file": path if is_listed is not False and files.exists(path, "gpus") else None,
        "mig_instances": len(files.glob(f"{_MIG}/gpu{minor}/mig/gi*/ci*", "gpus")) if is_listed is not False else 0,
    }


def _device_files(files: NodeFiles, kinds: list[dict[str, str]], libcuda: str | None) -> list[str]:
    """Through which a GPU is reached that is on no bus that can be read."""
    if files.exists(_WSL_DEVICE, "gpus"):
        # Windows lays libcuda there if it has a driver of NVIDIA's; the device may be another vendor's.
        has_driver = files.exists(f"{WSL_DIRECTORY}/libcuda.so.1", "gpus") or libcuda
        return [_WSL_DEVICE] if has_driver else []
    if kind_of(kinds, "container") is None:
        return []
    return [f"/dev/{name}" for name in files.names("/dev", "gpus") if re.fullmatch(r"nvidia[0-9]+", name)]
