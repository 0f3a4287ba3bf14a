"""What a module documents is what it takes; what runs on a node is written for a node's Python."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.tensorflow_stack.node.pythons import find_pythons

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "library"
ACTIONS = REPOSITORY / "action_plugins"
CALLBACKS = REPOSITORY / "callback_plugins"
UTILS = REPOSITORY / "module_utils" / "tensorflow_stack"
MODULES = sorted(path.stem for path in LIBRARY.glob("*.py"))

OLDEST_NODE_PYTHON = (3, 7)
# Where the name of a distribution is not that of what is imported.
IMPORT_NAMES = {"PyYAML": "yaml", "cyclonedx-python-lib": "cyclonedx", "packageurl-python": "packageurl"}
TYPES = {"str", "int", "float", "bool", "list", "dict", "path", "raw", "jsonarg", "json", "bytes", "bits"}
RETURN_TYPES = {"str", "path", "int", "float", "bool", "list", "dict", "complex", "raw"}


class _Stop(Exception):
    """Ends main() where it makes its AnsibleModule."""


def arguments_of_main(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What main() gives to AnsibleModule."""
    seen: dict[str, Any] = {}

    def record(**arguments: Any) -> None:
        seen.update(arguments)
        raise _Stop

    monkeypatch.setattr(module, "AnsibleModule", record)
    with pytest.raises(_Stop):
        module.main()
    return seen


# --- Documentation ----------------------------------------------------------------------------------


def option_differences(documented: Mapping[str, Any], spec: Mapping[str, Any], where: str = "") -> list[str]:
    """Every way in which documented options are not those of an argument spec."""
    found = [f"{where}{name} is not documented" for name in sorted(set(spec) - set(documented))]
    found += [f"{where}{name} is not an option" for name in sorted(set(documented) - set(spec))]
    for name in sorted(set(spec) & set(documented)):
        option, argument = documented[name], spec[name]
        for key, unset in (("type", "str"), ("required", False), ("default", None), ("elements", None)):
            said, meant = option.get(key, unset), argument.get(key, unset)
            if said != meant or type(said) is not type(meant):
                found.append(f"{where}{name}: {key} is documented as {said!r}, main() has {meant!r}")
        for key in ("choices", "aliases"):
            said, meant = list(option.get(key) or []), list(argument.get(key) or [])
            if said != meant:
                found.append(f"{where}{name}: {key} are documented as {said!r}, main() has {meant!r}")
        if option.get("type", "str") not in TYPES:
            found.append(f"{where}{name}: {option['type']!r} is not a type")
        if not option.get("description"):
            found.append(f"{where}{name} has no description")
        found += option_differences(option.get("suboptions") or {}, argument.get("options") or {}, f"{where}{name}.")
    return found


def return_problems(returned: Mapping[str, Any], where: str = "") -> list[str]:
    found = []
    for name, row in returned.items():
        for key in ("description", "type") + (("returned",) if not where else ()):
            if not row.get(key):
                found.append(f"{where}{name} has no {key}")
        if row.get("type") not in RETURN_TYPES:
            found.append(f"{where}{name}: {row.get('type')!r} is not a type")
        if row.get("type") == "list" and "elements" not in row:
            found.append(f"{where}{name} is a list without elements")
        found += return_problems(row.get("contains") or {}, f"{where}{name}.")
    return found


def example_problems(module: str, examples: Iterable[Mapping[str, Any]], options: Mapping[str, Any]) -> list[str]:
    found, calls = [], 0
    for example in examples:
        tasks = example.get("tasks", [example])
        for task in tasks:
            if not task.get("name"):
                found.append(f"a task without a name: {task}")
            if module not in task:
                continue
            calls += 1
            given = task[module] or {}
            found += [f"{task.get('name')}: {key} is not an option" for key in given if key not in options]
            required = [name for name, option in options.items() if option.get("required")]
            found += [f"{task.get('name')}: lacks {name}" for name in required if name not in given]
    return found if calls else [*found, f"no example calls {module}"]


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"ansible.modules.{request.param}")


