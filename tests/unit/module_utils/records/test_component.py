"""The table of components; what a record of one may hold is tested where a node is read."""

from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.records.component import (
    COMPONENTS,
    LIBRARIES,
    kind_of,
    record_path,
    upstream_version,
)


def test_components_in_the_order_in_which_they_are_installed() -> None:
    assert [component.name for component in COMPONENTS] == ["driver", "cuda", "cudnn"]
    assert [component.name for component in LIBRARIES] == ["cuda", "cudnn"]


def test_a_record_is_named_for_its_component() -> None:
    assert record_path("cuda") == "/etc/tensorflow-gpu-stack/cuda.json"


@pytest.mark.parametrize(
    ("source", "kind"), [("distro", "packages"), ("nvidia_repo", "packages"), ("redist", "archives")]
)
def test_the_source_tells_what_a_component_was_installed_from(source: str, kind: str) -> None:
    assert kind_of({"source": source}) == kind


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("8.1.0.77-1+cuda11.2", "8.1.0.77"),
        ("3:535.309.01-1.el8", "535.309.01"),
        ("11.8.89~11.8.0-5~deb12u1", "11.8.89~11.8.0"),
        ("1:1.1.18-1", "1.1.18"),
        ("1.2.2", "1.2.2"),
        ("535.309.01", "535.309.01"),
        ("535.309.01-0+deb12u1", "535.309.01"),
        ("535.171.04-1~deb12u1", "535.171.04"),
        ("580.95.05-0ubuntu1", "580.95.05"),
    ],
)
def test_upstream_version(version: str, expected: str) -> None:
    assert upstream_version(version) == expected
