# SPDX-License-Identifier: Apache-2.0
"""Says what is planned and what the check found, and every few seconds that a long task is alive."""

from __future__ import annotations

DOCUMENTATION = r"""
name: stack_progress
type: notification
short_description: Shows plan and verdict, and that long tasks are alive
version_added: "1.0.0"
description:
  - Writes a line for the plan of each host and one for its verdict, and one for what somebody added to its environment.
    A play that shows the plan as a table gets no line for it.
  - Ends with three lines for each host on which an environment is ready, on how to use it and how to go back, unless
    these are many.
  - Ends a run in which no task ran on any host with an error. ansible-playbook would end with 0 there, as if all
    was well.
  - Writes a line to stderr for every task that has run for some seconds, and again each time as many have
    passed.
  - On a host that is this machine the line says which part of a build is being done, and how many megabytes were
    received. Elsewhere it names the task.
  - Is active without being enabled, so that C(ANSIBLE_CALLBACKS_ENABLED=junit) adds a callback and replaces none.
    Beside a stdout callback of another format, such as JSON, all of its lines are on stderr.
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
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ansible.module_utils
from ansible import constants
from ansible.inventory.helpers import get_group_vars
from ansible.plugins.callback import CallbackBase

try:
    from ..module_utils.tensorflow_stack import screen  # type: ignore[import-not-found,misc]  # in a collection
    from ..module_utils.tensorflow_stack.io.received import Received  # type: ignore[import-not-found,misc]
except ImportError:  # in a checkout, where this file is not in a package
    _UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack import screen
    from ansible.module_utils.tensorflow_stack.io.received import Received

if TYPE_CHECKING:
    from ansible.executor.task_result import TaskResult
    from ansible.inventory.host import Host
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

# Of a log: a phase is said before what the programs of that phase print.
_TAIL_BYTES = 1 << 18
_PHASE = re.compile(r"^== (.+)$", re.MULTILINE)
_PREPARED = re.compile(r"^Prepared ([0-9]+) packages?\b", re.MULTILINE)
_BUILDING = re.compile(r"Building (\S+)$")
_COMPILING = re.compile(r"Compiling ([0-9,]{1,18}) files\b")
_SHOWN_ADDITIONS = 8
# Hosts, for each of which a run ends with how to use what is ready.
_MOST_USED = 3
# Of handshakes and index pages; nobody waits for less.
_LEAST_SHOWN_BYTES = 1_000_000
# Stdout callbacks that print lines; the others print one document.
_PRINT_LINES = ("default", "stack_screen", "minimal", "oneline")
# Seconds; what a shorter task receives is not counted.
_LONG = 2.0
_SHOWS_PLAN = "tensorflow_release_result.table"


# What `kept` of a plan has in place of the result of each.
_PARTS = {"tensorflow_venv": "environment", "tensorflow_gpu_check": "check"}
# How the phases begin in which something is received.
_FETCHES = "Fetching"
_WITH_LOG = ("tensorflow_venv", "tensorflow_interpreter")


@dataclass(frozen=True)
class Environment:
    """What the plan says of the environment that is being built."""

    name: str
    root: str
    bytes: int

    @property
    def logs(self) -> list[str]:
        """What is written while the environment is built, and while an interpreter is fetched."""
        return [os.path.join(self.root, ".builds", name + ".log") for name in (self.name, "python")]


@dataclass
class Running:
    """A task on one host, from its start to its result."""

    host: str
    task: str
    action: str
    is_local: bool
    started: float
    started_at: float
    due: float
    received: int = 0


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "stack_progress"
    CALLBACK_NEEDS_ENABLED = False

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
        self._received = Received(os.getpid())
        self._plan_is_shown = False

    def set_options(self, *args: Any, **kwargs: Any) -> None:
        super().set_options(*args, **kwargs)
        self._interval = float(self.get_option("interval"))

    def v2_playbook_on_play_start(self, play: Play) -> None:
        tasks = [task for task in _tasks_of(play.get_tasks()) if _SHOWS_PLAN in str(task.args.get("msg"))]
        # Of workstation.yml only with --tags.
        self._plan_is_shown = any("never" not in task.tags for task in tasks)

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        now = time.monotonic()
        running = Running(
            host=host.name,
            task=task.get_name().rpartition(" : ")[2],
            action=screen.short_name(task.action),
            is_local=_is_local(host, task),
            started=now,
            started_at=time.time(),
            due=now + self._interval,
            received=self._received.total,
        )
        with self._guard:
            self._running[host.name, task._uuid] = running
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="stack_progress", daemon=True)
            self._thread.start()

    def v2_runner_on_ok(self, result: TaskResult) -> None:
        host, action = result._host.name, screen.short_name(result._task.action)
        if action == "tensorflow_stack_info":
            for planned in result._result.get("plans") or [result._result]:
                self._show_planned(host, planned)
        if action in _PARTS:
            self._kept.get(host, {}).pop(_PARTS[action], None)
            self._show(host, action, result._result)
        if action == "tensorflow_report":
            self._show_reported(host, result._result)
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
        # After the recap, so that it is what remains on the screen. In a fleet it would hide who failed.
        for host, lines in self._use.items() if len(self._use) <= _MOST_USED else ():
            for line in lines:
                self._print(host, line)

    def _show_planned(self, host: str, planned: dict[str, Any]) -> None:
        plan = planned["plan"]
        if plan["environment"]:
            self._environments[host] = Environment(
                plan["environment"]["name"], plan["environment"]["root"], plan["steps"][-1]["bytes"]
            )
        self._kept[host] = dict(planned["kept"])
        if not self._plan_is_shown:
            self._print(host, plan_line(plan, is_whole=bool(self._kept[host]["environment"])))
            for warning in plan["warnings"]:
                self._print(host, f"warning: {warning}")
        if "report" in planned:
            self._show_reported(host, planned)

    def _show_reported(self, host: str, reported: dict[str, Any]) -> None:
        for action, part in _PARTS.items():
            kept = self._kept.get(host, {}).pop(part, None)
            if kept:
                self._show(host, action, kept)
        self._use[host] = reported["use"]

    def _show(self, host: str, action: str, result: dict[str, Any]) -> None:
        if action == "tensorflow_venv":
            lines = environment_lines(result)
        else:
            again = ", from an earlier check of this build" if result["reused"] else ""
            lines = [f"{result['verdict']}{again}: {result['reason']}"]
        for line in lines:
            self._print(host, line)

    def _print(self, host: str, text: str) -> None:
        is_stdout = constants.DEFAULT_STDOUT_CALLBACK.rpartition(".")[2] in _PRINT_LINES
        stream = sys.stdout if is_stdout else sys.stderr
        for line in screen.fold(f"{host}: {text}", screen.columns(os.environ, stream), indent="  "):
            self._display.display(line, stderr=not is_stdout)

    def _forget(self, result: TaskResult) -> None:
        with self._guard:
            self._running.pop((result._host.name, result._task._uuid), None)

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._interval)):
            now = time.monotonic()
            with self._guard:
                is_long = any(row.is_local and now >= row.started + _LONG for row in self._running.values())
                due = [running for running in self._running.values() if running.due <= now]
            if is_long:
                # Often, because a socket that was closed between two counts is missing.
                self._received.count()
            for running in due:
                running.due = now + self._interval
                self._say(self._line(running, now))

    def _line(self, running: Running, now: float) -> str:
        environment = self._environments.get(running.host)
        where = f"{environment.name} on {running.host}" if environment else running.host
        said = [running.task]
        if running.is_local:
            received = self._received_by(running)
            phase = self._phase(running, environment) if environment else None
            if phase:
                said = [phase]
            if received >= _LEAST_SHOWN_BYTES and (phase is None or phase.startswith(_FETCHES)):
                said.append(received_of(received, environment.bytes if environment and phase else 0))
        text = f"[{where}, {now - running.started:.0f} s] {', '.join(said)}"
        return "\n".join(screen.fold(text, screen.columns(os.environ, sys.stderr), indent="  "))

    def _phase(self, running: Running, environment: Environment) -> str | None:
        """The part of a build that a task is in, in the words of its log."""
        phases = (last_phase(log, since=running.started_at, root=environment.root) for log in environment.logs)
        return next((phase for phase in phases if phase), None) if running.action in _WITH_LOG else None

    def _received_by(self, running: Running) -> int:
        """Bytes since the task's start, if it is the only one on this machine."""
        with self._guard:
            count = sum(other.is_local for other in self._running.values())
        return self._received.count() - running.received if count == 1 else 0

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
        + (f" ({screen.megabytes(step['bytes'])} to fetch)" if step["bytes"] else "")
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
        whose = f"{result['environment']} had additions to its lock"
        if result["action"] == "rollback":
            whose = "additions that stay in the build from which this rollback leads away"
        lines.append(f"{whose}: {_shortened(result['dropped'])}")
    if result["passed_over"]:
        lines.append(f"not usable, and passed over: {_shortened(result['passed_over'])}")
    if result["removed_builds"] and result["action"] != "remove":
        builds = _shortened(result["removed_builds"])
        lines.append(f"removed beyond tensorflow_keep, so that no rollback leads there: {builds}")
    if result["kept_builds"]:
        builds = ", ".join(result["kept_builds"])
        lines.append(f"kept beyond tensorflow_keep because of additions: {builds}")
    return lines


