"""The order of versions by the cases that rpm itself publishes (tests/rpmvercmp.at), and dependencies on versions."""

from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.bundle.rpm_versions import Relation, compare_parts, compare_versions

CASES = """
1.0 1.0 0 | 1.0 2.0 -1 | 2.0 1.0 1 | 2.0.1 2.0.1 0 | 2.0 2.0.1 -1 | 2.0.1 2.0 1 | 2.0.1a 2.0.1a 0 | 2.0.1a 2.0.1 1
2.0.1 2.0.1a -1 | 5.5p1 5.5p1 0 | 5.5p1 5.5p2 -1 | 5.5p2 5.5p1 1 | 5.5p10 5.5p10 0 | 5.5p1 5.5p10 -1 | 5.5p10 5.5p1 1
10xyz 10.1xyz -1 | 10.1xyz 10xyz 1 | xyz10 xyz10 0 | xyz10 xyz10.1 -1 | xyz10.1 xyz10 1 | xyz.4 xyz.4 0 | xyz.4 8 -1
8 xyz.4 1 | xyz.4 2 -1 | 2 xyz.4 1 | 5.5p2 5.6p1 -1 | 5.6p1 5.5p2 1 | 5.6p1 6.5p1 -1 | 6.5p1 5.6p1 1 | 6.0.rc1 6.0 1
6.0 6.0.rc1 -1 | 10b2 10a1 1 | 10a2 10b2 -1 | 1.0aa 1.0aa 0 | 1.0a 1.0aa -1 | 1.0aa 1.0a 1 | 10.0001 10.0001 0
10.0001 10.1 0 | 10.1 10.0001 0 | 10.0001 10.0039 -1 | 10.0039 10.0001 1 | 4.999.9 5.0 -1 | 5.0 4.999.9 1
20101121 20101121 0 | 20101121 20101122 -1 | 20101122 20101121 1 | 2_0 2_0 0 | 2.0 2_0 0 | 2_0 2.0 0 | a a 0 | a+ a+ 0
a+ a_ 0 | a_ a+ 0 | +a +a 0 | +a _a 0 | _a +a 0 | +_ +_ 0 | _+ +_ 0 | _+ _+ 0 | + _ 0 | _ + 0
1.0~rc1 1.0~rc1 0 | 1.0~rc1 1.0 -1 | 1.0 1.0~rc1 1 | 1.0~rc1 1.0~rc2 -1 | 1.0~rc2 1.0~rc1 1
1.0~rc1~git123 1.0~rc1~git123 0 | 1.0~rc1~git123 1.0~rc1 -1 | 1.0~rc1 1.0~rc1~git123 1
1.0^ 1.0^ 0 | 1.0^ 1.0 1 | 1.0 1.0^ -1 | 1.0^git1 1.0^git1 0 | 1.0^git1 1.0 1 | 1.0 1.0^git1 -1 | 1.0^git1 1.0^git2 -1
1.0^git2 1.0^git1 1 | 1.0^git1 1.01 -1 | 1.01 1.0^git1 1 | 1.0^20160101 1.0^20160101 0 | 1.0^20160101 1.0.1 -1
1.0.1 1.0^20160101 1 | 1.0^20160101^git1 1.0^20160101^git1 0 | 1.0^20160102 1.0^20160101^git1 1
1.0^20160101^git1 1.0^20160102 -1 | 1.0~rc1^git1 1.0~rc1^git1 0 | 1.0~rc1^git1 1.0~rc1 1 | 1.0~rc1 1.0~rc1^git1 -1
1.0^git1~pre 1.0^git1~pre 0 | 1.0^git1 1.0^git1~pre 1 | 1.0^git1~pre 1.0^git1 -1
"""


def test_the_cases_of_rpm() -> None:
    rows = [case.split() for line in CASES.strip().splitlines() for case in line.split(" | ")]
    assert len(rows) == 91
    assert [(*row, compare_parts(row[0], row[1])) for row in rows] == [(*row, int(row[2])) for row in rows]


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        ("3:535.309.01-1.el8", "3:535.54.03-1.el8", 1),
        ("3:470.256.02-1.el8", "580.159.04-1.el8", 1),
        ("0:1.0-1", "1.0-1", 0),
        (":1.0-1", "1.0-1", 0),
        ("1.0-1.el8", "1.0-1.el8_10", -1),
        ("1.0-2", "1.0", 0),
        ("8.6.0.163-1.cuda11.8", "8.6.0.163-1.cuda11.2", 1),
    ],
)
def test_epoch_and_release(left: str, right: str, order: int) -> None:
    assert (compare_versions(left, right), compare_versions(right, left)) == (order, -order)


@pytest.mark.parametrize(
    ("operator", "version", "provided", "is_met"),
    [
        ("", "", "", True),
        (">=", "3:535", "", True),
        ("=", "3:535.309.01", "3:535.309.01-1.el8", True),
        ("=", "535.309.01", "3:535.309.01-1.el8", False),
        (">=", "3:535", "3:550.1-1", True),
        (">", "3:535.1-1", "3:535.1-1", False),
        ("<", "3:535.1-2", "3:535.1-1", True),
        ("<=", "3:535.1", "3:550-1", False),
    ],
)
def test_what_a_dependency_takes(operator: str, version: str, provided: str, is_met: bool) -> None:
    offered = Relation("nvidia-kmod", "=" if provided else "", provided)
    assert Relation("nvidia-kmod", operator, version).is_met_by(offered) is is_met


def test_a_range_that_is_provided() -> None:
    assert Relation("a", "<", "2").is_met_by(Relation("a", ">=", "1"))
    assert Relation("a", "<=", "1").is_met_by(Relation("a", ">=", "1"))
    assert not Relation("a", "<", "1").is_met_by(Relation("a", ">", "1"))
