# SPDX-License-Identifier: Apache-2.0
"""Decides what is done to a fleet, in Ansible's own process; documented in library/tensorflow_fleet.py."""

from __future__ import annotations

import os
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

try:
    from ..module_utils.tensorflow_stack.boundary import failing_by_result  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.fleet import door  # type: ignore[import-not-found,misc]  # in a collection
except ImportError:  # in a checkout, where this file is not in a package
    _UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack.boundary import failing_by_result
    from ansible.module_utils.tensorflow_stack.fleet import door


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    _supports_check_mode = True
    _requires_connection = False

    @failing_by_result("tensorflow_fleet", (AnsibleError,))  # type: ignore[untyped-decorator]
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _, options = self.validate_argument_spec(argument_spec=door.OPTIONS)
        hosts = list(task_vars["ansible_play_hosts_all"])
        # Untemplated: a plan is data, and templating those of a thousand nodes would take minutes.
        variables = {host: task_vars["hostvars"].raw_get(host) for host in hosts}
        made, failed = door.decide_fleet(options, hosts, variables)
        if failed:
            return {**result, **made, "failed": True, "msg": failed}
        return {**result, **made, "changed": False}
