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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, nodes
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "module_utils"))

from tensorflow_stack.check.diagnose import FACTS, KINDS  # noqa: E402  # found by the line above
from tensorflow_stack.check.verdicts import VERDICTS  # noqa: E402
from tensorflow_stack.records.lockfile import Lock, lock_path, read_lock  # noqa: E402  # found by the line above
from tensorflow_stack.tables.load import Tables, load_tables  # noqa: E402
from tensorflow_stack.tables.rows import Release  # noqa: E402

ROLES = REPOSITORY / "roles"
PLAYBOOKS = REPOSITORY / "playbooks"
RELEASE_FILES = ROLES / "tensorflow_release" / "files"
# A variable that several roles take is described by the first of these.
FIRST_ROLES = ("tensorflow_release", "tensorflow_venv")
# What a play sets for all roles, beside their results.
PLAY_VARIABLES = ("stack_plan", "stack_repository_pending")

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
    return _table(("variable", "type", "default", "meaning"), rows)


def inventory() -> str:
    """The table of the variables that an inventory sets."""
    rows = [
        (f"`{name}`", _value(default), meaning, ", ".join(f"[{role}](roles/{role}/README.md)" for role in roles))
        for name, (default, meaning, roles) in inventory_variables(_roles()).items()
    ]
    return _table(("variable", "default", "meaning", "taken by"), rows)


def releases() -> str:
    """The table of the newest patch of each minor."""
    tables = load_tables(str(RELEASE_FILES / "tables"))
    newest = {Version(row.version).release[:2]: row for row in tables.releases}
    rows = []
    for row in reversed(newest.values()):
        wheels = tables.cuda_wheels_for(row.version)
        rows.append(
            (
                row.version,
                _span(row.pythons.get("x86_64", ())),
                f"{row.cuda}, {row.cudnn}",
                f"{wheels.cuda}, {wheels.cudnn}" if wheels else "none",
                " ".join(row.gpu_code) if row.gpu_code else "not known",
                "CPU" if row.pythons.get("aarch64") else "none",
                ", ".join(_proven(tables, row)) or "no",
                _seen_on(tables, row),
            )
        )
    titles = (
        *("newest", "Python", "CUDA, cuDNN of its build", "as wheels", "GPU code", "aarch64", "proven on Python"),
        "seen computing on",
    )
    return _table(titles, rows)


def every_release() -> str:
    """The table of all releases, with what there is of each and what of it was proven."""
    tables = load_tables(str(RELEASE_FILES / "tables"))
    dates = {proof.release: proof.date for proof in tables.proofs}
    rows = []
    for row in reversed(tables.releases):
        wheels = tables.cuda_wheels_for(row.version)
        cuda = tables.cuda_driver(wheels.cuda if wheels else row.cuda)
        proven = _proven(tables, row)
        rows.append(
            (
                row.version,
                f"{row.cuda}, {row.cudnn}",
                f"{wheels.cuda}, {wheels.cudnn}" if wheels else "none",
                cuda.minor_compatibility_driver or cuda.driver,
                *(
                    ", ".join(_locked(row, f"linux_{architecture}", flavour)) or "none"
                    for architecture, flavour in (("x86_64", "cpu"), ("x86_64", "cuda"), ("aarch64", "cpu"))
                ),
                f"{', '.join(proven)} ({dates[row.version]})" if proven else "no",
            )
        )
    locks = ("locks, CPU", "locks, CUDA wheels", "locks, aarch64")
    return _table(("release", "CUDA, cuDNN of its build", "as wheels", "driver from", *locks, "proven on Python"), rows)


def gpu_proofs() -> str:
    """The table of what computed on real GPUs."""
    rows = [
        (p.release, p.gpu, p.driver, p.cuda, p.cudnn, p.python, f"{len(p.verdicts)} of {len(p.verdicts)}",
         f"{p.seconds} s", p.date)
        for p in reversed(load_tables(str(RELEASE_FILES / "tables")).gpu_proofs)
    ]  # fmt: skip
    titles = ("release", "GPU", "driver", "CUDA", "cuDNN", "Python", "cases as expected", "first check", "date")
    return _table(titles, rows)


