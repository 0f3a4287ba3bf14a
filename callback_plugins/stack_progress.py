# SPDX-License-Identifier: Apache-2.0
"""Says what is planned and what the check found, and every few seconds that a long task is alive."""

from __future__ import annotations

DOCUMENTATION = r"""
name: stack_progress
type: notification
short_description: Shows plan and verdict, and that long tasks are alive
description:
  - Writes a line for the plan of each host and one for its verdict, and one for what somebody added to its environment.
  - Ends with three lines for each host on which an environment is ready, on how to use it and how to go back.
  - Ends a run in which no task ran on any host with an error. ansible-playbook would end with 0 there, as if all
    was well.
  - Writes a line to stderr for every task that has run for some seconds, and again each time as many have
    passed.
  - On a host that is this machine the line ends with what the log of a build or a download said last.
    Elsewhere it names the task.
options:
  interval:
    description: Seconds between two lines of one task, and before its first.
    type: float
    default: 5
    env:
      - name: STACK_PROGRESS_INTERVAL
    ini:
      - section: stack_progress
        key: interval
author:
  - TensorFlow GPU Stack contributors
"""

import os
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.inventory.helpers import get_group_vars
from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.task_result import TaskResult
    from ansible.inventory.host import Host
    from ansible.playbook.task import Task

_TAIL_BYTES = 4096
_SHOWN_CHARACTERS = 100
_SHOWN_ADDITIONS = 8
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


# What `kept` of a plan has in place of the result of each.
_PARTS = {"tensorflow_venv": "environment", "tensorflow_gpu_check": "check"}


@dataclass(frozen=True)
class Environment:
    """What the plan says of the environment that is being built."""

    name: str
    root: str

    @property
    def logs(self) -> list[str]:
        """What is written while the environment is built, and while an interpreter is fetched."""
        return [os.path.join(self.root, ".builds", name + ".log") for name in (self.name, "python")]


@dataclass
class Running:
    """A task on one host, from its start to its result."""

    host: str
    task: str
    is_local: bool
    started: float
    started_at: float
    due: float


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "stack_progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._interval = 5.0
        self._environments: dict[str, Environment] = {}
        # By host, what its plan found done already and no task has shown.
        self._kept: dict[str, dict[str, Any]] = {}
        # By host, how to use what is ready there.
        self._use: dict[str, list[str]] = {}
        self._running: dict[tuple[str, str], Running] = {}
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def set_options(self, *args: Any, **kwargs: Any) -> None:
        super().set_options(*args, **kwargs)
        self._interval = float(self.get_option("interval"))

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        now = time.monotonic()
        running = Running(
            host=host.name,
            task=task.get_name(),
            is_local=_is_local(host, task),
            started=now,
            started_at=time.time(),
            due=now + self._interval,
        )
        with self._guard:
            self._running[host.name, task._uuid] = running
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="stack_progress", daemon=True)
            self._thread.start()

    def v2_runner_on_ok(self, result: TaskResult) -> None:
        host = result._host.name
        if result._task.action == "tensorflow_stack_info":
            plan = result._result["plan"]
            if plan["environment"]:
                self._environments[host] = Environment(plan["environment"]["name"], plan["environment"]["root"])
            self._kept[host] = dict(result._result["kept"])
            for line in [
                plan_line(plan, is_whole=bool(self._kept[host]["environment"])),
                *(f"warning: {warning}" for warning in plan["warnings"]),
            ]:
                self._display.display(f"{host}: {line}")
        if result._task.action in _PARTS:
            self._kept.get(host, {}).pop(_PARTS[result._task.action], None)
            self._show(host, result._task.action, result._result)
        if result._task.action == "tensorflow_report":
            for action, part in _PARTS.items():
                kept = self._kept.get(host, {}).pop(part, None)
                if kept:
                    self._show(host, action, kept)
            self._use[host] = result._result["use"]
        self._forget(result)

    def v2_runner_on_failed(self, result: TaskResult, ignore_errors: bool = False) -> None:
        self._forget(result)

    def v2_runner_on_skipped(self, result: TaskResult) -> None:
        self._forget(result)

    def v2_runner_on_unreachable(self, result: TaskResult) -> None:
        self._forget(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._ended.set()
        if not stats.processed:
            raise SystemExit(
                "No task ran on any host. Check that the inventory (INVENTORY= of make, -i) has hosts, and --tags."
            )
        # After the recap, so that it is what remains on the screen.
        for host, lines in self._use.items():
            for line in lines:
                self._display.display(f"{host}: {line}")

    def _show(self, host: str, action: str, result: dict[str, Any]) -> None:
        if action == "tensorflow_venv":
            lines = environment_lines(result)
        else:
            again = ", from an earlier check of this build" if result["reused"] else ""
            lines = [f"{result['verdict']}{again}: {result['reason']}"]
        for line in lines:
            self._display.display(f"{host}: {line}")

    def _forget(self, result: TaskResult) -> None:
        with self._guard:
            self._running.pop((result._host.name, result._task._uuid), None)

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._interval)):
            now = time.monotonic()
            with self._guard:
                due = [running for running in self._running.values() if running.due <= now]
            for running in due:
                running.due = now + self._interval
                self._say(self._line(running, now))

    def _line(self, running: Running, now: float) -> str:
        environment = self._environments.get(running.host)
        said = None
        if environment and running.is_local:
            lines = (last_line(log, since=running.started_at) for log in environment.logs)
            said = next((line for line in lines if line), None)
        where = f"{environment.name} on {running.host}" if environment else running.host
        return f"[{where}, {now - running.started:.0f} s] {said or running.task}"

    def _say(self, line: str) -> None:
        try:
            # Not by way of Display: its lock, held while a worker is forked, would stay locked in the worker.
            os.write(2, (line + "\n").encode("utf-8", "replace"))
        except OSError:
            # Nobody reads stderr any more.
            self._ended.set()


