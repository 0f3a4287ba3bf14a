# SPDX-License-Identifier: Apache-2.0
"""The screen of a run: Ansible's own, but for errors, tables, and tasks that only check."""

from __future__ import annotations

DOCUMENTATION = r"""
name: stack_screen
type: stdout
short_description: Ansible's default screen with short errors and tables that fit
version_added: "1.0.0"
description:
  - Shows an error once, in at most five lines. What else the task returned is in C(<host>.failed.log), which the
    last line names.
  - Shows a plan as a table that fits the terminal, or C(COLUMNS). Without a terminal no line is folded.
  - Shows a task that validates or asserts only if it fails, and no task that only ends the play for a host.
  - With C(-v) everything is shown as Ansible's default callback does.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
options:
  log_directory:
    description:
      - Directory for the logs of failed tasks. If it cannot be written, Ansible's own in the home directory is used.
    type: path
    default: reports
    env:
      - name: STACK_SCREEN_LOG_DIRECTORY
    ini:
      - section: stack_screen
        key: log_directory
author:
  - TensorFlow GPU Stack contributors
"""

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import ansible.module_utils
from ansible import constants
from ansible.plugins.callback.default import CallbackModule as DefaultCallback

try:
    from ..module_utils.tensorflow_stack import screen  # type: ignore[import-not-found,misc]  # in a collection
    from ..module_utils.tensorflow_stack.io.clock import timestamp  # type: ignore[import-not-found,misc]
    from ..module_utils.tensorflow_stack.planning import table  # type: ignore[import-not-found,misc]
except ImportError:  # in a checkout, where this file is not in a package
    _UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "module_utils")
    if _UTILS not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(_UTILS)
    from ansible.module_utils.tensorflow_stack import screen
    from ansible.module_utils.tensorflow_stack.io.clock import timestamp
    from ansible.module_utils.tensorflow_stack.planning import table

if TYPE_CHECKING:
    from ansible.executor.task_result import TaskResult
    from ansible.playbook.task import Task

# Each with its name in a collection.
_DEBUG = ("debug", "ansible.builtin.debug", "ansible.legacy.debug")
_ONLY_CHECKS = tuple(
    prefix + name
    for name in ("assert", "meta", "validate_argument_spec")
    for prefix in ("", "ansible.builtin.", "ansible.legacy.")
)
# Of a result that failed: what its message says already, or what is in the report.
_SAID = re.compile(
    "_ansible.*|ansible_facts|argument_errors|argument_spec_data|asked|assertion|attempts|censored|changed|deprecations|"
    "evaluated_to|exception|failed|holder|invocation|kept|lock|msg|node|path|plan|processes|refusals|releases|table|"
    "unreachable|url|validate_args_context|warnings"
)
# Of the last lines, in Ansible's order: the word, and its key in the statistics.
_RECAP = (
    ("ok", "ok"),
    ("changed", "changed"),
    ("unreachable", "unreachable"),
    ("failed", "failures"),
    ("skipped", "skipped"),
    ("rescued", "rescued"),
    ("ignored", "ignored"),
)
_ALWAYS = ("ok", "changed", "unreachable", "failed")
# What Ansible's own line needs after the name of the host.
_RECAP_WIDTH = 94


