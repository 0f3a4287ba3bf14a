"""The files for AWX agree with each other, with the playbooks, and with the variables that roles and playbooks have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.tensorflow_stack import variables

REPOSITORY = Path(__file__).resolve().parents[2]
ASSETS = yaml.safe_load((REPOSITORY / "examples" / "awx" / "assets.yml").read_text(encoding="utf-8"))
KNOWN = variables.read_variables(str(REPOSITORY / "playbooks" / "variables.json"))
# What `awx import` reads, in this order (awxkit/api/pages/api.py, 24.6.1), with the parts of each natural key.
NATURAL_KEYS = {
    "organizations": ("organization", {"name"}),
    "execution_environments": ("execution_environment", {"name"}),
    "credentials": ("credential", {"organization", "name", "credential_type"}),
    "projects": ("project", {"organization", "name"}),
    "inventory": ("inventory", {"organization", "name"}),
    "inventory_sources": ("inventory_source", {"organization", "name", "inventory"}),
    "job_templates": ("job_template", {"organization", "name"}),
}
# Of a survey, by the type of a variable.
TYPES = {"str": ("text", "multiplechoice"), "int": ("integer",), "bool": ("multiplechoice",)}
TEMPLATES = {template["name"]: template for template in ASSETS["job_templates"]}
QUESTIONS = [
    pytest.param(name, question, id=f"{name}: {question['variable']}")
    for name, template in TEMPLATES.items()
    for question in template["related"]["survey_spec"]["spec"]
]


def keys_in(value: Any) -> list[dict[str, Any]]:
    """Every reference to an object of AWX."""
    if isinstance(value, list):
        return [key for item in value for key in keys_in(item)]
    if not isinstance(value, dict):
        return []
    found = [key for item in value.values() for key in keys_in(item)]
    return [value, *found] if "type" in value and "name" in value else found


@pytest.mark.parametrize("resource", ASSETS)
def test_each_asset_has_its_natural_key(resource: str) -> None:
    kind, parts = NATURAL_KEYS[resource]
    for asset in ASSETS[resource]:
        assert asset["natural_key"].keys() == {"type", *parts}
        assert asset["natural_key"]["type"] == kind
        assert asset["natural_key"]["name"] == asset["name"]


def test_what_is_referred_to_is_in_the_file() -> None:
    made = [asset["natural_key"] for assets in ASSETS.values() for asset in assets]
    of_awx = [{"name": "Machine", "kind": "ssh", "type": "credential_type"}]
    assert [key for key in keys_in(ASSETS) if key not in made + of_awx] == []


def test_no_secret_is_in_the_file() -> None:
    assert [credential["inputs"] for credential in ASSETS["credentials"]] == [{"username": "root"}]


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_run_playbooks_of_this_repository(name: str) -> None:
    template = TEMPLATES[name]
    assert (REPOSITORY / template["playbook"]).is_file()
    # A slice has a preflight and a stop of its own (docs/awx.md).
    assert template["job_slice_count"] == 1 or "fleet" not in template["playbook"]
    assert f"| {name} |" in (REPOSITORY / "docs" / "awx.md").read_text(encoding="utf-8")


def test_the_inventory_exists() -> None:
    assert [(REPOSITORY / source["source_path"]).is_dir() for source in ASSETS["inventory_sources"]] == [True]


@pytest.mark.parametrize(("name", "question"), QUESTIONS)
def test_a_question_is_about_a_variable_of_its_playbook(name: str, question: dict[str, Any]) -> None:
    variable = KNOWN[question["variable"]]
    assert variable.get("playbook", Path(TEMPLATES[name]["playbook"]).stem) == Path(TEMPLATES[name]["playbook"]).stem
    assert question["type"] in TYPES[variable["type"]]
    given = [question["default"], *question.get("choices", [])]
    if variable["type"] == "bool":
        assert set(given) == {"false", "true"}
    elif "choices" in variable:
        assert question["choices"] == variable["choices"]
    # What AWX sends is what an inventory may have.
    for value in given:
        if value != "":
            variables.parse(question["variable"], str(value), variable)
    if question["type"] != "multiplechoice":
        assert question["min"] <= (question["default"] or question["min"]) <= question["max"]
