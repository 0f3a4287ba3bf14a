"""Rooms of module_utils/tensorflow_stack: which may import which, what a pure one leaves alone, how long a file is."""

from __future__ import annotations

import ast
import collections
import re
from collections.abc import Iterator
from pathlib import Path

import make_docs
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STACK = REPOSITORY / "module_utils" / "tensorflow_stack"
ROLES = REPOSITORY / "roles"

# Beside `errors`, which everybody may import, and itself. What a room is for says its docstring.
MAY_IMPORT = {
    "io": set(),
    "records": {"io"},
    # The environments of a node are looked at, file by file, only where somebody added to one.
    "node": {"environment", "io", "records"},
    "tables": set(),
    "requirements": set(),
    "locking": {"io", "records", "requirements", "tables"},
    "planning": {"locking", "records", "requirements", "screen", "tables"},
    "environment": {"io", "records"},
    "check": {"check.child", "environment", "io", "node", "records"},
    "check.child": set(),
    "packages": {"io", "records"},
    "repositories": {"io"},
    "kernel": {"io", "node"},
    "archives": {"io", "records"},
    "fleet": {"io", "records"},
    "bundle": {"io", "packages", "records", "repositories", "tables"},
    "issue": {"environment", "io"},
    "health": {"boundary", "check", "environment", "io", "records"},
    "boundary": {"io"},
    "report": {"io"},
    "screen": set(),
    "variables": set(),
}
# The files of a pure room that may read or start something.
DOORS = {"planning/door.py", "planning/locks.py"}
PURE = {"planning"}
# Files of other rooms that are as pure.
PURE_FILES = {
    "issue/redact.py",
    "archives/manifest.py",
    "bundle/apt.py",
    "bundle/dnf.py",
    "bundle/manifest.py",
    "bundle/needs.py",
    "bundle/rpm_versions.py",
    "check/line_search.py",
    "check/expected_gpus.py",
    "check/log_judge.py",
    "check/log_unwrap.py",
    "check/report.py",
    "check/verdicts.py",
    "fleet/advice.py",
    "fleet/decision.py",
    "fleet/entries.py",
    "fleet/exports.py",
    "fleet/summary.py",
    "health/findings.py",
    "kernel/texts.py",
    "locking/added.py",
    "locking/clashes.py",
    "locking/conflicts.py",
    "locking/inputs.py",
    "node/texts.py",
    "packages/closure.py",
    "packages/debian.py",
    "packages/model.py",
    "packages/rules.py",
    "packages/versionlock.py",
    "records/component.py",
    "records/environment.py",
    "records/evidence.py",
    "records/gpus.py",
    "records/libraries.py",
    "repositories/apt_sources.py",
    "repositories/openpgp.py",
    "repositories/yum_repos.py",
    "tables/node_rows.py",
    "tables/releases.py",
    "tables/rows.py",
}
# Nothing of the standard library that touches the machine, or asks what time it is.
IMPURE = {"ctypes", "datetime", "fcntl", "glob", "http", "io", "pathlib", "shutil", "socket", "subprocess", "tempfile"}
IMPURE |= {"time", "urllib.error", "urllib.request"}
# All that a pure file may take of os: what joins and parts names.
PURE_OF_OS = {"path", "path.basename", "path.dirname", "path.isabs", "path.join", "path.split", "path.splitext"}
# Modules by which a program is started, a socket opened or a file locked: `io` has the one way of each. Elsewhere with
# the reason.
ONLY_IO = {"fcntl", "http", "socket", "subprocess", "urllib.error", "urllib.request"}
BESIDE_IO = {
    "check/child/libraries.py": "the check's child imports nothing of this toolkit",
    "locking/wheel_files.py": "zipfile reads from a server by it, and errors of the server are told apart",
    "packages/dpkg_lock.py": "dpkg's lock is of another kind than those that this toolkit makes",
}
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60
FILES = sorted(path for path in STACK.rglob("*.py") if path.name != "__init__.py")


def name_of(path: Path) -> str:
    return path.relative_to(STACK).as_posix()


def room_of(path: Path) -> str:
    """`check.child` for check/child/main.py; a file beside the rooms is one of its own."""
    parts = path.relative_to(STACK).with_suffix("").parts
    return ".".join(parts[:-1]) or parts[0]


def imported_rooms(path: Path) -> set[str]:
    """Of every relative import, wherever it stands."""
    package = path.relative_to(STACK).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            inside = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                target = STACK.joinpath(*inside, alias.name)
                is_module = target.with_suffix(".py").exists() or target.is_dir()
                found.add(room_of((target if is_module else STACK.joinpath(*inside)).with_suffix(".py")))
    return found