def name_of(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def test_a_module_is_named_for_its_field() -> None:
    assert [name for name in MODULES if not name.startswith(("tensorflow_", "gpu_", "nvidia_"))] == []


def test_options_are_documented_as_they_are(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    documentation = yaml.safe_load(module.DOCUMENTATION)
    spec = arguments_of_main(module, monkeypatch)["argument_spec"]
    assert option_differences(documentation.get("options") or {}, spec) == []


def test_module_says_what_it_is(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["module"] == name_of(module)
    for key in ("short_description", "description", "author"):
        assert documentation[key], key
    assert arguments_of_main(module, monkeypatch)["supports_check_mode"] is True
    for attribute in ("check_mode", "diff_mode"):
        assert documentation["attributes"][attribute]["support"] in ("full", "partial", "none")
    assert [name for name, attribute in documentation["attributes"].items() if not attribute.get("description")] == []
    assert documentation["attributes"]["check_mode"]["support"] == "full"


def test_result_is_documented(module: ModuleType) -> None:
    returned = yaml.safe_load(module.RETURN)
    assert returned
    assert return_problems(returned) == []


def test_examples_use_what_there_is(module: ModuleType) -> None:
    options = yaml.safe_load(module.DOCUMENTATION).get("options") or {}
    assert example_problems(name_of(module), yaml.safe_load(module.EXAMPLES), options) == []


@pytest.mark.parametrize(
    ("option", "argument", "difference"),
    [
        ({"type": "int"}, {"type": "str"}, "type is documented as 'int', main() has 'str'"),
        ({"required": True}, {}, "required is documented as True, main() has False"),
        ({"default": 1}, {"default": True}, "default is documented as 1, main() has True"),
        ({"default": "a"}, {}, "default is documented as 'a', main() has None"),
        ({"type": "list", "elements": "str"}, {"type": "list"}, "elements is documented as 'str'"),
        ({"choices": ["a", "b"]}, {"choices": ["a"]}, "choices are documented as ['a', 'b']"),
        ({"type": "dict", "suboptions": {"x": {}}}, {"type": "dict"}, "name.x is not an option"),
        ({"type": "text"}, {"type": "text"}, "'text' is not a type"),
        ({"description": ""}, {}, "has no description"),
    ],
)
def test_checker_sees_a_wrong_option(option: dict[str, Any], argument: dict[str, Any], difference: str) -> None:
    differences = option_differences({"name": {"description": "x", **option}}, {"name": argument})
    assert any(difference in line for line in differences), differences


def test_checker_sees_missing_options() -> None:
    assert option_differences({"a": {}}, {"b": {}}) == ["b is not documented", "a is not an option"]


def test_checker_sees_wrong_results_and_examples() -> None:
    assert return_problems({"x": {"type": "text", "contains": {"y": {"description": "d", "type": "list"}}}}) == [
        "x has no description",
        "x has no returned",
        "x: 'text' is not a type",
        "x.y is a list without elements",
    ]
    options = {"a": {"required": True}, "b": {}}
    assert example_problems("m", [{"name": "n", "m": {"c": 1}}], options) == [
        "n: c is not an option",
        "n: lacks a",
    ]
    assert example_problems("m", [{"name": "n", "other": {}}], options) == ["no example calls m"]


# --- What runs where --------------------------------------------------------------------------------


def absolute_imports(tree: ast.AST) -> set[str]:
    """Top-level names of what is imported, but not relatively."""
    found: set[str] = set()
    for part in ast.walk(tree):
        if isinstance(part, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in part.names}
        elif isinstance(part, ast.ImportFrom) and part.level == 0:
            found.add(str(part.module).partition(".")[0])
    return found


def stack_imports(path: Path, tree: ast.AST) -> set[Path]:
    """Files of tensorflow_stack that a file imports; a module of library/ or an action by the name of the package."""
    found = set()
    for part in ast.walk(tree):
        if isinstance(part, ast.ImportFrom) and (part.level or UTILS.name in str(part.module)):
            inside = (part.module or "").split(".") if part.module else []
            if UTILS in path.parents:
                base = path.parents[part.level - 1]
            else:
                base, inside = UTILS, inside[inside.index(UTILS.name) + 1 :]
            place = base.joinpath(*inside)
            targets = [place / alias.name for alias in part.names] if place.is_dir() else [place]
            found |= {target.with_suffix(".py") for target in targets}
    return found


def closure_of(module: str) -> dict[Path, ast.AST]:
    """The module's file and every file of tensorflow_stack that it imports in the end."""
    found: dict[Path, ast.AST] = {}
    waiting = [LIBRARY / f"{module}.py"]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = ast.parse(path.read_text(encoding="utf-8"))
            waiting += stack_imports(path, found[path])
    return found


def foreign_imports(tree: ast.AST, allowed: Iterable[str] = ()) -> list[str]:
    # tomli is tomllib before Python 3.11.
    known = {*sys.stdlib_module_names, "tomllib", "tomli", "ansible", *allowed}
    return sorted(absolute_imports(tree) - known)


def newer_than_node(source: str) -> list[str]:
    """What the oldest Python of a node does not understand."""
    try:
        tree = ast.parse(source, feature_version=OLDEST_NODE_PYTHON)
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    annotations: set[ast.AST] = set()
    if any(isinstance(part, ast.ImportFrom) and part.module == "__future__" for part in ast.walk(tree)):
        for part in ast.walk(tree):
            for expression in (getattr(part, "annotation", None), getattr(part, "returns", None)):
                annotations |= set(ast.walk(expression)) if isinstance(expression, ast.AST) else set()
    found = []
    for part in ast.walk(tree):
        if isinstance(part, ast.Attribute) and part.attr in (
            "removeprefix",
            "removesuffix",
            "is_relative_to",
        ):
            found.append(f"line {part.lineno}: .{part.attr}()")
        if (
            isinstance(part, ast.Subscript)
            and isinstance(part.value, ast.Name)
            and part.value.id in ("dict", "list", "set", "tuple", "type", "frozenset")
            and part not in annotations
        ):
            found.append(f"line {part.lineno}: {part.value.id}[...] is evaluated")
    return found


def requirements_of(module: str) -> list[str]:
    """Names that the module may import beyond the standard library, by its documentation."""
    documentation = yaml.safe_load(importlib.import_module(f"ansible.modules.{module}").DOCUMENTATION)
    names = [line.split()[0] for line in documentation.get("requirements") or []]
    return [IMPORT_NAMES.get(name, name) for name in names]


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_what_its_documentation_requires(name: str) -> None:
    allowed = requirements_of(name)
    foreign = {path.name: foreign_imports(tree, allowed) for path, tree in closure_of(name).items()}
    assert {path: names for path, names in foreign.items() if names} == {}


@pytest.mark.parametrize("name", MODULES)
def test_module_without_requirements_is_written_for_a_nodes_python(name: str) -> None:
    if requirements_of(name):
        pytest.skip("runs on the controller: it has requirements")
    newer = {path.name: newer_than_node(path.read_text(encoding="utf-8")) for path in closure_of(name)}
    assert {path: lines for path, lines in newer.items() if lines} == {}


def test_node_code_compiles_with_a_nodes_python() -> None:
    """By the interpreter itself, where this machine has one: ast knows old grammars only roughly."""
    minor = "{}.{}".format(*OLDEST_NODE_PYTHON)
    python = next((row["path"] for row in find_pythons()[0] if row["minor"] == minor), None)
    if python is None:
        pytest.skip(f"no Python {minor} on this machine")
    sources = {str(path) for name in MODULES if not requirements_of(name) for path in closure_of(name)}
    program = "import sys\nfor path in sys.argv[1:]: compile(open(path, 'rb').read(), path, 'exec')"
    subprocess.run([python, "-c", program, *sorted(sources)], check=True)


def test_something_runs_on_nodes_and_something_on_the_controller() -> None:
    assert {bool(requirements_of(name)) for name in MODULES} == {False, True}
    reached = {path for name in MODULES for path in closure_of(name)}
    for plugin in (*ACTIONS.glob("*.py"), *CALLBACKS.glob("*.py")):
        reached |= stack_imports(plugin, ast.parse(plugin.read_text(encoding="utf-8")))
    assert {path for path in UTILS.rglob("*.py") if path.name != "__init__.py"} <= reached


FUTURE = "from __future__ import annotations\n"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (FUTURE + "if (a := 1): pass\n", "line 2: "),
        (FUTURE + "def f(a, /): pass\n", "line 2: "),
        (FUTURE + "match a:\n    case 1: pass\n", "line 3: Pattern matching"),
        (FUTURE + "x = 'ab'.removeprefix('a')\n", "line 2: .removeprefix()"),
        (FUTURE + "Rows = list[str]\n", "line 2: list[...] is evaluated"),
        ("def f(a: list[str]) -> None: pass\n", "line 1: list[...] is evaluated"),
    ],
)
def test_checker_sees_newer_python(source: str, problem: str) -> None:
    assert [line for line in newer_than_node(source) if line.startswith(problem)]


def test_checker_takes_annotations_as_they_are() -> None:
    assert newer_than_node(FUTURE + "def f(a: list[str] | None) -> dict[str, int]:\n    b: set[int] = set()\n") == []


def test_checker_sees_foreign_imports() -> None:
    tree = ast.parse("import os\nimport yaml.nodes\nfrom packaging import version\nfrom .errors import StackError\n")
    assert foreign_imports(tree) == ["packaging", "yaml"]
    assert foreign_imports(tree, ["yaml"]) == ["packaging"]
    module = ast.parse("from ..module_utils.tensorflow_stack.node import files, texts\nimport os\n")
    assert stack_imports(LIBRARY / "m.py", module) == {UTILS / "node" / "files.py", UTILS / "node" / "texts.py"}
    inside = ast.parse("from ..errors import StackError\nfrom . import rows\n")
    assert stack_imports(UTILS / "tables" / "load.py", inside) == {UTILS / "errors.py", UTILS / "tables" / "rows.py"}


# What Ansible itself reads in a result: it would replace a value of another type, or take the result for another one.
RESERVED_RESULTS = {"ansible_facts", "exception", "failed", "invocation", "results", "skipped", "unreachable"}


@pytest.mark.parametrize("name", MODULES)
def test_no_result_has_a_name_of_ansible(name: str) -> None:
    documented = yaml.safe_load(importlib.import_module(f"ansible.modules.{name}").RETURN) or {}
    assert sorted(RESERVED_RESULTS & documented.keys()) == []
