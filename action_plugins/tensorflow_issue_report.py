# SPDX-License-Identifier: Apache-2.0
"""Writes the report of a fault in Ansible's own process; documented in library/tensorflow_issue_report.py."""

from __future__ import annotations

import os
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_core

try:
    from ..module_utils.tensorflow_stack.boundary import failing_by_result  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.issue import collect  # type: ignore[import-not-found,misc]
except ImportError:  # in a checkout, where this file is not in a package
    _UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack.boundary import failing_by_result
    from ansible.module_utils.tensorflow_stack.issue import collect


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    _supports_check_mode = True
    _requires_connection = False

    @failing_by_result("tensorflow_issue_report", (AnsibleError,))  # type: ignore[untyped-decorator]
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(argument_spec=collect.OPTIONS)
        text = collect.write_report(options, ansible_core)
        path = os.path.normpath(options["path"])
        return {**result, "changed": False, "path": path, "lines": text.count("\n")}
