"""A node without a usable GPU: what speaks for one all the same, so that the CPU is never taken silently. Pure."""

from __future__ import annotations

from ..tables.load import Tables
from .node import NodeFacts
from .node_kind import kind_named
from .stack import Policy


def hint_of_gpu(tables: Tables, node: NodeFacts) -> str | None:
    """What speaks for a GPU although none can be used; None if nothing does."""
    driver = node.driver
    found = [f"{_name(tables, node, gpu.index)} cannot be used: {gpu.out_of_reach}" for gpu in node.gpus]
    if driver.loaded:
        found.append(f"the kernel module nvidia {driver.loaded} is loaded")
    if driver.libcuda:
        found.append(f"{driver.libcuda} exists")
    if node.platform == "tegra":
        found.insert(0, "this is a Jetson, for whose GPU the package index has no TensorFlow")
    elif node.platform in ("wsl", "wsl1"):
        found.insert(0, _on_windows(tables, node))
    if not found:
        return None
    given = node.variables.get("NVIDIA_VISIBLE_DEVICES")
    if node.container and given in ("", "none", "void"):
        found.append(f"NVIDIA_VISIBLE_DEVICES is {given!r}, which hides every GPU")
    if node.container and not node.driver.libcuda:
        found.append("the container has no libcuda")
    return "; ".join(found)


def unused_gpu(tables: Tables, node: NodeFacts, policy: Policy) -> str | None:
    """What has to be said of a CPU environment that nobody asked for by name."""
    hint = None if policy.gpu == "none" else hint_of_gpu(tables, node)
    if hint is None:
        return None
    return (
        f"No GPU is used: {no_gpu_but(node, hint)}.{_advice(tables, node)} If the CPU is meant, set "
        "tensorflow_gpu to none; to stop instead, set it to required."
    )


def no_gpu(node: NodeFacts) -> str:
    return "no NVIDIA GPU can be used here" if node.gpus else "no NVIDIA GPU on the PCI bus"


def no_gpu_but(node: NodeFacts, hint: str | None) -> str:
    """The hint itself says of each GPU on the bus why it cannot be used."""
    return hint if hint and node.gpus else f"{no_gpu(node)}{f', but {hint}' if hint else ''}"


def other_gpus(node: NodeFacts) -> str:
    """GPUs of other vendors, in brackets; empty if there are none."""
    vendors = sorted(set(node.other_gpus))
    return f" (a GPU of {' and of '.join(vendors)} is not used)" if vendors else ""


def how_to_get_gpu(tables: Tables, node: NodeFacts) -> str:
    return f"{_advice(tables, node).strip()} Set tensorflow_gpu to auto or none (CPU).".strip()


def _advice(tables: Tables, node: NodeFacts) -> str:
    row = kind_named(tables, node, "platform") or kind_named(tables, node, "container")
    return f" {row.instead}." if row else ""


def _on_windows(tables: Tables, node: NodeFacts) -> str:
    row = kind_named(tables, node, "platform")
    return f"this is {row.name if row else node.platform}, and Windows gives it no driver of NVIDIA's"


def _name(tables: Tables, node: NodeFacts, index: int) -> str:
    gpu = next(gpu for gpu in node.gpus if gpu.index == index)
    known = tables.chip(gpu.device_id)
    return f"GPU {index} ({known[1] if known else f'NVIDIA device {gpu.device_id}'} at {gpu.pci_address})"
