# SPDX-License-Identifier: Apache-2.0
"""Reports what a run did to a fleet, on the screen and in files."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_summary
type: notification
short_description: Reports what a run did to a fleet
version_added: "1.0.0"
description:
  - At the end of a run of C(fleet.yml), or of C(report.yml) that reads the nodes, writes at most 20 lines to the
    screen, and C(fleet.json), C(fleet.html), C(fleet.xml) (JUnit), C(fleet.prom) (Prometheus), C(fleet.csv) and
    C(fleet.txt) among the reports. C(fleet.schema.json) of the role stack_report is the schema of the first. Does
    nothing in any other run.
  - Does so also if the run is interrupted. C(fleet.json) is also written before each batch, so that it exists if the
    run is killed; C(ended) is then false.
  - A callback rather than a task, because no task runs after a batch that failed.
author:
  - TensorFlow GPU Stack contributors
"""

import atexit
import os
import signal
from typing import TYPE_CHECKING, Any

import ansible.module_utils
from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible.template import Templar

try:
    from ..module_utils.tensorflow_stack import screen  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.errors import StackError  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.fleet.collecting import FleetRun  # type: ignore[import-not-found,misc]
except ImportError:  # in a checkout, where this file is not in a package
    _UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack import screen
    from ansible.module_utils.tensorflow_stack.errors import StackError
    from ansible.module_utils.tensorflow_stack.fleet.collecting import FleetRun

if TYPE_CHECKING:
    from ansible.executor.task_result import TaskResult
    from ansible.playbook.play import Play

# What ends a run without an end of its own, besides an interruption, which Ansible turns into an exit.
_ENDS = (signal.SIGTERM, signal.SIGHUP)


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "fleet_summary"
    CALLBACK_NEEDS_ENABLED = False

    def __init__(self) -> None:
        super().__init__()
        self._run: FleetRun | None = None
        self._process = os.getpid()

    def v2_playbook_on_play_start(self, play: Play) -> None:
        manager = play.get_variable_manager()
        variables = manager.get_vars(play=play)
        # Of vars/fleet.yml, which the plays on a fleet have.
        if "fleet_reports" not in variables:
            return
        hosts = variables["ansible_play_hosts_all"]
        if self._run is None and hosts:
            inventory = manager._inventory
            # Those of a node, because an inventory may set the directory.
            of_node = manager.get_vars(play=play, host=inventory.get_host(hosts[0]))
            every_host = inventory.get_hosts(ignore_limits=True, ignore_restrictions=True)
            self._run = FleetRun(
                hosts,
                str(Templar(loader=play.get_loader(), variables=of_node).template(of_node["fleet_reports"])),
                source=variables.get("fleet_source", "run"),
                check_mode=bool(context.CLIARGS.get("check")),
                inventory=[host.name for host in every_host],
            )
            self._watch()
        elif self._run is not None and self._run.decision is not None:
            try:
                self._run.begin(variables["ansible_play_batch"])
            except StackError as error:
                self._display.warning(error.message)

    def _watch(self) -> None:
        """Write the report also if this process is ended before the playbook ends."""
        atexit.register(self._end, ended=False)
        for number in _ENDS:
            before = signal.getsignal(number)

            def end(received: int, frame: Any, before: Any = before) -> None:
                # A worker that Ansible ends has this handler, too.
                self._end(ended=False)
                if callable(before):
                    before(received, frame)
                else:
                    signal.signal(received, signal.SIG_DFL)
                    os.kill(os.getpid(), received)

            if before is not signal.SIG_IGN:  # nohup
                signal.signal(number, end)

    def v2_runner_on_ok(self, result: TaskResult) -> None:
        self._see(result)

    def v2_runner_on_failed(self, result: TaskResult, ignore_errors: bool = False) -> None:
        if self._run is None:
            return
        # A task that is run once for all is about no host of its own.
        if not result._task.run_once and not ignore_errors:
            role = result._task._role
            self._run.fail(result._host.name, _message(result), screen.short_name(role.get_name()) if role else None)
        self._see(result)

    def v2_runner_on_unreachable(self, result: TaskResult) -> None:
        if self._run is not None:
            self._run.lose(result._host.name, _message(result))

    def _see(self, result: TaskResult) -> None:
        if self._run is None:
            return
        found, action = result._result, screen.short_name(result._task.action)
        if action == "tensorflow_fleet" and "canary" in found:
            self._run.decision = found
        if action not in ("tensorflow_report", "tensorflow_stack_info"):
            return
        for one in found.get("plans") or [found]:
            if one.get("plan"):
                self._run.plan(result._host.name, {**one, "node": found.get("node")})
            # By the report's own task, or by the plan of an environment on which nothing has to be done.
            if one.get("report"):
                self._run.report(result._host.name, one["report"])

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._end(ended=True)

    def _end(self, *, ended: bool) -> None:
        run = self._run
        if run is None or os.getpid() != self._process:
            return
        self._run = None
        for line in run.end(ended=ended):
            self._display.display(line)


def _message(result: TaskResult) -> str:
    """Why a task failed; of a plan the first refusal, since its message begins with what was asked for."""
    refusals = (result._result.get("plan") or {}).get("refusals")
    if refusals:
        return str(refusals[0]["message"])
    return str(screen.message_of(result._result) if result._result.get("msg") else result._task.get_name())
