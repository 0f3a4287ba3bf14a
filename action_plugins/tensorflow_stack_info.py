# SPDX-License-Identifier: Apache-2.0
"""Plans in Ansible's own process; documented in library/tensorflow_stack_info.py."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

try:
    from ..module_utils.tensorflow_stack import report, variables  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.boundary import failing_by_result  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.errors import StackError  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.fleet.decision import check_environments  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.planning import door  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.planning.options import (  # type: ignore[import-not-found,misc]
        OPTIONS,
        each_environment,
    )
    from ..module_utils.tensorflow_stack.tables import load  # type: ignore[import-not-found,misc]

    _ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
except ImportError:  # in a checkout, where this file is not in a package
    _ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    _UTILS = os.path.join(_ROOT, "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack import report, variables
    from ansible.module_utils.tensorflow_stack.boundary import failing_by_result
    from ansible.module_utils.tensorflow_stack.errors import StackError
    from ansible.module_utils.tensorflow_stack.fleet.decision import check_environments
    from ansible.module_utils.tensorflow_stack.planning import door
    from ansible.module_utils.tensorflow_stack.planning.options import OPTIONS, each_environment
    from ansible.module_utils.tensorflow_stack.tables import load

# Ansible imports this before it forks a worker for each node: what is loaded here, no worker loads again.
load.preload_tables(os.path.join(_ROOT, "roles", "tensorflow_release", "files", "tables"))


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    _supports_check_mode = True

    @failing_by_result("tensorflow_stack_info", (AnsibleError,))  # type: ignore[untyped-decorator]
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        wrong = self._wrong_names(task_vars)
        if wrong:
            return {**result, "failed": True, "msg": "\n".join(wrong)}
        _, options = self.validate_argument_spec(argument_spec=OPTIONS)
        each = [self._with_image(one) for one in each_environment(options)]
        read: dict[str, Any] = {"node": options["node"]}
        if options["node"] is None:
            # Here rather than in a task of its own, whose result would be templated into this one's arguments.
            read = self._execute_module("gpu_node_info", module_args=door.reading(each), task_vars=task_vars)
            # What Ansible found out about the node's Python on the way is kept by the caller.
            result.update({key: read[key] for key in ("node", "ansible_facts", "warnings") if key in read})
            if read.get("failed"):
                return {**result, **read}
        plans = []
        for one in each:
            made, failed = self._plan(one, read, task_vars)
            if options["bundle"] and not failed and not made["plan"]["refusals"]:
                made, failed = self._compare_with_bundle(one, made)
            if options["node"] is None:
                result["node"] = read["node"]
            if not failed and options["report"]:
                made, failed = self._report_kept(made, one, read["node"], task_vars)
            if failed:
                return {**result, **made, "failed": True, "msg": failed}
            plans.append(made)
        made = {"plans": plans} if options["environments"] else plans[0]
        return {**result, **made, "changed": False, "planned_at": int(time.time())}

    def _wrong_names(self, task_vars: dict[str, Any]) -> list[str]:
        """What cannot be meant, before the options are validated: their own errors name no variable."""
        arguments = self._task.args
        found = []
        if boolean(arguments.get("check_names", False), strict=False):
            known = variables.read_variables(os.path.join(_ROOT, "playbooks", "variables.json"))
            found = list(variables.problems(task_vars["inventory_hostname"], task_vars, known))
        if arguments.get("environments") and not found:
            try:
                check_environments(arguments["environments"])
            except StackError as error:
                found = [error.message]
        return found

    def _with_image(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of one environment, with what the manifest of its image says."""
        if not options["image"] or options["release"] == "current":
            return options
        images = importlib.import_module(f"{door.__name__.rpartition('.planning.')[0]}.bundle.images")
        return {**options, "image_manifest": images.read_image(options["image"], signers=options["bundle_signers"])}

    def _plan(
        self, options: dict[str, Any], read: dict[str, Any], task_vars: dict[str, Any]
    ) -> tuple[dict[str, Any], str | None]:
        """The plan of one environment, and why the task fails if it does; `read` has the node, and is updated.

        If an environment is to be built, a second module looks at what it would be built from. An interpreter that does
        not start is passed over, and the next one is chosen.
        """
        if options["node"] is not None:
            made, failed = door.answer(options)
            return made, failed
        looked_at: list[dict[str, str]] = []
        while True:
            made, failed = door.answer({**options, "node": read["node"]})
            arguments = door.before_build(made["plan"])
            if arguments is None or arguments in looked_at:
                return self._refuse_in_use(options, made, failed, task_vars)
            looked_at.append(arguments)
            # A copy, because Ansible adds to what it is given.
            found = self._execute_module("tensorflow_build_info", module_args=dict(arguments), task_vars=task_vars)
            if found.get("failed"):
                return found, str(found.get("msg"))
            options = {**options, "cached": found["cached"]}
            if found["fault"]:
                read["node"] = door.with_fault(read["node"], found["real_path"], found["fault"])

    def _refuse_in_use(
        self, options: dict[str, Any], made: dict[str, Any], failed: str | None, task_vars: dict[str, Any]
    ) -> tuple[dict[str, Any], str | None]:
        """The same, refused if processes use what the plan changes and that is to be refused."""
        arguments = door.users_of(made["plan"]) if options["refuse_in_use"] and not failed else None
        if arguments is None:
            return made, failed
        found = self._execute_module("gpu_processes_info", module_args=arguments, task_vars=task_vars)
        if found.get("failed"):
            return found, str(found.get("msg"))
        refused, failed = door.with_users(options, made, found)
        return refused, failed

    def _compare_with_bundle(self, options: dict[str, Any], made: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """The same, refused if the bundle lacks what would be installed, or has something else."""
        plan = made["plan"]
        if not door.takes_from_bundle(plan):
            return made, None
        # Here, because it loads the modules of http and ssl, which an unchanged node does not need.
        checking = importlib.import_module(f"{door.__name__.rpartition('.planning.')[0]}.bundle.checking")
        try:
            faults = checking.find_plan_faults(
                options["bundle"],
                plan,
                door.lock_of(plan),
                signers=options["bundle_signers"],
                tools=options["tools_directory"],
            )
        except StackError as error:
            faults = [{"component": "bundle", "found": error.message}]
        refused, failed = door.with_faults(options, made, faults)
        return refused, failed

    def _report_kept(
        self, made: dict[str, Any], options: dict[str, Any], node: dict[str, Any], task_vars: dict[str, Any]
    ) -> tuple[dict[str, Any], str | None]:
        """Write the report of an environment on which nothing has to be done; its result with the report."""
        if not (made["kept"]["environment"] and made["kept"]["check"]):
            return made, None
        path = options["report"]
        if len(options["environments"]) > 1:
            stem, suffix = os.path.splitext(path)
            path = f"{stem}.{made['plan']['environment']['name']}{suffix}"
        asked = report.options_of(
            host=task_vars["inventory_hostname"], path=path, release_result={**made, "node": node}, kept=made["kept"]
        )
        written, failed = report.leave_report(asked, check_mode=self._task.check_mode)
        if failed:
            return made, failed
        use = report.use_lines(written, asked, report.Asked.read(task_vars, self._templar.template))
        return {**made, "report": written, "use": use}, None
