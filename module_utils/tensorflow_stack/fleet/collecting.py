"""What a run of a fleet has seen so far, and its report, which can be written at any moment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import StackError
from ..io.clock import timestamp
from .drained import read_drained
from .entries import planned_entry, reported_entry
from .summary import lines, names_of, summarise


class FleetRun:
    """One run. It keeps of each environment what the report has, because a thousand whole results take gigabytes."""

    def __init__(
        self, hosts: Sequence[str], reports: str, *, source: str, check_mode: bool, inventory: Sequence[str] = ()
    ) -> None:
        self.hosts = list(hosts)
        # The hosts of the inventory that a limit leaves out, too. Reports may be shared with other inventories.
        self._left_out = set(inventory) - set(hosts)
        self.reports = os.path.normpath(reports)
        self.source = source
        self.check_mode = check_mode
        self.decision: Mapping[str, Any] | None = None
        self._plans: dict[str, dict[str | None, dict[str, Any]]] = {}
        self._reports: dict[str, dict[str | None, dict[str, Any]]] = {}
        self._errors: dict[str, str] = {}
        self._roles: dict[str, str] = {}
        self._unreachable: dict[str, str] = {}
        self._begun: set[str] = set()

    def plan(self, host: str, result: Mapping[str, Any]) -> None:
        """The result of `tensorflow_stack_info`, also of one that refuses."""
        made = planned_entry(result["plan"], result.get("node"), result.get("kept"))
        self._plans.setdefault(host, {})[made["name"]] = made

    def report(self, host: str, report: Mapping[str, Any]) -> None:
        made = {**reported_entry(report, self._roles.get(host)), "error": report["error"]}
        self._reports.setdefault(host, {})[made["name"]] = made

    def fail(self, host: str, message: str, role: str | None) -> None:
        """The first failure of a host is why; those after it follow from it."""
        self._errors.setdefault(host, message)
        if role:
            self._roles.setdefault(host, role)

    def lose(self, host: str, message: str) -> None:
        self._unreachable[host] = message

    def begin(self, hosts: Sequence[str]) -> None:
        """A batch begins. What is known until now is written, so that it outlives a run that is killed."""
        self._begun.update(hosts)
        if hosts and not self.check_mode:
            from .files import write_record  # only a run of a fleet needs it, and this file is loaded by all

            write_record(self.reports, self.summary(ended=False))

    def summary(self, *, ended: bool, drained: Mapping[str, str] | None = None) -> dict[str, Any]:
        return summarise(
            self.hosts,
            decision=self.decision,
            plans={host: list(found.values()) for host, found in self._plans.items()},
            reports={host: list(found.values()) for host, found in self._reports.items()},
            errors=self._errors,
            unreachable=self._unreachable,
            drained=self._drained() if drained is None else drained,
            check_mode=self.check_mode,
            written_at=timestamp(),
            begun=self._begun,
            source=self.source,
            ended=ended,
        )

    def _drained(self) -> dict[str, str]:
        try:
            return read_drained(self.reports)
        except StackError:
            return {}  # the action that records drained nodes has said so

    def end(self, *, ended: bool) -> list[str]:
        """Write everything, and what to say on the screen. Raises StackError if it cannot be written."""
        drained = self._drained()
        made = self.summary(ended=ended, drained=drained)
        shown = lines(made)
        left_out = sorted(self._left_out & drained.keys())
        if left_out:
            shown.append(f"still drained, and not in this run: {names_of(left_out)}; run the playbook on them, too")
        if self.check_mode:
            return shown
        from .files import write_all

        try:
            page = write_all(self.reports, made)
        except StackError as error:
            return [*shown, error.message]
        return [*shown, f"Report: {page} (and .json, .csv, .xml, .prom, .txt next to it)"]
