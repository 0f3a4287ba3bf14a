"""Serves the files of one run to its nodes: at which addresses, and what to say if it cannot."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import StackError
from ..io.file_server import address_towards, start

# Of tensorflow_file_server, as an argument spec.
OPTIONS: dict[str, dict[str, Any]] = {
    "directory": {"type": "path", "required": True},
    "paths": {"type": "list", "elements": "str", "required": True},
    "port": {"type": "int", "default": 8790},
}
LOG = ".served.log"
_LOCAL = ("local", "ansible.builtin.local")


@dataclass(frozen=True)
class Node:
    """How a node is reached, and the address of the controller by which it reaches that, if somebody said so."""

    connection: str
    host: str
    address: str | None = None


def serve(options: Mapping[str, Any], nodes: Mapping[str, Node], *, process: int) -> dict[str, Any]:
    """Start the server, which ends with `process`; the result of the action. Raises StackError."""
    seen = {name: _address(name, node) for name, node in nodes.items()}
    addresses = sorted(set(seen.values()))
    port = options["port"]
    try:
        found = start(
            options["directory"],
            options["paths"],
            addresses=addresses,
            port=port,
            process=process,
            log=os.path.join(options["directory"], LOG),
        )
    except StackError as error:
        raise StackError(
            f"The files of this run cannot be served at {_names(addresses)}, port {port}: {error.message}. Set "
            "fleet_fetch_port to a free port, fleet_fetch_address to the address of the controller that the nodes "
            "reach, or fleet_fetch to nodes. Nothing was changed on any node."
        ) from error
    return {
        "changed": False,
        "addresses": addresses,
        "port": found,
        "urls": {name: f"http://{_in_url(address)}:{found}" for name, address in seen.items()},
    }


def _address(name: str, node: Node) -> str:
    if node.address:
        return node.address
    address = address_towards("localhost" if node.connection in _LOCAL else node.host)
    if address is None:
        raise StackError(
            f"The address at which {name} ({node.host}) reaches the controller is not known, because the controller "
            "has no route to it. Set fleet_fetch_address to it, or fleet_fetch to nodes. Nothing was changed on any "
            "node."
        )
    return address


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _names(addresses: Sequence[str]) -> str:
    return ", ".join(addresses)
