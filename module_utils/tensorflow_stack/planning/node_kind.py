"""What kind of node this is, and what follows: who decides on its driver, and whether packages can be installed. Pure.

The rows of the table node_kinds.yml say it for each kind. A machine without a kernel of its own (a microVM, for one)
cannot be given a driver either, whatever its files say that it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..tables.load import Tables
from ..tables.node_rows import NodeKindMeaning
from .node import NodeFacts

# In the order in which a reason is given: the closest to the driver first.
_ASPECTS = ("platform", "container", "driver", "system")
# Windows calls its library libcuda.so.1.1, which is no version.
_WITHOUT_MODULE = ("wsl", "gvisor")

_PACKAGED = ("nvidia_repo", "distro")


@dataclass(frozen=True)
class Keeper:
    """Somebody else than this node's packages decides on its driver."""

    because: str  # this is a pod of Kubernetes (/var/run/secrets/kubernetes.io), whose driver belongs to ...
    keeper: str  # the host of this container
    instead: str  # what to do, without a full stop
    gives_libraries: bool = False  # the driver's libraries can be installed here, at the version of the loaded module
    hides_module: bool = False  # no file says whether the driver's kernel module is loaded, nor its version


def find_keeper(tables: Tables, node: NodeFacts) -> Keeper | None:
    """Who decides on the driver; None if packages may install and change it."""
    for row, by in _meanings(tables, node):
        if row.driver != "own":
            because = f"this is {_with_its_sign(row, by)}, whose driver belongs to {row.keeper}"
            return Keeper(
                because,
                row.keeper,
                row.instead,
                gives_libraries=row.driver == "libraries",
                hides_module=row.kind in _WITHOUT_MODULE,
            )
    if "container" in node.kinds:
        because = f"this is a container ({node.container}), whose driver belongs to its host"
        return Keeper(because, "the host", "Have the host's driver updated", gives_libraries=True)
    if not node.kernels:
        return Keeper(
            "the running kernel is not installed here (it is not below /lib/modules), so no kernel module can be built",
            "whoever starts this machine with its kernel",
            "Have the image or the kernel of this machine given another driver",
        )
    return None


def why_no_packages(tables: Tables, node: NodeFacts) -> str | None:
    """Why no package of the distribution or of NVIDIA's repository can be installed; None if it can."""
    for row, by in _meanings(tables, node):
        if row.packages == "none":
            return f"this is {_with_its_sign(row, by)}, where no package can be installed"
    return None


def _with_its_sign(row: NodeKindMeaning, by: str) -> str:
    return f"{row.name[:-1]}; {by})" if row.name.endswith(")") else f"{row.name} ({by})"


def why_not_installed(tables: Tables, node: NodeFacts, source: str) -> str | None:
    """Why a library cannot be installed on the node from a source; None if it can."""
    if source in (*_PACKAGED, "redist") and not node.is_root:
        return f"{node.user_name} is not root, who can install it"
    return why_no_packages(tables, node) if source in _PACKAGED else None


def kind_named(tables: Tables, node: NodeFacts, aspect: str) -> NodeKindMeaning | None:
    return next((row for row, _ in _meanings(tables, node) if row.aspect == aspect), None)


def on_its_base(tables: Tables, node: NodeFacts) -> NodeFacts:
    """The node with the identity of the Debian or Ubuntu that its distribution says it is built on."""
    for row in tables.base_systems:
        if row.codename == node.os["base_codename"]:
            return replace(node, os={**node.os, "id": row.os, "version_id": row.version_id})
    return node


def _meanings(tables: Tables, node: NodeFacts) -> Iterator[tuple[NodeKindMeaning, str]]:
    known = {(row.aspect, row.kind): row for row in tables.node_kinds}
    for aspect in _ASPECTS:
        found = node.kinds.get(aspect)
        if found and (aspect, found.kind) in known:
            yield known[aspect, found.kind], found.by