def _shortened(texts: list[str]) -> str:
    more = len(texts) - _SHOWN_ADDITIONS
    return ", ".join(texts[:_SHOWN_ADDITIONS]) + (f" and {more} more" if more > 0 else "")


def received_of(received: int, total: int) -> str:
    """Megabytes of megabytes, in percent if the total is known. What was received holds more than the files."""
    if not total:
        return f"{screen.megabytes(received)} received"
    received = min(received, total)
    return f"{received / 1e6:,.0f} of {screen.megabytes(total)} ({int(100 * received / total)} %)"


def last_phase(path: str, *, since: float, root: str = "") -> str | None:
    """The last phase in a log that was written after `since` (of the epoch)."""
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
    phases = list(_PHASE.finditer(text))
    if not phases:
        return None
    prepared = _PREPARED.search(text, phases[-1].end())
    if prepared:
        return f"Installing {prepared.group(1)} packages"
    compiling = _COMPILING.match(phases[-1].group(1))
    building = _BUILDING.match(phases[0].group(1))
    if compiling and building:
        return compiled_of(os.path.join(root, ".builds", building.group(1)), int(compiling.group(1).replace(",", "")))
    return phases[-1].group(1)


def compiled_of(build: str, total: int) -> str:
    """Files of files, in percent, as the bytecode in the build shows it."""
    done = min(total, sum(name.endswith(".pyc") for _, _, names in os.walk(build) for name in names))
    return f"Compiling to bytecode, {done:,} of {total:,} files ({int(100 * done / total) if total else 100} %)"


def _tasks_of(blocks: list[Any]) -> list[Any]:
    """The tasks of a play, which are in lists and blocks."""
    found = []
    for entry in blocks:
        if isinstance(entry, list):
            found += _tasks_of(entry)
        elif hasattr(entry, "block"):
            found += _tasks_of([*entry.block, *entry.rescue, *entry.always])
        else:
            found.append(entry)
    return found


def _is_local(host: Host, task: Task) -> bool:
    """Whether the host's files are this machine's, as far as inventory and play say it outright."""
    variables = {**get_group_vars(host.get_groups()), **host.vars}
    return str(variables.get("ansible_connection") or task.connection) in ("local", "ansible.builtin.local")
