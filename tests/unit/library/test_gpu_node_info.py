"""The module: its parameters, its refusals, and that its documentation is what it returns."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests import nodes

SCHEMA = Path(__file__).resolve().parents[3] / "roles/tensorflow_release/files/node.schema.json"


@pytest.mark.parametrize("check", [False, True])
def test_returns_what_its_documentation_says(check: bool, tmp_path: Path, run_module: Any) -> None:
    """tests/contract/test_schemas.py holds the documentation to the schema."""
    root = nodes.materialise("managed_a100_debian12", tmp_path)
    result = run_module("gpu_node_info", check=check, filesystem_root=str(root))
    assert result["changed"] is False
    jsonschema.validate(result["node"], json.loads(SCHEMA.read_text()))
    returned = yaml.safe_load(importlib.import_module("ansible.modules.gpu_node_info").RETURN)["node"]["contains"]
    assert list(result["node"]) == list(returned)


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
    assert result["msg"].startswith(
        f"filesystem_root is '{tmp_path}/none', which is no directory; set it to the mount point"
    )
