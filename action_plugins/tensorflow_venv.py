# SPDX-License-Identifier: Apache-2.0
"""Runs the module of this name on the node, and says who asked for it; documented in library/tensorflow_venv.py."""

from __future__ import annotations

import os
import platform
import pwd
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    _supports_check_mode = True

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
