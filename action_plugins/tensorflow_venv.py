# SPDX-License-Identifier: Apache-2.0
"""Runs the module of this name on the node, and says who asked for it; documented in library/tensorflow_venv.py."""

from __future__ import annotations

import os
import platform
import pwd
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

try:
    from ..module_utils.tensorflow_stack.boundary import failing_by_result  # type: ignore[import-not-found,misc]
except ImportError:  # in a checkout, where this file is not in a package
    _UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack.boundary import failing_by_result


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    _supports_check_mode = True

    @failing_by_result("tensorflow_venv", (AnsibleError,))  # type: ignore[untyped-decorator]
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = {"by": asked_by(), **self._task.args}
        return {**result, **self._execute_module(module_args=arguments, task_vars=task_vars)}


def asked_by() -> str:
    """The user who runs Ansible here, behind sudo as well, and the controller."""
    user = os.environ.get("SUDO_USER")
    if not user:
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a container started with a bare user id
            user = str(os.getuid())
    return f"{user}@{platform.node()}"
