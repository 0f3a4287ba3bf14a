# SPDX-License-Identifier: Apache-2.0
"""Refuses names and values of an inventory that cannot be meant; documented in library/tensorflow_inventory.py."""

from __future__ import annotations

import os
from typing import Any

import ansible.module_utils
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

try:
    from ..module_utils.tensorflow_stack import variables  # type: ignore[import-not-found,misc]  # in a collection
except ImportError:  # in a checkout, where this file is not in a package
    _UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack import variables


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        self.validate_argument_spec({})
        known = variables.read_variables(os.path.join(task_vars["playbook_dir"], "variables.json"))
        found = problems(task_vars["inventory_hostname"], task_vars, known)
        if found:
            return {**result, "failed": True, "msg": "\n".join(found)}
        given = sorted(known.keys() & load_extra_vars(self._loader).keys())
        return {**result, "changed": False, "given": given}


def problems(host: str, values: dict[str, Any], known: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each: a host that cannot name a file, misspelt variables, values that they cannot have."""
    lines = []
    if host in (".", "..") or "/" in host or "\0" in host:
        lines.append(
            f"The name of the host {host!r} cannot be the name of a file, and its report has that name. "
            "Give it another name, and set ansible_host to its address."
        )
    names = [name for name in values if isinstance(name, str) and not name.startswith("ansible_")]
    for name, meant in sorted(variables.misspelt(names, known).items()):
        lines.append(
            f"{name} is set, but is no variable of this toolkit; {meant} is one. Correct it where it is set "
            "(inventory, "
            "group_vars, host_vars or -e). If it is one of your own, give it a less similar name."
        )
    return [*lines, *variables.wrong_values(values, known)]
