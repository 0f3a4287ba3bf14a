"""The files that take longest come first, so that no core is left with one of them when the other has nothing to do."""

from __future__ import annotations

import pytest

# By `make integration`, which ends with the CPU seconds of each file.
LONGEST = (
    *("test_classic_cases", "test_added", "test_mock_gpu", "test_fleet", "test_fresh_machine", "test_additions"),
    *("test_names", "test_packages", "test_packages_dnf", "test_repositories", "test_history", "test_check"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
