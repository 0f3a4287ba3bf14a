from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.planning.lives import life_warnings
from ansible.module_utils.tensorflow_stack.planning.stack import Driver, Python
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables

TABLES = Path(__file__).resolve().parents[4] / "roles" / "tensorflow_release" / "files" / "tables"
PYTHON = Python("3.12", "3.12.1", "found", "/usr/bin/python3.12")


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(TABLES))


def warnings(
    tables: Tables, release: str, python: str = "3.12", driver: Driver | None = None, today: str = "2026-11-22"
) -> tuple[str, ...]:
    row = tables.release(release)
    assert row
    return life_warnings(tables, row, replace(PYTHON, minor=python), driver, today)


def test_the_newest_release_on_a_living_python_is_not_warned_about(tables: Tables) -> None:
    assert warnings(tables, tables.releases[-1].version) == ()


def test_an_old_release_says_what_is_known_and_which_patch_is_better(tables: Tables) -> None:
    (warning,) = warnings(tables, "2.8.0")
    assert "TensorFlow 2.8.0 gets no security fixes" in warning
    assert "CVE-2024-3660 (loading a Keras model runs code that came with it; fixed in 2.13.0)" in warning
    assert warning.endswith("2.8.4 has the last fixes of its minor.")


def test_a_fixed_vulnerability_is_not_named(tables: Tables) -> None:
    (warning,) = warnings(tables, "2.12.1")
    assert "CVE-2024-3660" in warning
    assert "CVE-2023-33976" not in warning
    assert "last fixes" not in warning


@pytest.mark.parametrize(("today", "expected"), [("2026-10-31", False), ("2026-11-01", True)])
def test_a_python_lives_to_the_end_of_its_month(tables: Tables, today: str, expected: bool) -> None:
    found = warnings(tables, tables.releases[-1].version, python="3.10", today=today)
    assert [warning.startswith("Python 3.10 has had no security fixes since 2026-10 (") for warning in found] == (
        [True] if expected else []
    )


def test_a_driver_that_is_kept_past_the_life_of_its_branch(tables: Tables) -> None:
    driver = Driver("450.80.02", installed="470.256.02", loaded="470.256.02")
    newest = tables.releases[-1].version
    (warning,) = warnings(tables, newest, driver=driver)
    assert warning.startswith("The driver's branch 470 has had no security fixes since 2024-07 (")
    assert warnings(tables, newest, driver=replace(driver, loaded="580.142", installed="580.142")) == ()
    assert warnings(tables, newest, driver=replace(driver, source="distro")) == ()
