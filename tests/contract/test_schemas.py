"""The node record and the plan: documentation says what their schemas say, and every field of the plan has a reader."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible.module_utils.tensorflow_stack.node.record import read_node
from ansible.module_utils.tensorflow_stack.records.component import COMPONENTS, LIBRARIES

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = REPOSITORY / "roles" / "tensorflow_release" / "files"
NODE = json.loads((FILES / "node.schema.json").read_text(encoding="utf-8"))
PLAN = json.loads((FILES / "plan.schema.json").read_text(encoding="utf-8"))
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
# What a type of Ansible's documentation is in a schema.
TYPES = {"str": "string", "path": "string", "int": "integer", "bool": "boolean", "list": "array", "dict": "object"}


def block(title: str) -> dict[str, Any]:
    """The YAML below a heading of docs/architecture.md."""
    section = ARCHITECTURE.partition(f"\n## {title}\n")[2]
    shown: dict[str, Any] = yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])
    return shown


def problems(value: Any, schema: Mapping[str, Any], whole: Mapping[str, Any]) -> list[str]:
    """Why a value is not what one field's schema says, `whole` being the schema that it is of."""
    validator = jsonschema.Draft202012Validator({**schema, "$defs": whole.get("$defs", {})})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


# --- The node record -----------------------------------------------------------------------------------


def test_a_real_node_has_the_schemas_shape() -> None:
    assert problems(read_node(), NODE, NODE) == []


def test_the_schema_knows_every_component() -> None:
    names = [component.name for component in COMPONENTS]
    assert NODE["properties"]["managed"]["propertyNames"]["enum"] == names
    assert [name for name in PLAN["properties"] if name in names] == names


def return_differences(returned: Mapping[str, Any], schema: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """How the documentation of a result differs from its schema: fields, types and samples."""
    fields = schema["properties"]
    yield from (f"{where}{name} is in one of them only" for name in sorted(returned.keys() ^ fields.keys()))
    for name in sorted(returned.keys() & fields.keys()):
        row, field = returned[name], fields[name]
        # What has no type is one of some texts.
        types = field.get("type", "string")
        if TYPES[row["type"]] not in ([types] if isinstance(types, str) else types):
            yield f"{where}{name} is documented as {row['type']}"
        if row.get("sample") is not None:
            yield from (f"{where}{name}, sample: {line}" for line in problems(row["sample"], field, NODE))
        if "contains" in row:
            yield from return_differences(row["contains"], field, f"{where}{name}.")


def test_the_documentation_of_gpu_node_info_is_the_schemas() -> None:
    returned = yaml.safe_load(importlib.import_module("ansible.modules.gpu_node_info").RETURN)["node"]["contains"]
    assert list(return_differences(returned, NODE)) == []


def test_the_architecture_page_shows_a_node_record() -> None:
    assert problems(block("The node record"), NODE, NODE) == []


# --- The plan ------------------------------------------------------------------------------------------


def test_tasks_read_fields_of_the_node_record_that_exist() -> None:
    files = [path for folder in ("playbooks", "roles") for path in (REPOSITORY / folder).rglob("*.yml")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    read = {field for text in texts for field in re.findall(r"\bresult\.node\.(\w+)|_result\.node\.(\w+)", text)}
    fields = {name for names in read for name in names if name}
    assert "managed" in fields
    assert fields - NODE["properties"].keys() == set()


def test_the_architecture_page_shows_the_plan() -> None:
    shown = block("The plan")
    assert shown.keys() == PLAN["properties"].keys()
    found = {name: problems(value, PLAN["properties"][name], PLAN) for name, value in shown.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


# Handed to a module as it is: whose options have to be the fields.
HANDED = {
    "repositories": ("nvidia_repository", "repositories"),
    "environment.image": ("tensorflow_venv", "image"),
    "lock.added": ("tensorflow_lock", "added"),
    "driver.packages": ("nvidia_packages", "packages"),
    **{f"{component.name}.packages": ("nvidia_packages", "packages") for component in LIBRARIES},
    **{f"{component.name}.archives": ("nvidia_redist", "archives") for component in LIBRARIES},
}
# Not for a program: the plan and the report show them to a person.
FOR_A_PERSON = {
    "other_gpus": "which GPUs it is not for, and why",
    "gpus": "which GPUs the plan is for, and what the release has for each",
    "steps": "what will be done and why",
    "refusals": "why nothing can be done, and what to set",
}


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = PLAN["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def fields(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Paths of a plan's fields (driver.packages), down to what is handed on whole."""
    for name, field in schema.get("properties", {}).items():
        yield path + name
        if path + name not in {*HANDED, *FOR_A_PERSON}:
            yield from fields(resolved(field), f"{path}{name}.")


def readers() -> str:
    """What roles, playbooks, the report and the callback do with a plan."""
    roles = [path for place in ("tasks", "defaults") for path in (REPOSITORY / "roles").glob(f"*/{place}/*.yml")]
    others = [REPOSITORY / "module_utils/tensorflow_stack/report.py", REPOSITORY / "callback_plugins/stack_progress.py"]
    paths = [*roles, *(REPOSITORY / "playbooks").rglob("*.yml"), *others]
    # Of what is handed on as `plan.uv`.
    uv = (REPOSITORY / "module_utils/tensorflow_stack/io/uv.py").read_text(encoding="utf-8")
    text = "\n".join([*(path.read_text(encoding="utf-8") for path in paths), uv.replace("record[", 'plan["uv"][')])
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def is_read(field: str, text: str) -> bool:
    """As `plan.driver.branch`, `(plan.cudnn or {}).floor` or, in Python, `plan["release"]`."""
    names = field.split(".")
    dotted = r"plan\." + r"(?: or \{\}\))?\.".join(names)
    subscripted = "plan" + "".join(rf"\[[\"']{name}[\"']\]" for name in names)
    return re.search(rf"{dotted}\b|{subscripted}", text) is not None


def alike(field: str) -> list[str]:
    """The same field of every library: they have one shape, and some of it is for one of them."""
    component, _, rest = field.partition(".")
    libraries = [library.name for library in LIBRARIES]
    return [f"{library}.{rest}" for library in libraries] if rest and component in libraries else [field]


@pytest.mark.parametrize("field", list(fields(PLAN)))
def test_every_field_of_the_plan_has_a_reader(field: str) -> None:
    assert any(is_read(one, readers()) for one in alike(field))


@pytest.mark.parametrize("field", HANDED)
def test_what_is_handed_to_a_module_has_its_options(field: str) -> None:
    module, option = HANDED[field]
    options = yaml.safe_load(importlib.import_module(f"ansible.modules.{module}").DOCUMENTATION)["options"]
    schema: Mapping[str, Any] = PLAN
    for name in field.split("."):
        schema = resolved(schema["properties"][name])
    items = schema.get("items", schema)
    names = {name for kind in items.get("oneOf", [items]) for name in kind["properties"]}
    assert names == options[option]["suboptions"].keys()


def test_checker_sees_a_field_without_a_reader() -> None:
    text = '"{{ x_plan.driver.branch }} {{ (x_plan.cudnn or {}).floor }}" plan["release"]'
    read = [
        field
        for field in ("driver.branch", "cudnn.floor", "release", "driver", "branch", "rel")
        if is_read(field, text)
    ]
    assert read == ["driver.branch", "cudnn.floor", "release", "driver"]
