"""Unit tests start no installer and no playbook: tests that do are in tests/component."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.programs import refuse_heavy


@pytest.fixture(autouse=True)
def _only_light_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with refuse_heavy(stand_ins=tmp_path_factory.getbasetemp()):
        yield
