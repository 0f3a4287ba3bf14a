"""Names that are nearly those of the toolkit, and values by their types."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.variables import misspelt, nearest, parse, read_variables, wrong_values

KNOWN = read_variables(str(Path(__file__).resolve().parents[3] / "playbooks" / "variables.json"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("tensorfow_version", "tensorflow_version"),
        ("tensorflow_verison", "tensorflow_version"),
        ("tensorfolw_verison", "tensorflow_version"),
        ("tensorflow_versions", "tensorflow_version"),
        ("tensorflow-version", "tensorflow_version"),
        ("tensorflowversion", "tensorflow_version"),
        ("Tensorflow_Version", "tensorflow_version"),
        ("tensorflow_roto", "tensorflow_root"),
        ("tensorflow_gpus", "tensorflow_gpu"),
        ("cuda_sorce", "cuda_source"),
        ("nvidia_drvier_version", "nvidia_driver_version"),
        ("nvidia_driver_rebot", "nvidia_driver_reboot"),
        ("remove_sytem", "remove_system"),
        ("tensorflow_release_verison", "tensorflow_release_version"),
    ],
)
def test_a_misspelt_name_is_meant_for_a_known_one(name: str, meant: str) -> None:
    assert misspelt([name, "other"], KNOWN) == {name: meant}


@pytest.mark.parametrize("known", sorted(name for name, row in KNOWN.items() if row["type"] != "dict"))
def test_a_letter_that_is_missing_doubled_or_moved_is_seen_in_each_name(known: str) -> None:
    for place in range(1, len(known) - 1):
        lost = known[:place] + known[place + 1 :]
        doubled = known[:place] + known[place] + known[place:]
        moved = known[:place] + known[place + 1] + known[place] + known[place + 2 :]
        wrong = {lost, doubled, moved} - set(KNOWN)
        assert misspelt(wrong, KNOWN).keys() == wrong


@pytest.mark.parametrize(
    "name",
    [
        *("tensorflow_serving_port", "tensorflow_port", "tensorflow_host", "tensorflow_data_root", "tensorflow_user"),
        *("cuda_version", "cuda_visible", "cuda_home", "cudnn_version", "cuda_toolkit_package", "python_version"),
        *("nvidia_driver_branch", "nvidia_driver_skip_reboot", "nvidia_driver_package_version"),  # of NVIDIA's own role
        *("docker_version", "inventory_dir", "groups", "x", ""),
    ],
)
def test_a_name_of_somebody_else_is_not_meant_for_ours(name: str) -> None:
    assert misspelt([name], KNOWN) == {}


def test_known_names_are_not_misspelt() -> None:
    assert misspelt(KNOWN, KNOWN) == {}


def test_nearest_looks_at_no_case() -> None:
    assert nearest("TENSORFLW", ["TENSORFLOW", "ROOT"]) == "TENSORFLOW"
    assert nearest("tensorflow", ["TENSORFLOW", "ROOT"]) == "TENSORFLOW"
    assert nearest("JOBS", ["TENSORFLOW", "ROOT"]) is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("nvidia_driver_reboot", "true", True),
        ("nvidia_driver_reboot", "No", False),
        ("tensorflow_keep", "3", 3),
        ("remove_system", "cudnn,cuda", ["cudnn", "cuda"]),
        ("remove_system", '["cudnn"]', ["cudnn"]),
        ("tensorflow_version", "2.10", "2.10"),
        ("tensorflow_check_level", "libraries", "libraries"),
        ("tensorflow_index_url", "https://example.org/simple", "https://example.org/simple"),
        ("tensorflow_root", "/srv/x", "/srv/x"),
        ("tensorflow_root", "x", os.path.abspath("x")),
        ("tensorflow_requirements", "~/x", os.path.expanduser("~/x")),
    ],
)
def test_a_text_is_read_by_the_type_of_its_variable(name: str, text: str, value: Any) -> None:
    parsed = parse(name, text, KNOWN[name])
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("nvidia_driver_reboot", "maybe", "true or false"),
        ("tensorflow_keep", "two", "a whole number"),
        ("tensorflow_keep", "-5", "0 or more"),
        ("tensorflow_keep", "²", "a whole number"),
        ("tensorflow_venv_lock_timeout", "-1", "0 or more"),
        ("remove_system", "cudnn,cud", "one of cudnn, cuda, driver"),
        ("remove_system", '["cudnn"', "a list"),
        ("remove_system", "[1]", "a list"),
        ("tensorflow_lock_pythons", "3.10,,3.11", "a list"),
        ("tensorflow_check_level", "all", "one of full, libraries"),
        ("tensorflow_index_url", "not a url", "URL"),
        ("tensorflow_venv_plan", "{}", "Set it in an inventory"),
    ],
)
def test_a_malformed_value_is_refused_with_its_type(name: str, text: str, wanted: str) -> None:
    with pytest.raises(StackError) as caught:
        parse(name, text, KNOWN[name])
    assert name in caught.value.message and wanted in caught.value.message


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("tensorflow_version", None, "has no value (null)"),
        ("tensorflow_version", [], "is a list"),
        ("tensorflow_root", {"a": 1}, "is a mapping"),
        ("tensorflow_keep", -5, "0 or more"),
        ("nvidia_driver_reboot", "maybe", "true or false"),
        ("tensorflow_index_url", "not a url", "URL"),
    ],
)
def test_a_value_that_an_inventory_cannot_mean(name: str, value: Any, problem: str) -> None:
    (line,) = wrong_values({name: value, "other": None}, KNOWN)
    assert line.startswith(name) and problem in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tensorflow_version", "2.8.0"),
        ("tensorflow_version", 2.15),
        ("tensorflow_version", ""),
        ("tensorflow_keep", 0),
        ("tensorflow_keep", "{{ mine }}"),
        ("tensorflow_offline", True),
        ("tensorflow_offline", 1),
        ("nvidia_repository_fingerprints", []),
        ("remove_system", ["cudnn"]),
        ("tensorflow_release_locks", "{{ role_path }}/x"),
        ("tensorflow_venv_plan", {"schema": 1}),
    ],
)
def test_values_that_are_left_alone(name: str, value: Any) -> None:
    assert wrong_values({name: value}, KNOWN) == []
