"""The module on trees of nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.node.files import NodeFiles
from ansible.modules import nvidia_libraries_info

from tests import nodes
from tests.conftest import RunModule

CUDA = "/usr/local/cuda-11.2/lib64"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = nodes.materialise("a100_driver535", tmp_path)
    monkeypatch.setattr(nvidia_libraries_info, "NodeFiles", lambda _: NodeFiles(str(root)))
    return root


def test_libraries_that_are_there_are_named_and_others_are_problems(run_module: RunModule, root: Path) -> None:
    result = run_module("nvidia_libraries_info", component="cuda", version="11.2", directories=[CUDA])
    assert (result["changed"], result["version"]) == (False, "11.2")
    assert any("/libcudart.so." in path for path in result["libraries"]), result["libraries"]
    missing = run_module("nvidia_libraries_info", component="cuda", version="11.2", directories=["/opt/none"])
    assert any("is neither in /opt/none nor in the loader's directories" in row for row in missing["problems"])


def test_another_version_is_a_problem(run_module: RunModule, root: Path) -> None:
    result = run_module("nvidia_libraries_info", component="cuda", version="11.8", directories=[CUDA])
    assert result["version"] == "11.2"
    assert "cuda is 11.2 there, not 11.8" in result["problems"]


def test_a_library_that_goes_is_seen(run_module: RunModule, root: Path) -> None:
    before = run_module("nvidia_libraries_info", component="cuda", version="11.2", directories=[CUDA])
    for path in before["libraries"]:
        if "/libcudart.so." in path:
            (root / path[1:]).unlink()
    after = run_module("nvidia_libraries_info", component="cuda", version="11.2", directories=[CUDA])
    assert [row for row in after["problems"] if row.startswith("libcudart is neither")]
