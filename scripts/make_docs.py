#!/usr/bin/env python3
"""Fill the generated parts of the READMEs from argument specifications, tables and code.

With --check it writes nothing, names what is stale, and ends with 1 if there is any.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, nodes
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "module_utils"))

from tensorflow_stack.probe import VERDICTS  # noqa: E402  # found by the line above
from tensorflow_stack.tables import load_tables  # noqa: E402

ROLES = REPOSITORY / "roles"
RELEASE_FILES = ROLES / "tensorflow_release" / "files"
# A variable that several roles take is described by the first of these.
FIRST_ROLES = ("tensorflow_release", "tensorflow_venv")

PART = re.compile(r"(?P<begin><!-- begin (?P<name>\w+), by scripts/make_docs.py -->\n).*?(?P<end><!-- end -->)", re.S)


def specification(role: Path) -> dict[str, dict[str, Any]]:
    """The options of a role's entry point by name."""
    content = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    options: dict[str, dict[str, Any]] = content["argument_specs"]["main"]["options"]
    return options


def inventory_variable(default: object) -> tuple[str, object] | None:
    """Name and default of the variable that a default of the form `{{ name | default(...) }}` takes over."""
    if not isinstance(default, str):
        return None
    match Environment().parse(default).body:
        case [nodes.Output(nodes=[nodes.Filter(node=nodes.Name(name=name), name="default", args=[value, *_])])]:
            return name, value.as_const()
    return None


def inventory_variables(roles: Iterable[Path]) -> dict[str, tuple[object, str, list[str]]]:
    """Default, description and roles of each variable that an inventory sets for all roles together."""
    roles = sorted(roles, key=lambda role: (role.name not in FIRST_ROLES, role.name))
    found: dict[str, tuple[object, str, list[str]]] = {}
    for role in roles:
        for option in specification(role).values():
            variable = inventory_variable(option.get("default"))
            # The result of a role is passed on by the play, not set by an inventory.
            if variable and not variable[0].endswith("_result"):
                name, default = variable
                found.setdefault(name, (default, _description(option), []))[2].append(role.name)
    return found


def variables(role: Path) -> str:
    """The table of a role's variables."""
    rows = []
    for name, option in specification(role).items():
        variable = inventory_variable(option.get("default"))
        if option.get("required"):
            default = "required"
        elif variable:
            default = f"`{variable[0]}`, else {_value(variable[1])}"
        else:
            default = _value(option.get("default"))
        choices = ", ".join(f"`{choice}`" for choice in option.get("choices", ()))
        meaning = _description(option) + (f" One of {choices}." if choices else "")
        rows.append((f"`{name}`", option.get("type", "str"), default, meaning))
    return _table(("variable", "type", "default", "meaning"), rows)


def inventory() -> str:
    """The table of the variables that an inventory sets."""
    rows = [
        (f"`{name}`", _value(default), meaning, ", ".join(f"[{role}](roles/{role}/README.md)" for role in roles))
        for name, (default, meaning, roles) in inventory_variables(_roles()).items()
    ]
    return _table(("variable", "default", "meaning", "taken by"), rows)


def releases() -> str:
    """The table of supported releases: the newest patch of each minor."""
    tables = load_tables(str(RELEASE_FILES / "tables"))
    newest = {Version(row.version).release[:2]: row for row in tables.releases}
    locked: dict[tuple[int, ...], list[str]] = {}
    for version in sorted((path.name.partition("-")[2] for path in (RELEASE_FILES / "locks").iterdir()), key=Version):
        locked.setdefault(Version(version).release[:2], []).append(version)
    rows = []
    for minor, row in reversed(newest.items()):
        wheels = tables.cuda_wheels_for(row.version)
        pythons = row.pythons.get("x86_64", ())
        rows.append(
            (
                row.version,
                f"{pythons[0]} to {pythons[-1]}",
                f"{row.cuda}, {row.cudnn}",
                f"{wheels.cuda}, {wheels.cudnn}" if wheels else "none",
                " ".join(row.gpu_code) if row.gpu_code else "not known",
                "CPU" if row.pythons.get("aarch64") else "none",
                ", ".join(locked.get(minor, [])) or "none",
            )
        )
    titles = ("newest", "Python", "CUDA, cuDNN of its build", "as wheels", "GPU code", "aarch64", "locks shipped for")
    return _table(titles, rows)


def verdicts() -> str:
    """The table of the check's verdicts."""
    return _table(("verdict", "meaning"), [(f"`{name}`", meaning) for name, meaning in VERDICTS.items()])


def fill(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """The text with each marked part made anew. Raises ValueError unless exactly these parts are marked."""
    marked = [match["name"] for match in PART.finditer(text)]
    if sorted(marked) != sorted(parts):
        raise ValueError(f"marked parts are {', '.join(marked) or 'none'}, not {', '.join(parts)}")
    return PART.sub(lambda match: match["begin"] + parts[match["name"]]() + match["end"], text)


def documents() -> dict[Path, dict[str, Callable[[], str]]]:
    """Every file with generated parts, and what makes each part."""
    found: dict[Path, dict[str, Callable[[], str]]] = {
        REPOSITORY / "README.md": {"inventory": inventory, "releases": releases, "verdicts": verdicts}
    }
    for role in _roles():
        found[role / "README.md"] = {"variables": functools.partial(variables, role)}
    return found


def _roles() -> list[Path]:
    return sorted(path for path in ROLES.iterdir() if (path / "meta" / "argument_specs.yml").is_file())


def _description(option: Mapping[str, Any]) -> str:
    description = option["description"]
    return " ".join((description if isinstance(description, str) else " ".join(description)).split())


def _value(value: object) -> str:
    if value == "":
        return "empty"
    return f"`{' '.join(value.split()) if isinstance(value, str) else json.dumps(value)}`"


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *(tuple(map(_cell, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    """Text in a table of Markdown: a bar would end the cell, and `<name>` outside of code be taken for HTML."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if anything is stale")
    arguments = parser.parse_args()
    stale = 0
    for path, parts in documents().items():
        name = path.relative_to(REPOSITORY)
        before = path.read_text(encoding="utf-8")
        try:
            after = fill(before, parts)
        except ValueError as error:
            raise SystemExit(f"{name}: {error}") from error
        if after == before:
            continue
        stale += 1
        if not arguments.check:
            path.write_text(after, encoding="utf-8")
        print(f"{name} is stale: run scripts/make_docs.py" if arguments.check else f"{name} written")
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
