"""Which GPUs of a node count, and why the others do not; what an operator sees of it is in test_plan.py."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.planning import resolution
from ansible.module_utils.tensorflow_stack.planning.node import NodeFacts
from ansible.module_utils.tensorflow_stack.planning.stack import Assessment, Policy
from ansible.module_utils.tensorflow_stack.planning.usable_gpus import find_gpus
from ansible.module_utils.tensorflow_stack.records.environment import environment_digest
from ansible.module_utils.tensorflow_stack.records.gpus import gpus_in_reach
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables

from tests import nodes

TABLES = Path(__file__).resolve().parents[4] / "roles" / "tensorflow_release" / "files" / "tables"
GT_1030, GTX_1050_TI, GT_710, RTX_3090, RTX_5090, V100 = "1d01", "1c82", "128b", "2204", "2b85", "1db4"
UUID = "GPU-2c1f4a7e-3b1d-4c1c-9a57-5d0f8e6b9c2{}"


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(TABLES))


def node(tmp_path: Path, *devices: str, driver: str = "570.133.20", **changes: Any) -> dict[str, Any]:
    """A machine with these GPUs, in order."""
    record: dict[str, Any] = copy.deepcopy(nodes.read("vfio_two_a100", tmp_path))
    row = {**record["gpus"][0], "listed": True}
    gpus = [
        {
            **row,
            "index": index,
            "device_id": device,
            "pci_address": f"0000:{index + 1:02x}:00.0",
            "uuid": UUID.format(index),
        }
        for index, device in enumerate(devices)
    ]
    record["driver"].update(loaded=driver, installed=driver)
    python = {"version": None, "origin": "system", "distutils": True, "public": True}
    pythons = [{**python, "minor": minor, "path": f"/usr/bin/python{minor}"} for minor in ("3.10", "3.12")]
    return {**record, "gpus": gpus, "environments": [], "pythons": pythons, **changes}


def assess(tables: Tables, record: dict[str, Any], release: str = "2.18.1", **policy: Any) -> Assessment:
    return resolution.assess_wish(tables, release, NodeFacts.read(record), Policy(**policy))


def used(
    tables: Tables, record: dict[str, Any], release: str = "2.18.1", **policy: Any
) -> tuple[list[int], str | None]:
    stack = assess(tables, record, release, **policy).stack
    assert stack is not None
    others = {gpu.index for gpu in stack.other_gpus}
    assert others | {gpu.index for gpu in stack.gpus} == set(range(len(record["gpus"])))
    return [gpu.index for gpu in stack.gpus], stack.visible_gpus


@pytest.mark.parametrize(
    ("devices", "release", "indices", "visible"),
    [
        ((RTX_3090, RTX_3090), "2.18.1", [0, 1], None),
        ((GT_1030, RTX_3090), "2.18.1", [1], "1"),
        ((GT_1030, GTX_1050_TI), "2.18.1", [1], "1"),  # 3 and 6 multiprocessors: the larger one is the limit
        ((GT_1030, GT_1030), "2.18.1", [0, 1], None),
        ((GT_710, RTX_3090), "2.18.1", [1], None),  # the driver does not show the first
        ((RTX_3090, RTX_5090, RTX_3090), "2.18.1", [0, 2], None),  # nor these modules the second
    ],
)
def test_the_gpus_that_count(
    tables: Tables, tmp_path: Path, devices: tuple[str, ...], release: str, indices: list[int], visible: str | None
) -> None:
    assert used(tables, node(tmp_path, *devices), release) == (indices, visible)


@pytest.mark.parametrize(("release", "indices", "visible"), [("2.18.1", [0, 2], "0,2"), ("2.21.0", [0, 1, 2], None)])
def test_the_gpus_that_count_with_open_modules(
    tables: Tables, tmp_path: Path, release: str, indices: list[int], visible: str | None
) -> None:
    record = node(tmp_path, RTX_3090, RTX_5090, RTX_3090)
    record["driver"]["kind"] = "open"
    assert used(tables, record, release) == (indices, visible)


def test_the_variable_for_small_gpus_is_heeded(tables: Tables, tmp_path: Path) -> None:
    record = node(tmp_path, GT_1030, RTX_3090, variables={"TF_MIN_GPU_MULTIPROCESSOR_COUNT": "2"})
    assert used(tables, record) == ([0, 1], None)


@pytest.mark.parametrize(
    "name", ["1", "0000:02:00.0", "02:00.0", "0000:02:00.0 ", UUID.format(1), UUID.format(1).lower()]
)
def test_a_gpu_is_set_aside_by_each_of_its_names(tables: Tables, tmp_path: Path, name: str) -> None:
    record = node(tmp_path, RTX_3090, RTX_3090)
    assert [gpu.index for gpu in find_gpus(NodeFacts.read(record), name)] == [1]
    assert used(tables, record, ignored_gpus=(name,)) == ([0], "0")


@pytest.mark.parametrize("name", ["2", "0000:03:00.0", "GPU-2c1f4a7e", ""])
def test_what_names_no_gpu_is_refused(tables: Tables, tmp_path: Path, name: str) -> None:
    (refusal,) = assess(tables, node(tmp_path, RTX_3090, RTX_3090), ignored_gpus=(name,)).refusals
    assert refusal.found.startswith(
        f"tensorflow_ignored_gpus has {name}, and the GPUs are 0: GeForce RTX 3090, 0000:01:00.0"
    )


def test_every_gpu_set_aside_is_refused(tables: Tables, tmp_path: Path) -> None:
    (refusal,) = assess(tables, node(tmp_path, RTX_3090), ignored_gpus=("0",)).refusals
    assert "tensorflow_ignored_gpus has every GPU that can be used" in refusal.found
    assert assess(tables, node(tmp_path / "cpu", RTX_3090), gpu="none", ignored_gpus=("0",)).refusals == ()


def test_a_gpu_that_no_code_is_for_does_not_stop_the_others(tables: Tables, tmp_path: Path) -> None:
    stack = assess(tables, node(tmp_path, RTX_3090, RTX_5090)).stack
    assert stack and [gpu.why for gpu in stack.other_gpus] == [
        "TensorFlow 2.18.1 has no code for compute capability 12.0"
    ]
    # If none is left, it is refused because of each.
    (refusal,) = assess(tables, node(tmp_path / "one", RTX_5090)).refusals
    assert "GPU 0 (GeForce RTX 5090" in refusal.found


def test_the_open_modules_leave_an_older_gpu_out(tables: Tables, tmp_path: Path) -> None:
    record = node(tmp_path, V100, RTX_3090)
    record["driver"]["kind"] = "open"
    # As root the driver could be changed to one that has both; another user takes what there is.
    record["user"] = {"name": "u", "uid": 1000, "home": "/home/u"}
    assert used(tables, record) == ([1], None)
    # None is left: the driver has to be another one.
    alone = {**record, "gpus": record["gpus"][:1]}
    (refusal,) = assess(tables, alone).refusals
    assert refusal.found == (
        "driver 570.133.20 with open kernel modules, which do not support GPU 0 (Tesla V100 PCIe 16GB)"
    )


def test_gpus_that_exclude_each_other_are_set_aside_by_hand(tables: Tables, tmp_path: Path) -> None:
    record = node(tmp_path, V100, RTX_5090)
    record["driver"].update(loaded=None, installed=None, libcuda=None, kind=None)
    (refusal,) = assess(tables, record, "2.21.0").refusals
    assert "None supports all: put a GPU in tensorflow_ignored_gpus" in refusal.set
    assert assess(tables, record, "2.21.0", ignored_gpus=("0",)).refusals == ()
    assert assess(tables, record, "2.21.0", ignored_gpus=("1",)).refusals == ()


def test_gpus_out_of_reach_do_not_count(tmp_path: Path) -> None:
    record = node(tmp_path, RTX_3090, RTX_3090, RTX_3090)
    record["gpus"][0]["bound_to"] = "vfio-pci"
    record["gpus"][1]["excluded"] = True
    assert [gpu["index"] for gpu in gpus_in_reach(record)] == [2]
    record["kinds"] = [{"aspect": "container", "kind": "docker", "by": "/.dockerenv"}]
    record["gpus"][2]["device_file"] = None
    assert gpus_in_reach(record) == []


def test_an_environment_that_hides_no_gpu_keeps_its_identity() -> None:
    parts: dict[str, Any] = {"lock_sha256": "0" * 64, "python": "/usr/bin/python3.10", "library_directories": ()}
    digest = environment_digest(**parts)
    assert digest == "607fb1d90ba1d5898eee9d39210d35b60f853ab3846c76021137a760262678b8"
    assert environment_digest(**parts, visible_gpus=None) == digest
    assert len({digest, *(environment_digest(**parts, visible_gpus=visible) for visible in ("0", "1", "0,1"))}) == 4
