"""The module: its parameters, its refusals, and that its documentation is what it returns."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import nodes


@pytest.fixture
def returned() -> dict[str, Any]:
    module = importlib.import_module("ansible.modules.gpu_node_info")
    contents: dict[str, Any] = yaml.safe_load(module.RETURN)["node"]["contains"]
    return contents


@pytest.mark.parametrize("name", nodes.NAMES)
@pytest.mark.parametrize("check", [False, True])
def test_returns_what_its_documentation_says(
    name: str, check: bool, tmp_path: Path, run_module: Any, returned: dict[str, Any]
) -> None:
    result = run_module("gpu_node_info", check=check, filesystem_root=str(nodes.materialise(name, tmp_path)))
    assert result["changed"] is False
    record = result["node"]
    assert list(record) == list(returned)
    assert list(record["driver"]) == list(returned["driver"]["contains"])
    types = {"str": str, "dict": dict, "list": list, "int": int, "bool": bool}
    for fact, value in record.items():
        assert value is None or isinstance(value, types[returned[fact]["type"]]), fact
        sample = returned[fact].get("sample")
        rows = value if isinstance(value, list) else [value]
        samples = sample if isinstance(sample, list) else [sample]
        for row in rows:
            # What is managed is keyed by component, variables by their names.
            if isinstance(row, dict) and samples[0] is not None and fact not in ("managed", "variables"):
                assert set(row) == set(samples[0]), fact


def test_reads_this_machine_by_default(run_module: Any) -> None:
    record = run_module("gpu_node_info")["node"]
    assert record["architecture"] == os.uname().machine
    assert record["kernel"]["release"] == os.uname().release
    assert record["user"]["uid"] == os.geteuid()


def test_takes_the_environments_root_that_is_set(tmp_path: Path, run_module: Any) -> None:
    root = nodes.materialise("a100_driver535", tmp_path)
    record = run_module("gpu_node_info", filesystem_root=str(root), environments_root="/srv/none")["node"]
    assert record["environments_root"]["path"] == "/srv/none"
    assert record["environments_root"]["exists"] is False
    assert record["environments"] == []
    assert not (root / "srv").exists()


@pytest.mark.parametrize("name", ["filesystem_root", "environments_root"])
def test_refuses_a_relative_path(name: str, run_module: Any) -> None:
    result = run_module("gpu_node_info", **{name: "some/where"})
    assert result["failed"] is True
    assert result["msg"] == f"{name} is 'some/where'; set it to an absolute path, such as /some/where"


def test_refuses_a_file_system_that_is_not_there(tmp_path: Path, run_module: Any) -> None:
    result = run_module("gpu_node_info", filesystem_root=str(tmp_path / "none"))
    assert result["failed"] is True
    assert result["msg"].startswith(f"filesystem_root is '{tmp_path}/none', where no directory is; set it to where")
