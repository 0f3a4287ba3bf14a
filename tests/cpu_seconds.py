"""pytest --cpu 20: the tests that cost most, in CPU seconds of their own and of the programs that they waited for.

Unlike --durations, these hardly depend on what else the machine does, and a lane on full cores takes their sum. What a
test leaves running or has others run (the processes of a container) is not counted.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu", type=int, metavar="N", help="show the N tests that cost most CPU, and files (0: all)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cpu") is not None:
        config.pluginmanager.register(CpuSeconds(config.getoption("--cpu")))


def spent() -> float:
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))


class CpuSeconds:
    """Measures in the process that runs the tests, shows in the one that reports: under xdist these are two."""

    def __init__(self, number: int) -> None:
        self._number = number or None
        self._before = spent()
        self._tests: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[Any]:
        report = yield
        now = spent()
        report.cpu_seconds, self._before = now - self._before, now
        return report

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._tests[report.nodeid] += report.cpu_seconds

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        files: Counter[str] = Counter()
        for test, seconds in self._tests.items():
            files[test.split("::")[0]] += seconds
        terminalreporter.section(f"CPU seconds: {sum(files.values()):.0f} in {len(self._tests)} tests")
        for rows in (files, self._tests):
            for name, seconds in rows.most_common(self._number):
                terminalreporter.line(f"{seconds:8.1f}  {name}")
            terminalreporter.line("")
