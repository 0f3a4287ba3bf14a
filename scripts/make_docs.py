#!/usr/bin/env python3
"""Fill the generated parts of the documentation from argument specifications, tables and code, and write the list of
variables that make and the playbooks know.

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

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "module_utils"))

import release_docs  # noqa: E402  # beside this
import support_docs  # noqa: E402
from markdown_tables import outside_code, table  # noqa: E402
from tensorflow_stack.check.diagnose import FACTS, KINDS  # noqa: E402  # found by the line above
from tensorflow_stack.check.verdicts import VERDICTS  # noqa: E402
from tensorflow_stack.tables.load import load_tables  # noqa: E402

ROLES = REPOSITORY / "roles"
PLAYBOOKS = REPOSITORY / "playbooks"
RELEASE_FILES = ROLES / "tensorflow_release" / "files"
# A variable that several roles take is described by the first of these.
FIRST_ROLES = ("tensorflow_release", "tensorflow_venv")
# What a play sets for all roles, beside their results.
PLAY_VARIABLES = ("stack_plan", "stack_repository_pending", "stack_parts")

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
            # Of a bundle, if there is one; else what the table shows.
            shown = value.expr2 if isinstance(value, nodes.CondExpr) and value.expr2 else value
            return name, shown.as_const()
    return None


def inventory_variables(roles: Iterable[Path]) -> dict[str, tuple[object, str, list[str]]]:
    """Default, description and roles of each variable that an inventory sets for all roles together."""
    roles = sorted(roles, key=lambda role: (role.name not in FIRST_ROLES, role.name))
    found: dict[str, tuple[object, str, list[str]]] = {}
    for role in roles:
        for option in specification(role).values():
            variable = inventory_variable(option.get("default"))
            if variable and not _is_of_the_play(variable[0]):
                name, default = variable
                found.setdefault(name, (default, _description(option), []))[2].append(role.name)
    return found


def _is_of_the_play(name: str) -> bool:
    """Is it what a play passes on from one role to others, and no inventory sets?"""
    return name.endswith("_result") or name in PLAY_VARIABLES


def known_variables() -> str:
    """playbooks/variables.json: every variable that an inventory or make may set, and what its value has to be."""
    found: dict[str, dict[str, Any]] = {}
    for role in _roles():
        for name, option in specification(role).items():
            variable = inventory_variable(option.get("default"))
            for known in [name, *([variable[0]] if variable and not _is_of_the_play(variable[0]) else [])]:
                found[known] = _kind(option)
    playbooks = yaml.safe_load((PLAYBOOKS / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    for playbook, content in playbooks["argument_specs"].items():
        for name, option in content["options"].items():
            found[name] = {**_kind(option), "playbook": playbook}
    rows = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(found.items())]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _kind(option: Mapping[str, Any]) -> dict[str, Any]:
    choices = {"choices": option["choices"]} if "choices" in option else {}
    return {"type": option.get("type", "str"), **choices}


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
    return table(("variable", "type", "default", "meaning"), rows)


def inventory() -> str:
    """The table of the variables that an inventory sets."""
    rows = [
        (f"`{name}`", _value(default), meaning, ", ".join(f"[{role}](../roles/{role}/README.md)" for role in roles))
        for name, (default, meaning, roles) in inventory_variables(_roles()).items()
    ]
    return table(("variable", "default", "meaning", "taken by"), rows)


def diagnoses() -> str:
    """The causes, each with what to do and its evidence."""
    lines = []
    for row in load_tables(str(RELEASE_FILES / "tables")).diagnoses:
        lines += [f"### {row.cause}", "", f"{_plain(row.says)} {_plain(row.do)}", ""]
        for kind, do in sorted(row.do_on.items()):
            lines += [f"{KINDS[kind]}: {_plain(do)}", ""]
        lines += ["Evidence:", ""]
        for evidence in row.evidence:
            if "line" in evidence:
                lines.append(f"- {evidence['by']}: `{_readable(evidence['line'])}`")
            else:
                told = [f"{FACTS[name]}{'' if holds else ': none'}" for name, holds in evidence["facts"].items()]
                lines.append(f"- the node: {'; '.join(told)}")
        lines.append("")
        if row.explains:
            lines += [f"It explains: {', '.join(f'[{cause}](#{cause})' for cause in row.explains)}", ""]
        if row.report:
            lines += [f"Reported, for example, in <{row.report['url']}> ({row.report['date']}).", ""]
    return "\n".join(lines[:-1]) + "\n"


def _plain(text: str) -> str:
    """Placeholders as words, and parts that are left out if nothing is known as if all of it were."""
    text = re.sub(r"\[([^\[\]]*)\]", r"\1", text)
    return outside_code(re.sub(r"\{(\w+)\}", lambda match: f"<{match[1].replace('_', ' ')}>", text))


def _readable(pattern: str) -> str:
    """A regular expression without what only a computer needs: names of groups, and escapes of signs."""
    pattern = re.sub(r"\(\?P<\w+>|\(\?:", "(", pattern)
    return re.sub(r"\\([^\w\s])", r"\1", pattern)


def node_kinds() -> str:
    """What tells each kind of node, and what follows."""
    drivers = {
        "own": "installed and changed",
        "libraries": "kept; its libraries are installed if they are missing, at the version of the loaded module",
        "kept": "kept if it is good enough, else refused",
    }
    rows = load_tables(str(RELEASE_FILES / "tables")).node_kinds
    return table(
        ("kind", "recognised by", "driver", "packages", "instead of changing the driver"),
        [
            (
                row.name,
                row.recognised_by,
                drivers[row.driver],
                "no" if row.packages == "none" else "yes",
                f"{row.instead}.",
            )
            for row in rows
        ],
    )


def verdicts() -> str:
    """The table of the check's verdicts."""
    return table(("verdict", "meaning"), [(f"`{name}`", meaning) for name, meaning in VERDICTS.items()])