def plan_line(plan: dict[str, Any], *, is_whole: bool = False) -> str:
    """A plan in one line: what will change, or that nothing will."""
    if plan["refusals"]:
        return f"TensorFlow {plan['release'] or '(newest)'} is refused"
    changes = [
        f"{step['component']} {step['action']}"
        + (f" ({step['bytes'] / 1e6:,.0f} MB to fetch)" if step["bytes"] else "")
        for step in plan["steps"]
        if step["action"] not in ("keep", "skip")
    ]
    where = f"TensorFlow {plan['release']} ({plan['flavour']}) at {plan['environment']['path']}"
    nothing = "nothing to change" + ("" if is_whole else ", if its files are unchanged")
    return f"{where}: {', '.join(changes) or nothing}"


def environment_lines(result: dict[str, Any]) -> list[str]:
    """What is, or was, in an environment beside what its lock names."""
    lines = []
    where = result["environment"] if result["action"] == "keep" else result["build"]
    if result["additions"]:
        lines.append(f"{where} has additions to its lock: {_shortened(result['additions'])}")
    if result["dropped"]:
        lines.append(f"{result['environment']} had additions to its lock: {_shortened(result['dropped'])}")
    if result["kept_builds"]:
        builds = ", ".join(result["kept_builds"])
        lines.append(f"kept beyond tensorflow_keep because of additions: {builds}")
    return lines


def _shortened(texts: list[str]) -> str:
    more = len(texts) - _SHOWN_ADDITIONS
    return ", ".join(texts[:_SHOWN_ADDITIONS]) + (f" and {more} more" if more > 0 else "")


def last_line(path: str, *, since: float) -> str | None:
    """The last line, without control characters, of a log that was written after `since` (of the epoch)."""
    try:
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            # The clock of a file system is coarser than the one that `since` was read from.
            if status.st_mtime < since - 1:
                return None
            stream.seek(max(0, status.st_size - _TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return None
    lines = [_ESCAPES.sub("", line).strip() for line in re.split(r"[\r\n]", text)]
    said = next((line for line in reversed(lines) if line), None)
    return said[:_SHOWN_CHARACTERS] if said else None


def _is_local(host: Host, task: Task) -> bool:
    """Whether the host's files are this machine's, as far as inventory and play say it outright."""
    variables = {**get_group_vars(host.get_groups()), **host.vars}
    return str(variables.get("ansible_connection") or task.connection) in ("local", "ansible.builtin.local")