def companions() -> str:
    """The table of companions that were used with each release: release by companion, each cell a version."""
    proofs = load_tables(str(RELEASE_FILES / "tables")).companion_proofs
    projects = sorted({proof.project for proof in proofs})
    versions = {(proof.release, proof.python, proof.project): proof.version for proof in proofs}
    targets = list(dict.fromkeys((proof.release, proof.python) for proof in reversed(proofs)))
    rows = [(*target, *(versions.get((*target, project), "none") for project in projects)) for target in targets]
    return _table(("release", "Python", *projects), rows)


def kernels() -> str:
    """The table of the kinds of kernels of each release."""
    tables = load_tables(str(RELEASE_FILES / "tables"))
    rows = []
    for row in reversed(tables.kernels):
        for kernel in row.kernels:
            ptx = kernel["ptx"]
            driver = tables.driver_for_ptx(ptx["version"])
            machine_code = " ".join(kernel["machine_code"])
            rows.append(
                (
                    f"`{row.releases}`",
                    f"{kernel['count']:,}",
                    machine_code,
                    f"{ptx['version']}, {ptx['target']}",
                    driver,
                )
            )
    return _table(("releases", "kernels", "machine code", "PTX", "driver"), rows)


def known_breaks() -> str:
    """The table of what releases need beyond their metadata."""
    tables = load_tables(str(RELEASE_FILES / "tables"))
    kinds = {"constraint": "limit", "add": "addition"}
    rows = [(f"`{c.releases}`", f"`{c.requirement}`", kinds[c.kind], f"`{c.symptom}`") for c in tables.constraints]
    return _table(("releases", "requirement", "kind", "error without it"), rows)


def from_source() -> str:
    """The table of projects that have no wheel."""
    tables = load_tables(str(RELEASE_FILES / "tables"))
    return _table(
        ("releases", "project"), [(f"`{s.releases}`", f"`{s.requirement}`") for s in tables.source_distributions]
    )


def _lock(row: Release, python: str, platform: str, flavour: str) -> Lock | None:
    locks = str(RELEASE_FILES / "locks")
    return read_lock(lock_path(locks, release=row.version, python=python, platform=platform, flavour=flavour))


def _locked(row: Release, platform: str, flavour: str) -> list[str]:
    """The Pythons that there is a lock for."""
    pythons = row.pythons.get(platform.partition("_")[2], ())
    return [python for python in pythons if _lock(row, python, platform, flavour)]


def _proven(tables: Tables, row: Release) -> list[str]:
    """The Pythons on which today's lock was proven; a lock that changed since is not."""
    found = []
    for proof in tables.proofs:
        lock = _lock(row, proof.python, "linux_x86_64", proof.flavour) if proof.release == row.version else None
        if lock and lock.sha256 == proof.lock_sha256:
            found.append(proof.python + (" with CUDA" if proof.flavour == "cuda" else ""))
    return found


def _seen_on(tables: Tables, row: Release) -> str:
    """The GPUs on which a patch of the release's minor computed; which patch, if it was another one."""
    minor = Version(row.version).release[:2]
    seen = []
    for proof in tables.gpu_proofs:
        if Version(proof.release).release[:2] == minor:
            which = "" if proof.release == row.version else f" ({proof.release})"
            seen.append(f"{proof.gpu.replace('NVIDIA ', '')}{which}")
    return ", ".join(dict.fromkeys(seen)) or "none yet"


def _span(versions: Sequence[str]) -> str:
    return f"{versions[0]} to {versions[-1]}" if versions else "none"


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
    return _outside_code(re.sub(r"\{(\w+)\}", lambda match: f"<{match[1].replace('_', ' ')}>", text))


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
    return _table(
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
        REPOSITORY / "README.md": {"inventory": inventory, "releases": releases, "verdicts": verdicts},
        REPOSITORY / "docs" / "compatibility.md": {
            "every_release": every_release,
            "gpu_proofs": gpu_proofs,
            "companions": companions,
            "kernels": kernels,
            "known_breaks": known_breaks,
            "from_source": from_source,
        },
        REPOSITORY / "docs" / "nodes.md": {"node_kinds": node_kinds},
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


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *(tuple(map(_cell, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    """Text in a table of Markdown: a bar would end the cell, and `<name>` outside of code be taken for HTML."""
    return _outside_code(text.replace("|", "\\|"))


def _outside_code(text: str) -> str:
    """`<name>` outside of code would be taken for HTML."""
    parts = text.split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


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
