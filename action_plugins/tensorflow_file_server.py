# SPDX-License-Identifier: Apache-2.0
"""Serves the files of a run from the controller; documented in library/tensorflow_file_server.py."""

from __future__ import annotations

import os
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

try:
    from ..module_utils.tensorflow_stack.boundary import failing_by_result  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.bundle import serving  # type: ignore[import-not-found,misc]  # in a collection
except ImportError:  # in a checkout, where this file is not in a package
    _UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack.boundary import failing_by_result
    from ansible.module_utils.tensorflow_stack.bundle import serving


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    _supports_check_mode = True
    _requires_connection = False

    @failing_by_result("tensorflow_file_server", (AnsibleError,))  # type: ignore[untyped-decorator]
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _, options = self.validate_argument_spec(argument_spec=serving.OPTIONS)
        if self._task.check_mode:
            return {**result, "changed": False, "skipped": True}
        nodes = {name: self._node(name, task_vars["hostvars"][name]) for name in task_vars["ansible_play_hosts"]}
        # This is a process of one task; the run is its parent.
        return {**result, **serving.serve(options, nodes, process=os.getppid())}

    def _node(self, name: str, variables: Any) -> serving.Node:
        return serving.Node(
            connection=str(variables.get("ansible_connection") or self._play_context.connection),
            host=str(variables.get("ansible_host") or name),
            address=str(variables.get("fleet_fetch_address") or "") or None,
        )
