# SPDX-License-Identifier: Apache-2.0
"""Writes the report of one node in Ansible's own process; documented in library/tensorflow_report.py."""

from __future__ import annotations

import os
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

try:
    from ..module_utils.tensorflow_stack import report  # type: ignore[import-not-found,misc]  # in a collection
    from ..module_utils.tensorflow_stack.boundary import failing_by_result  # type: ignore[import-not-found,misc]
except ImportError:  # in a checkout, where this file is not in a package
    _UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack import report
    from ansible.module_utils.tensorflow_stack.boundary import failing_by_result


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    _supports_check_mode = True
    _requires_connection = False

    @failing_by_result("tensorflow_report", (AnsibleError,))  # type: ignore[untyped-decorator]
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(argument_spec=report.OPTIONS)
        made, failed = report.leave_report(options, check_mode=self._task.check_mode)
        if failed:
            is_said = made and options["failed_result"]
            path = "" if self._task.check_mode else os.path.normpath(options["path"])
            return {**result, "failed": True, "msg": failed, **({"path": path} if is_said else {})}
        use = report.use_lines(made, options, report.Asked.read(task_vars or {}, self._templar.template))
        return {**result, "changed": False, "report": made, "use": use}
