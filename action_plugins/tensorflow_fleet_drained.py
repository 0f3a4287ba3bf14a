# SPDX-License-Identifier: Apache-2.0
"""Records whether a node is drained, in Ansible's own process; documented in library/tensorflow_fleet_drained.py."""

from __future__ import annotations

import os
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

try:
    from ..module_utils.tensorflow_stack.boundary import failing_by_result  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.errors import StackError  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.fleet import door, drained  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.io.clock import timestamp  # type: ignore[import-not-found,misc]
except ImportError:  # in a checkout, where this file is not in a package
    _UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack.boundary import failing_by_result
    from ansible.module_utils.tensorflow_stack.errors import StackError
    from ansible.module_utils.tensorflow_stack.fleet import door, drained
    from ansible.module_utils.tensorflow_stack.io.clock import timestamp


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    _supports_check_mode = True
    _requires_connection = False

    @failing_by_result("tensorflow_fleet_drained", (AnsibleError,))  # type: ignore[untyped-decorator]
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(argument_spec=door.DRAINED_OPTIONS)
        host = (task_vars or {})["inventory_hostname"]
        try:
            since = drained.drained_since(options["reports"], host)
            if not self._task.check_mode:
                if options["state"] == "present":
                    drained.mark_drained(options["reports"], host, timestamp())
                else:
                    drained.unmark_drained(options["reports"], host)
        except StackError as error:
            return {**result, "failed": True, "msg": error.message}
        # A record of the controller: whether the node itself was changed is for the tasks that drain it to say.
        return {**result, "changed": False, "since": since}