def fill(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """The text with each marked part made anew. Raises ValueError unless exactly these parts are marked."""
    marked = [match["name"] for match in PART.finditer(text)]
    if sorted(marked) != sorted(parts):
        raise ValueError(f"marked parts are {', '.join(marked) or 'none'}, not {', '.join(parts)}")
    return PART.sub(lambda match: match["begin"] + parts[match["name"]]() + match["end"], text)


def documents() -> dict[Path, dict[str, Callable[[], str]]]:
    """Every file with generated parts, and what makes each part."""
    found: dict[Path, dict[str, Callable[[], str]]] = {
        REPOSITORY / "README.md": {"releases": release_docs.releases},
        REPOSITORY / "docs" / "check.md": {"verdicts": verdicts},
        REPOSITORY / "docs" / "compatibility.md": {
            "every_release": release_docs.every_release,
            "gpu_proofs": release_docs.gpu_proofs,
            "companions": release_docs.companions,
            "kernels": release_docs.kernels,
            "known_breaks": release_docs.known_breaks,
            "from_source": release_docs.from_source,
        },
        REPOSITORY / "docs" / "nodes.md": {"node_kinds": node_kinds},
        REPOSITORY / "docs" / "support.md": {"cores": support_docs.cores, "distributions": support_docs.distributions},
        REPOSITORY / "docs" / "variables.md": {"inventory": inventory},
        REPOSITORY / "docs" / "troubleshooting.md": {"diagnoses": diagnoses},
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if anything is stale")
    arguments = parser.parse_args()
    stale = 0
    made = {PLAYBOOKS / "variables.json": known_variables()}
    for path, parts in documents().items():
        try:
            made[path] = fill(path.read_text(encoding="utf-8"), parts)
        except ValueError as error:
            raise SystemExit(f"{path.relative_to(REPOSITORY)}: {error}") from error
    for path, after in made.items():
        name = path.relative_to(REPOSITORY)
        if path.is_file() and path.read_text(encoding="utf-8") == after:
            continue
        stale += 1
        if not arguments.check:
            path.write_text(after, encoding="utf-8")
        print(f"{name} is stale: run scripts/make_docs.py" if arguments.check else f"{name} written")
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
