# SPDX-License-Identifier: Apache-2.0
"""Refuses names and values of an inventory that cannot be meant; documented in library/tensorflow_inventory.py."""

from __future__ import annotations

import os
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

try:
    from ..module_utils.tensorflow_stack import variables  # type: ignore[import-not-found,misc]  # in a collection
    from ..module_utils.tensorflow_stack.boundary import failing_by_result  # type: ignore[import-not-found,misc]

    _ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
except ImportError:  # in a checkout, where this file is not in a package
    _ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    _UTILS = os.path.join(_ROOT, "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack import variables
    from ansible.module_utils.tensorflow_stack.boundary import failing_by_result


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    _supports_check_mode = True
    _requires_connection = False

    @failing_by_result("tensorflow_inventory", (AnsibleError,))  # type: ignore[untyped-decorator]
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        self.validate_argument_spec({})
        known = variables.read_variables(os.path.join(_ROOT, "playbooks", "variables.json"))
        found = variables.problems(task_vars["inventory_hostname"], task_vars, known)
        if found:
            return {**result, "failed": True, "msg": "\n".join(found)}
        given = sorted(known.keys() & load_extra_vars(self._loader).keys())
        return {**result, "changed": False, "given": given}
