"""Which GPUs of a node record a process there can use. Pure: the plan and the doctor ask the same."""

from __future__ import annotations

from typing import Any, Mapping

# Drivers that keep a GPU for a virtual machine.
_OF_A_GUEST = ("pci-stub", "vfio-pci", "xen-pciback", "nvgrace_gpu_vfio_pci", "nvidia_vgpu_vfio")


def why_out_of_reach(gpu: Mapping[str, Any], *, is_in_container: bool) -> str | None:
    """Why no process of this node can use a GPU, whatever the driver; None if one can."""
    if gpu["bound_to"] in _OF_A_GUEST:
        return f"it is bound to {gpu['bound_to']}, for a virtual machine"
    if gpu["excluded"]:
        return "an option of the driver excludes it (NVreg_ExcludedGpus)"
    if is_in_container and gpu["listed"] is False:
        return "this container was not given it (the driver does not list it here)"
    if is_in_container and gpu["device_file"] is None:
        return "this container was not given it (it has no device file here)"
    return None


def gpus_in_reach(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The GPUs of a node record that a program can be expected to find, with the driver as it is."""
    is_in_container = any(row["aspect"] == "container" for row in record["kinds"])
    gpus = [gpu for gpu in record["gpus"] if why_out_of_reach(gpu, is_in_container=is_in_container) is None]
    # A GPU that is too old or too new for the driver is on the bus all the same.
    return [gpu for gpu in gpus if gpu["listed"]] or gpus
