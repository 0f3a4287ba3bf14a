"""The record of drained nodes: no node stays drained without being named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.fleet.drained import mark_drained, read_drained, unmark_drained

THEN, NOW = "2026-11-26T10:00:00Z", "2026-11-26T11:00:00Z"


def test_record_lasts_until_the_node_is_undrained(tmp_path: Path) -> None:
    reports = str(tmp_path)
    assert read_drained(reports) == {}
    assert mark_drained(reports, "gpu01", THEN)
    assert not mark_drained(reports, "gpu01", NOW)
    assert read_drained(reports) == {"gpu01": THEN}, "a second run keeps the time of the first"
    assert unmark_drained(reports, "gpu01")
    assert not unmark_drained(reports, "gpu01")
    assert read_drained(reports) == {}


def test_half_written_record_is_none(tmp_path: Path) -> None:
    (tmp_path / "drained").mkdir()
    (tmp_path / "drained" / ".gpu01.1-x.new").write_text("2026")
    assert read_drained(str(tmp_path)) == {}


def test_place_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "drained").write_text("")
    for use in (read_drained, lambda reports: mark_drained(reports, "gpu01", NOW)):
        with pytest.raises(StackError, match="Set stack_report_directory to a directory of yours"):
            use(os.fspath(tmp_path))
