"""Roles say the same in defaults, specification and README, and hold no version that belongs into a table."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.tensorflow_stack.variables import misspelt, read_variables

REPOSITORY = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (REPOSITORY / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted((REPOSITORY / "playbooks").glob("*.yml"))

PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "raw": (object,),
}
# 2.8, 2.8.0, cuda-11.2: what looks like a version; not a file mode, and no part of a longer word.
VERSION = re.compile(r"(?<![\w.])(?:[a-z]+-?)?\d+\.\d+(?:\.\d+)*(?![\w.])", re.IGNORECASE)


# What a role's own plan is by default.
STACK_PLAN = "{{ stack_plan }}"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def is_template(value: object) -> bool:
    return isinstance(value, str) and "{{" in value


def type_problem(value: object, option: Mapping[str, Any]) -> str | None:
    wanted = option.get("type", "str")
    if wanted not in PYTHON_TYPES:
        return f"{wanted!r} is not a type"
    if is_template(value):
        return None
    if not isinstance(value, PYTHON_TYPES[wanted]) or (isinstance(value, bool) and wanted in ("int", "float")):
        return f"{value!r} is not of type {wanted}"
    choices = option.get("choices")
    return f"{value!r} is not one of {choices!r}" if choices and value not in choices else None


def specification_differences(role: str, defaults: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Every way in which a role's defaults/main.yml and the options of its entry point disagree."""
    found = [f"{name} is in defaults and not specified" for name in sorted(set(defaults) - set(options))]
    for name, option in options.items():
        if not name.startswith(f"{role}_"):
            found.append(f"{name} does not start with the role's name")
        if not option.get("description"):
            found.append(f"{name} has no description")
        if option.get("required"):
            # The specification's default would be evaluated even if the play sets the option and no stack_plan.
            if defaults.get(name, STACK_PLAN) != STACK_PLAN or "default" in option:
                found.append(f"{name} is required and has a default")
        elif name not in defaults:
            found.append(f"{name} is specified, not required, and not in defaults")
        else:
            default = option.get("default")
            if default != defaults[name] or type(default) is not type(defaults[name]):
                found.append(f"{name} is {defaults[name]!r} in defaults, specified as {default!r}")
            problem = type_problem(defaults[name], option)
            found += [f"{name}: {problem}"] if problem else []
    return found