class CallbackModule(DefaultCallback):  # type: ignore[misc]  # ansible-core has no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "stack_screen"

    def __init__(self) -> None:
        super().__init__()
        # By host, its plan and the table of it as the module made it.
        self._tables: dict[str, dict[str, Any]] = {}
        self._logs: set[str] = set()
        self._warned: set[str] = set()

    def _is_quiet(self, task: Task) -> bool:
        return task.action in _ONLY_CHECKS and not self._display.verbosity

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        if self._is_quiet(task):
            # Without its heading, which a failure brings.
            self._task_type_cache[task._uuid] = "TASK"
            self._last_task_name = None
            return
        super().v2_playbook_on_task_start(task, is_conditional)

    def v2_runner_on_skipped(self, result: TaskResult) -> None:
        if not self._is_quiet(result._task):
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_ok(self, result: TaskResult) -> None:
        if not self._is_quiet(result._task):
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_skipped(self, result: TaskResult) -> None:
        if not self._is_quiet(result._task):
            super().v2_runner_item_on_skipped(result)

    def v2_runner_on_ok(self, result: TaskResult) -> None:
        if self._is_quiet(result._task):
            return
        host, said = result._host.get_name(), result._result
        if screen.short_name(result._task.action) == "tensorflow_stack_info" and "table" in said:
            self._tables[host] = {name: said[name] for name in ("plan", "table", "releases")}
        if result._task.action not in _DEBUG or self._display.verbosity or "msg" not in said or result._task.loop:
            super().v2_runner_on_ok(result)
            return
        self._heading(result._task)
        self._display.display(f"ok: [{self.host_label(result)}]", color=constants.COLOR_OK)
        for line in self._lines_of(host, said["msg"]):
            self._display.display(line)

    def _lines_of(self, host: str, message: Any) -> list[str]:
        width = screen.columns(os.environ, sys.stdout)
        made = self._tables.get(host)
        if made and message == made["table"]:
            return str(table.render(made["plan"], made["releases"], width)).split("\n")
        texts = message if isinstance(message, list) else [message]
        return [line for text in texts for line in screen.fold(str(text), width, indent="  ")]

    def v2_runner_on_failed(self, result: TaskResult, ignore_errors: bool = False) -> None:
        if self._display.verbosity or ignore_errors:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        said = result._result
        self._handle_warnings(said)
        if screen.short_name(result._task.action) == "tensorflow_report" and "path" in said:
            # What failed has said why.
            self._heading(result._task)
            name = result._host.get_name()
            text = f"{name}: the report is {said['path']}" if said["path"] else f"{name}: check mode writes no report"
            self._fail(screen.fold(text, screen.columns(os.environ, sys.stdout), indent="  "))
        elif not (result._task.loop and "results" in said):  # its items have said why
            self._show_error(result, f"fatal: [{self.host_label(result)}]: FAILED! => ")

    def v2_runner_item_on_failed(self, result: TaskResult) -> None:
        if self._display.verbosity:
            super().v2_runner_item_on_failed(result)
            return
        self._handle_warnings(result._result)
        label = self._get_item_label(result._result)
        self._show_error(result, f"failed: [{self.host_label(result)}] (item={label}) => ")

    def v2_runner_on_unreachable(self, result: TaskResult) -> None:
        if self._display.verbosity:
            super().v2_runner_on_unreachable(result)
            return
        self._handle_warnings(result._result)
        self._show_error(result, f"fatal: [{self.host_label(result)}]: UNREACHABLE! => ")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        width = screen.columns(os.environ, sys.stdout)
        rows = {host: stats.summarize(host) for host in sorted(stats.processed)}
        if width is None or width > max([len(host) for host in rows] + [26]) + _RECAP_WIDTH or self._display.verbosity:
            super().v2_playbook_on_stats(stats)
            return
        self._display.banner("PLAY RECAP")
        for host, row in rows.items():
            counts = [f"{name}={row[key]}" for name, key in _RECAP if row[key] or name in _ALWAYS]
            for line in screen.fold(f"{host:<12} : {' '.join(counts)}", width, indent="  "):
                self._display.display(line, color=_recap_color(row))
        self._display.display("")

    def _handle_warnings(self, res: dict[str, Any]) -> None:
        """Ansible's warnings of a task, each once in a run and folded between words."""
        width = screen.columns(os.environ, sys.stderr)
        if width is None or self._display.verbosity:
            super()._handle_warnings(res)
            return
        texts = [str(text) for text in res.pop("warnings", None) or ()]
        super()._handle_warnings(res)
        for text in texts:
            if text not in self._warned:
                self._warned.add(text)
                for line in screen.fold(f"[WARNING]: {text}", width, indent="  "):
                    self._display.display(line, color=constants.COLOR_WARN, stderr=True)

    def _heading(self, task: Task) -> None:
        if self._last_task_banner != task._uuid:
            self._print_task_banner(task)

    def _show_error(self, result: TaskResult, head: str) -> None:
        """An error in at most five lines: its message, and the log that has the rest."""
        self._heading(result._task)
        said, width = result._result, screen.columns(os.environ, sys.stdout)
        text = head + screen.message_of(said)
        lines, is_cut = screen.shorten_error(text, width, lines=screen.ERROR_LINES)
        path = self._write_log(result) if is_cut or has_more(said) else None
        # A message that is whole says what to do: no part of it gives way to the log's name.
        is_needed = is_cut or "Traceback" in str(said.get("exception"))
        if path and (is_needed or len(lines) < screen.ERROR_LINES):
            lines, _ = screen.shorten_error(text, width, lines=screen.ERROR_LINES - 1)
            lines.append(f"  All of it: {path}")
        self._fail(lines)

    def _fail(self, lines: list[str]) -> None:
        for line in lines:
            self._display.display(line, color=constants.COLOR_ERROR, stderr=self.get_option("display_failed_stderr"))

    def _write_log(self, result: TaskResult) -> str | None:
        """Path of the log, with everything that the task returned; None if there is no place for it."""
        host, said = result._host.get_name(), dict(result._result)
        name = re.sub(r"[^\w.:-]", "_", host).lstrip(".") + ".failed.log"
        now = timestamp()
        text = f"{now} {host}: {result._task.get_name().strip()} ({result._task.get_path()})\n"
        traceback = [line for line in (said.get("exception"),) if isinstance(line, str) and "Traceback" in line]
        text += "\n".join([screen.message_of(said), *traceback, ""])
        text += self._dump_results(said).strip("\n") + "\n"
        for directory in (self.get_option("log_directory"), constants.config.get_config_value("ANSIBLE_HOME")):
            path = os.path.join(os.path.abspath(directory), name)
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                how = os.O_APPEND if path in self._logs else os.O_TRUNC
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | how, 0o600)
                with open(descriptor, "w", encoding="utf-8", errors="replace") as log:
                    log.write(text)
            except OSError:
                continue
            self._logs.add(path)
            return path
        return None


def _recap_color(row: dict[str, int]) -> str:
    if row["failures"] or row["unreachable"]:
        return str(constants.COLOR_ERROR)
    return str(constants.COLOR_CHANGED if row["changed"] else constants.COLOR_OK)


def has_more(said: dict[str, Any]) -> bool:
    """Whether a task that failed returned what neither its message nor the report has."""
    more = any(value and not _SAID.fullmatch(name) for name, value in said.items())
    return more or "Traceback" in str(said.get("exception"))
