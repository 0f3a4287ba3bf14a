# SPDX-License-Identifier: Apache-2.0
"""Sums up what a run did to a fleet, on the screen and in fleet.json."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_summary
type: notification
short_description: Sums up what a run did to a fleet
description:
  - At the end of a run of C(fleet.yml), writes at most 20 lines to the screen, and C(fleet.json) among the reports.
    C(fleet.schema.json) of the role stack_report is its schema. Does nothing in any other run.
  - A callback rather than a task, because no task runs after a batch that failed.
author:
  - TensorFlow GPU Stack contributors
"""

import datetime
import os
from typing import TYPE_CHECKING, Any

import ansible.module_utils
from ansible.plugins.callback import CallbackBase

try:
    from ..module_utils.tensorflow_stack.errors import StackError  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.fleet import drained, summary  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.io.writing import write_json  # type: ignore[import-not-found,misc]
except ImportError:  # in a checkout, where this file is not in a package
    _UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack.errors import StackError
    from ansible.module_utils.tensorflow_stack.fleet import drained, summary
    from ansible.module_utils.tensorflow_stack.io.writing import write_json

if TYPE_CHECKING:
    from ansible.executor.task_result import TaskResult


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "fleet_summary"
    CALLBACK_NEEDS_ENABLED = False

    def __init__(self) -> None:
        super().__init__()
        self._decision: dict[str, Any] | None = None
        self._reports: dict[str, dict[str, dict[str, Any]]] = {}
        self._errors: dict[str, str] = {}
        self._unreachable: set[str] = set()
        self._check_mode = False

    def v2_runner_on_ok(self, result: TaskResult) -> None:
        self._see(result)

    def v2_runner_on_failed(self, result: TaskResult, ignore_errors: bool = False) -> None:
        host = result._host.name
        # A task that is run once for all is about no host of its own.
        if not result._task.run_once and not ignore_errors:
            self._errors.setdefault(host, _message(result))
        self._see(result)

    def v2_runner_on_unreachable(self, result: TaskResult) -> None:
        self._unreachable.add(result._host.name)

    def _see(self, result: TaskResult) -> None:
        found = result._result
        if result._task.action == "tensorflow_fleet" and "canary" in found:
            self._decision = found
            self._check_mode = bool(result._task.check_mode)
        for one in found.get("plans") or [found]:
            # By the report's own task, or by the plan of an environment on which nothing has to be done.
            if result._task.action in ("tensorflow_report", "tensorflow_stack_info") and one.get("report"):
                report = one["report"]
                name = ((report["plan"] or {}).get("environment") or {}).get("name", "")
                self._reports.setdefault(result._host.name, {})[name] = report

    def v2_playbook_on_stats(self, stats: Any) -> None:
        decision = self._decision
        if decision is None:
            return
        try:
            still_drained = drained.read_drained(decision["reports"])
        except StackError as error:
            self._display.warning(error.message)
            still_drained = {}
        made = summary.summarise(
            decision["hosts"],
            decision=decision,
            reports={host: list(reports.values()) for host, reports in self._reports.items()},
            errors=self._errors,
            unreachable=self._unreachable,
            drained=still_drained,
            check_mode=self._check_mode,
            written_at=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        for line in summary.lines(made):
            self._display.display(line)
        if self._check_mode:
            return
        path = os.path.join(decision["reports"], "fleet.json")
        try:
            os.makedirs(decision["reports"], exist_ok=True)
            write_json(path, made)
        except OSError as error:
            self._display.warning(f"{path} cannot be written: {error.strerror}. Set stack_report_directory.")
            return
        self._display.display(f"Report: {path}")


def _message(result: TaskResult) -> str:
    """Why a task failed; of a plan the first refusal, since its message begins with what was asked for."""
    refusals = (result._result.get("plan") or {}).get("refusals")
    return str(refusals[0]["message"] if refusals else result._result.get("msg") or result._task.get_name())