def scalars(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from scalars(key)
            yield from scalars(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from scalars(inner)
    else:
        yield value


def version_literals(path: Path) -> list[str]:
    """Versions that a file of YAML or a template names outside of comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".yml", ".yaml"):
        values = [str(value) for value in scalars(yaml.safe_load(text)) if isinstance(value, str | float)]
    else:
        values = [re.sub(r"{#.*?#}", "", text, flags=re.DOTALL)]
    return [match.group() for value in values for match in VERSION.finditer(value)]


def files_of(role: Path) -> list[Path]:
    """Where a role acts; its tables and its documentation name versions, of course."""
    places = ("tasks", "templates", "defaults", "vars", "handlers")
    return sorted(path for place in places for path in (role / place).rglob("*") if path.is_file())


@pytest.fixture(params=ROLES, ids=lambda path: path.name)
def role(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_make_has_each_playbook() -> None:
    (targets,) = re.findall(r"^PLAYBOOKS := (.+)$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(targets.split()) == [path.stem for path in PLAYBOOKS]


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_playbook_begins_with_the_names_of_its_variables(path: Path) -> None:
    """So that it is enough to run one or two of them with a misspelt one."""

    def modules(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for task in tasks:
            yield from modules(task["block"]) if "block" in task else [task]

    play = load(path)[0]
    first = next(modules(play.get("pre_tasks", []) + play["tasks"]))
    # The plan of a node checks them in the same task.
    is_checked_by_plan = {**play.get("vars", {}), **first.get("vars", {})}.get("tensorflow_release_check_names") is True
    is_plan = first.get("ansible.builtin.import_role", {}).get("name") == "tensorflow_release"
    assert "tensorflow_inventory" in first or (is_plan and is_checked_by_plan)


def test_defaults_are_as_specified(role: Path) -> None:
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    defaults = load(role / "defaults" / "main.yml") or {}
    assert specification_differences(role.name, defaults, specs["main"].get("options") or {}) == []


def test_entry_points_are_specified(role: Path) -> None:
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    assert [name for name in specs if not (role / "tasks" / f"{name}.yml").is_file()] == []
    assert [name for name, spec in specs.items() if not spec.get("short_description")] == []


def test_role_has_a_readme(role: Path) -> None:
    readme = role / "README.md"
    assert readme.is_file()
    assert readme.read_text(encoding="utf-8").startswith(f"# {role.name}\n")


def test_role_names_no_version(role: Path) -> None:
    found = {str(path.relative_to(role)): version_literals(path) for path in files_of(role)}
    assert {path: versions for path, versions in found.items() if versions} == {}


def test_main_tasks_are_a_table_of_contents(role: Path) -> None:
    assert len((role / "tasks" / "main.yml").read_text(encoding="utf-8").splitlines()) <= 60


def tasks_of(value: object) -> Iterator[Mapping[str, Any]]:
    """Every task of a file of tasks or plays, those in blocks too."""
    if isinstance(value, Mapping):
        yield value
        for inner in (inner for key, inner in value.items() if key != "module_defaults"):
            yield from tasks_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from tasks_of(inner)


def waits(task: Mapping[str, Any]) -> bool:
    """Whether a task that needs the package manager says how long it waits for its lock."""
    ours = [task[name] for name in ("nvidia_packages", "nvidia_redist", "nvidia_repository") if name in task]
    generic = [
        name for name in task if name in ("ansible.builtin.package", "ansible.builtin.apt", "ansible.builtin.dnf")
    ]
    defaults = task.get("module_defaults") or {}
    return all("lock_timeout" in arguments for arguments in ours) and all(
        "lock_timeout" in (defaults.get(f"ansible.builtin.{manager}") or {}) for manager in ("apt", "dnf") if generic
    )


def every_task() -> list[tuple[Path, Mapping[str, Any]]]:
    shared = (REPOSITORY / "playbooks" / "tasks").glob("*.yml")
    files = [*PLAYBOOKS, *shared, *(path for role in ROLES for path in (role / "tasks").glob("*.yml"))]
    return [(path.relative_to(REPOSITORY), task) for path in files for task in tasks_of(load(path))]


def test_every_module_is_called_by_a_task_or_an_action() -> None:
    called = {name for _, task in every_task() for name in task}
    for path in (REPOSITORY / "action_plugins").glob("*.py"):
        called |= set(re.findall(r'_execute_module\(\s*"(\w+)"', path.read_text(encoding="utf-8")))
    assert {path.stem for path in (REPOSITORY / "library").glob("*.py")} - called == set()


def test_every_task_waits_for_the_lock_of_the_package_manager_as_the_inventory_says() -> None:
    assert [f"{path}: {task.get('name')}" for path, task in every_task() if not waits(task)] == []


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"nvidia_redist": {"lock_timeout": 1}}, True),
        ({"nvidia_redist": {}}, False),
        ({"ansible.builtin.package": {"name": "x"}}, False),
        ({"ansible.builtin.apt": {}, "module_defaults": {"ansible.builtin.apt": {"lock_timeout": 1}}}, False),
        ({"ansible.builtin.copy": {}}, True),
    ],
)
def test_checker_sees_who_does_not_wait(task: dict[str, Any], expected: bool) -> None:
    assert waits(task) is expected


def test_no_name_of_ours_is_taken_for_a_misspelt_one() -> None:
    """What roles and playbooks register and set is a variable for the play after."""
    tasks = [task for _, task in every_task()]
    names = {name for task in tasks for name in task.get("vars") or {}}
    names |= {task["register"] for task in tasks if "register" in task}
    names |= {task["loop_control"]["loop_var"] for task in tasks if "loop_var" in task.get("loop_control", {})}
    assert {"tensorflow_release_result", "stack_role", "verify_parts"} <= names, "of each kind"
    known = read_variables(str(REPOSITORY / "playbooks" / "variables.json"))
    assert misspelt(names, known) == {}


def test_playbooks_parse() -> None:
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventories/workstation"]
    ended = subprocess.run(
        [*command, "--syntax-check", *map(str, PLAYBOOKS)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "WARNING" not in ended.stderr


@pytest.mark.parametrize(
    ("defaults", "options", "difference"),
    [
        ({"r_a": 1}, {}, "r_a is in defaults and not specified"),
        ({}, {"r_a": {}}, "r_a is specified, not required, and not in defaults"),
        ({"r_a": 1}, {"r_a": {"type": "int", "default": 2}}, "r_a is 1 in defaults, specified as 2"),
        ({"r_a": True}, {"r_a": {"type": "bool", "default": 1}}, "r_a is True in defaults, specified as 1"),
        ({"r_a": 1}, {"r_a": {"type": "str", "default": 1}}, "r_a: 1 is not of type str"),
        ({"r_a": True}, {"r_a": {"type": "int", "default": True}}, "r_a: True is not of type int"),
        ({"r_a": "c"}, {"r_a": {"default": "c", "choices": ["a"]}}, "r_a: 'c' is not one of ['a']"),
        ({"r_a": "c"}, {"r_a": {"default": "c", "type": "text"}}, "r_a: 'text' is not a type"),
        ({"r_a": "c"}, {"r_a": {"required": True}}, "r_a is required and has a default"),
        ({}, {"a": {"required": True}}, "a does not start with the role's name"),
        ({}, {"r_a": {"required": True, "description": ""}}, "r_a has no description"),
    ],
)
def test_checker_sees_a_difference(
    defaults: dict[str, Any], options: dict[str, dict[str, Any]], difference: str
) -> None:
    options = {name: {"description": "x", **option} for name, option in options.items()}
    assert difference in specification_differences("r", defaults, options)


def test_checker_accepts_what_agrees() -> None:
    options = {
        "r_a": {"description": "x", "type": "int", "default": "{{ a | default(2) }}"},
        "r_b": {"description": "x", "required": True},
        "r_plan": {"description": "x", "required": True},
    }
    defaults = {"r_a": "{{ a | default(2) }}", "r_plan": "{{ stack_plan }}"}
    assert specification_differences("r", defaults, options) == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.yml", "- x: tensorflow==2.8.0\n", ["2.8.0"]),
        ("a.yml", "- x: 11.2  # a float\n", ["11.2"]),
        ("a.yml", "- x: /usr/local/cuda-11.2/lib64\n", ["cuda-11.2"]),
        ("a.yml", "- cuda11.2: x\n", ["cuda11.2"]),
        ("a.yml", "# such as 2.8.0\n- x: '0644'\n  y: 2\n", []),
        ("a.j2", "{# 2.8.0 #}\nversion = 2.8\n", ["2.8"]),
    ],
)
def test_checker_sees_versions(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    (tmp_path / name).write_text(text)
    assert version_literals(tmp_path / name) == expected


def test_choices_of_the_policy_are_those_of_the_module() -> None:
    """So that make and the role refuse what the module would."""
    documentation = yaml.safe_load(importlib.import_module("ansible.modules.tensorflow_stack_info").DOCUMENTATION)
    options = load(REPOSITORY / "roles/tensorflow_release/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    policy = documentation["options"]["policy"]["suboptions"]
    of_the_role = {name: options[f"tensorflow_release_{name}"].get("choices") for name in policy}
    assert of_the_role == {name: option.get("choices") for name, option in policy.items()}