def test_every_room_says_what_it_is_for_and_is_in_the_table() -> None:
    rooms = {room_of(path) for path in FILES} - {"errors"}
    assert rooms == MAY_IMPORT.keys()
    inits = [path for path in STACK.rglob("__init__.py") if path.parent != STACK]
    assert [path for path in inits if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


def test_the_architecture_page_has_the_table() -> None:
    page = (STACK.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = {
        room: set(re.findall("`([a-z.]+)`", imports))
        for room, imports in re.findall(r"^\| `([a-z.]+)` \| .* \| \w+ \|(.*)\|$", page, re.MULTILINE)
    }
    assert shown == {
        room: others for room, others in MAY_IMPORT.items() if room not in ("boundary", "report", "screen", "variables")
    }


def test_every_file_that_the_architecture_page_names_is_there() -> None:
    page = (STACK.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| \.\.\. .* \| `\.\.\./([a-z_/]+\.py)` \|$", page, re.MULTILINE)
    assert len(named) == 8
    assert [name for name in named if not (STACK / name).exists()] == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_what_it_may(path: Path) -> None:
    room = room_of(path)
    if room != "errors":
        assert imported_rooms(path) - {room, "errors"} <= MAY_IMPORT[room]


def test_nothing_is_imported_in_a_circle() -> None:
    """Rooms can be told apart only if there is an order in which they stand on one another."""
    waiting = {room: set(others) for room, others in MAY_IMPORT.items()}
    while waiting:
        ground = [room for room, others in waiting.items() if not others & waiting.keys()]
        assert ground, f"in a circle: {sorted(waiting)}"
        for room in ground:
            del waiting[room]


def imported_modules(path: Path) -> set[str]:
    """By absolute imports, wherever they are."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {
        *(alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names),
        *(str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level),
    }
    return named


def touched(path: Path) -> set[str]:
    """What a file imports or calls that reads, writes or starts something."""
    found = {name for name in imported_modules(path) if name in IMPURE or name.partition(".")[0] in IMPURE}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("os."):
            name = ast.unparse(node)[len("os.") :]
            found |= {f"os.{name}"} - {f"os.{pure}" for pure in PURE_OF_OS}
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "open":
            found.add("open")
    return found


@pytest.mark.parametrize(
    "path", [path for path in FILES if room_of(path) in PURE or name_of(path) in PURE_FILES], ids=name_of
)
def test_what_is_pure_touches_nothing(path: Path) -> None:
    if name_of(path) not in DOORS:
        assert touched(path) == set()


def test_the_checker_sees_what_touches_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "impure.py"
    path.write_text("import os\nimport urllib.request\nos.path.join('a', 'b')\nos.path.realpath('a')\nopen('a')\n")
    assert touched(path) == {"urllib.request", "os.path.realpath", "open"}
    assert PURE_FILES - {name_of(file) for file in FILES} == set()


def test_a_class_has_a_name_of_its_own() -> None:
    """So that a reader, a search and an error message mean one thing by it."""
    rooms = collections.defaultdict(list)
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                rooms[node.name].append(name_of(path))
    assert {name: files for name, files in rooms.items() if len(files) > 1} == {}


def test_io_names_no_variable_of_an_inventory() -> None:
    """What can be set says its caller, who knows what it is for."""
    variables = set(make_docs.inventory_variables(path.parents[1] for path in ROLES.glob("*/meta/argument_specs.yml")))
    assert "tensorflow_root" in variables
    named = {
        name_of(path): variables & set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
        for path in FILES
        if room_of(path) == "io"
    }
    # uv is run for one purpose, on one index.
    assert {name: found for name, found in named.items() if found} == {"io/uv.py": {"tensorflow_index_url"}}


def test_only_io_starts_programs_opens_sockets_and_locks_files() -> None:
    found = {name_of(path) for path in FILES if room_of(path) != "io" and imported_modules(path) & ONLY_IO}
    assert found == BESIDE_IO.keys()


# --- Python 3.7 -------------------------------------------------------------------------------------

ON_NODES = {
    "archives",
    "boundary",
    "check",
    "environment",
    "health",
    "io",
    "issue",
    "kernel",
    "node",
    "packages",
    "records",
    "repositories",
}
_GENERIC_SINCE_3_9 = {"dict", "frozenset", "list", "set", "tuple", "type"}


def evaluated(tree: ast.AST) -> Iterator[ast.AST]:
    """All but annotations, which stay texts."""
    for name, value in ast.iter_fields(tree):
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST) and name not in ("annotation", "returns"):
                yield node
                yield from evaluated(node)


def too_new(path: Path) -> list[str]:
    """Types that Python 3.7 and 3.8 cannot subscript: they have them in `typing` alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    abstract = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "collections.abc"
        for alias in node.names
    }
    subscripts = [node.value for node in evaluated(tree) if isinstance(node, ast.Subscript)]
    names = [node.id for node in subscripts if isinstance(node, ast.Name)]
    return [name for name in names if name in abstract | _GENERIC_SINCE_3_9]


@pytest.mark.parametrize("path", [path for path in FILES if room_of(path) in ON_NODES], ids=name_of)
def test_what_runs_on_a_node_is_imported_by_python_3_7(path: Path) -> None:
    assert too_new(path) == []


# --- Sizes ------------------------------------------------------------------------------------------


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{name_of(path)}:{node.name}", (node.end_lineno or 0) - node.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_can_be_read_at_a_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    assert [name for name, lines in functions(path) if lines > MOST_LINES_OF_A_FUNCTION] == []
