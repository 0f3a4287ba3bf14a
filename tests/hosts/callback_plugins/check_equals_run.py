"""Compares what check mode said would change with what the run after it changed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: check_equals_run
type: notification
short_description: Fails a run that does something else than check mode said
description:
  - Of converge.yml, writes what changed in check mode into a file. The first run that is not in check mode after it
    is compared with that file, and ends with an error where it differs.
  - Compared are, for each host, the tasks that changed something, in order, and of the modules of this repository
    every result.
options:
  directory:
    description: Where the file is, the same for both runs.
    required: true
    env:
      - name: MOLECULE_EPHEMERAL_DIRECTORY
author:
  - TensorFlow GPU Stack contributors
"""

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible import context
from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.task_result import TaskResult

REPOSITORY = Path(__file__).resolve().parents[3]
OWN_MODULES = {path.stem for path in (REPOSITORY / "library").glob("*.py")}
# Of every result, or not of what was done; `pending` says that it was not.
UNCOMPARED = ("invocation", "ansible_facts", "warnings", "deprecations", "pending")


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "check_equals_run"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._is_compared = False
        self._changes: dict[str, list[dict[str, Any]]] = {}

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._is_compared = Path(playbook._file_name).name == "converge.yml"

    def v2_runner_on_ok(self, result: TaskResult) -> None:
        task, said = result._task, result._result
        if said.get("changed"):
            change = {"task": task.get_name(), "action": task.action, "result": compared(task.action, said)}
            self._changes.setdefault(result._host.get_name(), []).append(change)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if not self._is_compared or stats.failures or stats.dark:
            return
        path = Path(self.get_option("directory"), "changes-in-check-mode.json")
        if context.CLIARGS["check"]:
            path.write_text(json.dumps(self._changes))
        elif path.exists():
            said = json.loads(path.read_text())
            path.unlink()
            lines = differences(said, json.loads(json.dumps(self._changes)))
            if lines:
                raise SystemExit("Check mode said something else than this run did:\n" + "\n".join(lines))


def compared(action: str, result: dict[str, Any]) -> dict[str, Any]:
    """The part of a result that has to be the same in check mode."""
    if action not in OWN_MODULES:
        # What other modules say beyond that they changed something is often known only after they did.
        return {}
    return {key: value for key, value in result.items() if key not in UNCOMPARED and not key.startswith("_")}


def differences(said: dict[str, Any], done: dict[str, Any]) -> list[str]:
    """A diff from what check mode said to what was done; empty where it is the same."""
    before, after = (json.dumps(changes, indent=1, sort_keys=True).splitlines() for changes in (said, done))
    return list(difflib.unified_diff(before, after, "check mode", "run", lineterm="", n=8))
