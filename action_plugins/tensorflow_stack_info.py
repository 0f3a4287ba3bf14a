# SPDX-License-Identifier: Apache-2.0
"""Plans in Ansible's own process; documented in library/tensorflow_stack_info.py."""

from __future__ import annotations

import os
from typing import Any

import ansible.module_utils
from ansible.plugins.action import ActionBase

try:
    from ..module_utils.tensorflow_stack.planning import door  # type: ignore[import-not-found,misc]  # in a collection
    from ..module_utils.tensorflow_stack.tables import load  # type: ignore[import-not-found,misc]

    _ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
except ImportError:  # in a checkout, where this file is not in a package
    _ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    _UTILS = os.path.join(_ROOT, "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack.planning import door
    from ansible.module_utils.tensorflow_stack.tables import load

# Ansible imports this before it forks a worker for each node: what is loaded here, no worker loads again.
load.preload_tables(os.path.join(_ROOT, "roles", "tensorflow_release", "files", "tables"))


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(argument_spec=door.OPTIONS)
        if options["node"] is None:
            # Here rather than in a task of its own, whose result would be templated into this one's arguments.
            made, failed, read = self._read_and_plan(options, task_vars)
            # What Ansible found out about the node's Python on the way is kept by the caller.
            result.update({key: read[key] for key in ("node", "ansible_facts", "warnings") if key in read})
            if read.get("failed"):
                return {**result, **read}
        else:
            made, failed = door.answer(options)
        if failed:
            return {**result, **made, "failed": True, "msg": failed}
        return {**result, **made, "changed": False}

    def _read_and_plan(
        self, options: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> tuple[dict[str, Any], str | None, dict[str, Any]]:
        """The plan, why the task fails if it does, and what was read on the node.

        If an environment is to be built, a second module looks at what it would be built from. An interpreter that does
        not start is passed over, and the next one is chosen.
        """
        read = self._execute_module("gpu_node_info", module_args=door.reading(options), task_vars=task_vars)
        if read.get("failed"):
            return {}, None, read
        looked_at: list[dict[str, str]] = []
        while True:
            made, failed = door.answer({**options, "node": read["node"]})
            arguments = door.before_build(made["plan"])
            if arguments is None or arguments in looked_at:
                return self._refuse_in_use(options, made, failed, read, task_vars)
            looked_at.append(arguments)
            # A copy, because Ansible adds to what it is given.
            found = self._execute_module("tensorflow_build_info", module_args=dict(arguments), task_vars=task_vars)
            if found.get("failed"):
                return {}, None, found
            options = {**options, "cached": found["cached"]}
            if found["fault"]:
                read = {**read, "node": door.with_fault(read["node"], found["real_path"], found["fault"])}

    def _refuse_in_use(
        self,
        options: dict[str, Any],
        made: dict[str, Any],
        failed: str | None,
        read: dict[str, Any],
        task_vars: dict[str, Any] | None,
    ) -> tuple[dict[str, Any], str | None, dict[str, Any]]:
        """The same, refused if processes use what the plan changes and that is to be refused."""
        arguments = door.users_of(made["plan"]) if options["refuse_in_use"] and not failed else None
        if arguments is None:
            return made, failed, read
        found = self._execute_module("gpu_processes_info", module_args=arguments, task_vars=task_vars)
        if found.get("failed"):
            return {}, None, found
        return (*door.with_users(options, made, found), read)
