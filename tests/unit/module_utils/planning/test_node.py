"""The view of a node that the planning asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.planning.node import NodeFacts

from tests import nodes


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    return nodes.read("managed_a100_debian12", tmp_path)


@pytest.mark.parametrize("name", nodes.NAMES)
def test_every_record_is_read(name: str, tmp_path: Path) -> None:
    record = nodes.read(name, tmp_path)
    facts = NodeFacts.read(record)
    assert [gpu.device_id for gpu in facts.gpus] == [gpu["device_id"] for gpu in record["gpus"]]
    assert facts.managed.keys() == record["managed"].keys()


def test_root_is_who_has_its_number(record: dict[str, Any]) -> None:
    assert NodeFacts.read({**record, "user": {"name": "toor", "uid": 0, "home": "/"}}).is_root
    assert not NodeFacts.read({**record, "user": {"name": "root", "uid": 1000, "home": "/"}}).is_root


def test_the_current_environment_is_what_the_manifest_names(record: dict[str, Any]) -> None:
    rows = [nodes.environment("first"), nodes.environment("second")]
    facts = NodeFacts.read({**record, "environments": rows, "manifest": {"current": "first"}})
    assert facts.current_environment and facts.current_environment.name == "first"
    for manifest in (None, {"environments": {}}, {"current": "gone"}):
        assert NodeFacts.read({**record, "environments": rows, "manifest": manifest}).current_environment is None


def test_a_library_is_known_by_version_and_directory(record: dict[str, Any]) -> None:
    row = {"version": "8.1.0", "library": "/opt/c/libcudnn.so.8.1.0", "library_directory": "/opt/c", "libraries": []}
    facts = NodeFacts.read({**record, "cudnn": [row]})
    assert facts.has_cuda("11.8", "/usr/lib/x86_64-linux-gnu") and not facts.has_cuda("11.8", "/opt")
    # Packages name more numbers than files.
    assert facts.has_cudnn("8.1.0.77", ("/opt/b", "/opt/c"))
    assert not facts.has_cudnn("8.1.1", ("/opt/c",)) and not facts.has_cudnn("8.1.0", ("/opt/b",))


def test_what_is_managed(record: dict[str, Any]) -> None:
    driver = NodeFacts.read(record).managed["driver"]
    assert (driver.source, driver.version) == ("distro", "535.309.01")
    assert driver.packages["libcuda1"] == "535.309.01-0+deb12u1"


@pytest.mark.parametrize(
    "change", [{"kernels": [{"release": "6.1", "image": True}]}, {"gpus": None}, {"driver": {}}], ids=str
)
def test_a_record_of_another_version_is_refused(record: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(StackError, match=r"is not that of gpu_node_info as it is now .*Read the node again with the"):
        NodeFacts.read({**record, **change})
