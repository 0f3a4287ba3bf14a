#!/usr/bin/env python3
"""Build the Galaxy collection from this checkout, whose files stay as they are; what differs is rewritten here.

    .venv/bin/python scripts/make_collection.py --output dist
    .venv/bin/python scripts/make_collection.py --release 1.0.0     refuse what is not ready to publish

The name, version and metadata are those of collection/galaxy.yml.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "module_utils"), str(REPOSITORY / "scripts")]

import check_changes  # noqa: E402  # found by the line above
import make_docs  # noqa: E402
from run_playbook import VARIABLES  # noqa: E402

METADATA = REPOSITORY / "collection"
GALAXY: dict[str, Any] = yaml.safe_load((METADATA / "galaxy.yml").read_text(encoding="utf-8"))
COLLECTION = f"{GALAXY['namespace']}.{GALAXY['name']}"
# Each names where this is published. Until then it has placeholders, so that nothing looks real and is not.
PUBLISHED = ("collection/galaxy.yml", ".github/CODEOWNERS", ".github/ISSUE_TEMPLATE/config.yml")
PLACEHOLDER = r"(?<!\w)(?:@OWNER/|OWNER/REPOSITORY\b)"
# From, and to in the collection. Links are followed but for those among the playbooks.
PLACES = (
    ("library", "plugins/modules"),
    ("action_plugins", "plugins/action"),
    ("callback_plugins", "plugins/callback"),
    ("module_utils", "plugins/module_utils"),
    ("roles", "roles"),
    ("playbooks", "playbooks"),
    ("inventories/example_fleet", "inventories/example_fleet"),
    ("requirements/controller.txt", "requirements/controller.txt"),
    ("changelogs/changelog.yaml", "changelogs/changelog.yaml"),
    ("changelogs/config.yaml", "changelogs/config.yaml"),
    ("CHANGELOG.md", "CHANGELOG.md"),
    ("LICENSE", "LICENSE"),
    ("docs/use.md", "docs/use.md"),
    ("docs/support.md", "docs/support.md"),
    ("collection", "."),
)
# Scenarios and test hosts stay behind; the links of playbooks lead to what a collection has under its own name.
LEFT_OUT = ("molecule", "__pycache__", "*.pyc", ".gitignore")
# Loaded from next to a playbook without being enabled, as in a checkout. The screen is for whoever chooses it.
LINKS = {
    f"playbooks/callback_plugins/{name}": f"../../plugins/callback/{name}"
    for name in ("fleet_summary.py", "stack_progress.py")
}

# What a checkout writes next to itself. An installed collection may be read-only, and belongs to no project.
WORKING_DIRECTORY = (
    ("{{ playbook_dir }}/../reports", "{{ 'reports' | realpath }}"),
    ("{{ (role_path ~ '/../../reports') | normpath }}", "{{ 'reports' | realpath }}"),
    ("playbook_dir ~ '/../reports'", "'reports' | realpath"),
    ("playbook_dir ~ '/../bundle'", "'bundle' | realpath"),
    ("playbook_dir ~ '/..' if inventory_dir", "'.' | realpath if inventory_dir"),
    ("{{ (role_path ~ '/../../.tools') | normpath }}", "{{ '~/.cache/tensorflow_gpu_stack' | expanduser }}"),
    ('"{{ playbook_dir }}/../.tools"', "\"{{ '~/.cache/tensorflow_gpu_stack' | expanduser }}\""),
    ("Make the directory reports of the checkout writable, or use '", "Make the directory reports writable, or use '"),
    ("~ 'a checkout of your own.'", "~ 'another working directory.'"),
)
MODULES = sorted(path.stem for path in (REPOSITORY / "library").glob("*.py"))
ROLES = sorted(path.name for path in (REPOSITORY / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted(path.stem for path in (REPOSITORY / "playbooks").glob("*.yml"))
SETS = {variable.name: variable.sets for variable in VARIABLES if variable.sets}

_ANY_MODULE = "|".join(MODULES)
_ANY_ROLE = "|".join(ROLES)
_ANY_PLAYBOOK = "|".join(PLAYBOOKS)
_TASK = re.compile(rf"^(?P<before>\s*(?:- )?)(?P<name>{_ANY_MODULE})(?=:(?:\s|$))", re.MULTILINE)
_ROLE = re.compile(
    r"(?P<before>(?:import|include)_role:\n\s+name: )"
    rf"(?P<quote>\"?)(?P<name>{_ANY_ROLE}|{{{{ \w+ }}}})(?P=quote)$",
    re.MULTILINE,
)
_STARTED = re.compile(rf'(?P<before>_execute_module\(\s*")(?P<name>{_ANY_MODULE})(?=")')
_SEEN_ALSO = re.compile(rf"(?P<before>^\s+- module: |\b(?:M|O|RV)\()(?P<name>{_ANY_MODULE})\b", re.MULTILINE)
# A lock is the same whoever makes it.
_PLAYBOOK = re.compile(
    rf'(?<!made by: )(?<!created-by = ")(?:\.venv/bin/(?=ansible-playbook))?(?P<command>ansible-playbook )?'
    rf"(?:-i inventories/workstation )?\bplaybooks/(?P<name>{_ANY_PLAYBOOK})\.yml"
)
_MAKE = re.compile(rf"\bmake (?P<name>{_ANY_PLAYBOOK})\b(?P<given>(?: [A-Z_]+=(?:\\?\"[^\"]*\"|[^\s,;)`'\"]*))*)(?!-)")
_GIVEN = re.compile(r" (?P<name>[A-Z_]+)=(?:(?P<quote>\\?\")(?P<quoted>[^\"\\]*)\\?\"|(?P<plain>\S*))")
_HINT = re.compile(r" \(make: [A-Z]+=\)")
# Ansible makes no directory for what a task copies. That of a checkout exists.
_SAVED = re.compile(r"^(?P<indent> +)- name: Save the \w+ as JSON\n", re.MULTILINE)
_MADE = """\
- name: Make the directory of reports
  ansible.builtin.file:
    path: "{{ 'reports' | realpath }}"
    state: directory
    mode: "0755"
  delegate_to: localhost
  become: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  check_mode: false
  changed_when: false
  # The next task says that it cannot write there.
  failed_when: false

"""
_RETURN = re.compile(r'(?<=^RETURN = r""")\n(?P<text>.*?)(?=^""")', re.MULTILINE | re.DOTALL)
_EXAMPLES = re.compile(r'(?<=^EXAMPLES = r""")(?P<text>.*?)(?=^""")', re.MULTILINE | re.DOTALL)


def translate(path: str, text: str) -> str:
    """A file of the checkout, by its path in the collection, as the collection has it."""
    if path.startswith("roles/tensorflow_release/files/"):
        # The rest is data.
        return translate_commands(text) if path.endswith("/diagnoses.yml") else text
    if path.startswith(("playbooks/", "roles/", "inventories/")) and path.endswith(".yml"):
        text = translate_tasks(text)
        text = _SAVED.sub(lambda match: textwrap.indent(_MADE, match["indent"]) + match[0], text)
        if path.endswith("meta/argument_specs.yml"):
            text = translate_specification(text)
    elif path.startswith("plugins/") and path.endswith(".py"):
        text = _EXAMPLES.sub(lambda match: translate_tasks(match["text"]), text)
        text = _RETURN.sub(lambda match: "\n" + translate_returned(match["text"]), text)
        text = _SEEN_ALSO.sub(_named, _STARTED.sub(_named, text))
        # The form that ansible-test wants of who has no account by which to be asked.
        text = text.replace(" TensorFlow GPU Stack contributors\n", " TensorFlow GPU Stack contributors !UNKNOWN\n")
    elif path.endswith("README.md"):
        text = translate_tasks(text)
    return translate_commands(text)


def translate_tasks(text: str) -> str:
    """Tasks that call modules and roles by their names in the collection, and write where they are run."""
    for old, new in WORKING_DIRECTORY:
        text = text.replace(old, new)
    text = _TASK.sub(_named, text)
    return _ROLE.sub(
        lambda match: f"{match['before']}{match['quote']}{COLLECTION}.{match['name']}{match['quote']}", text
    )


def translate_commands(text: str) -> str:
    """Commands of make and paths of playbooks as those that a collection has."""
    text = _PLAYBOOK.sub(lambda match: f"{match['command'] or ''}{COLLECTION}.{match['name']}", text)
    return _HINT.sub("", _MAKE.sub(_command, text))


def translate_specification(text: str) -> str:
    """A role's specification without defaults that are templates of something else than text: a schema refuses them.

    They are said in words. The values come from the defaults of the role in any case.
    """
    content = yaml.safe_load(text)
    for entry in content["argument_specs"].values():
        for option in (entry.get("options") or {}).values():
            default = option.get("default")
            if isinstance(default, str) and "{{" in default and option.get("type", "str") not in ("str", "path"):
                del option["default"]
                option["description"] = [*_as_list(option["description"]), _said(default)]
    return _dump(content)


def _said(default: str) -> str:
    variable = make_docs.inventory_variable(default)
    if variable is None:
        names = re.findall(r"\b[a-z]+(?:_[a-z]+)+(?:\.[a-z_]+)*\b", default)
        return f"By default taken from {' and '.join(f'C({name})' for name in dict.fromkeys(names))}."
    return f"By default the variable C({variable[0]}), otherwise C({json.dumps(variable[1])})."


def translate_returned(text: str) -> str:
    """The documentation of returned values, of which a schema wants a list of choices without what they mean."""
    content = yaml.safe_load(text)
    changed = False
    for value in content.values():
        if isinstance(value.get("choices"), dict):
            rows = [f"V({name}) - {meaning}" for name, meaning in value["choices"].items()]
            value.update(choices=list(value["choices"]), description=[*_as_list(value["description"]), *rows])
            changed = True
    return _dump(content).removeprefix("---\n") if changed else text


def _as_list(description: str | list[str]) -> list[str]:
    return [description] if isinstance(description, str) else description


class _Indented(yaml.SafeDumper):
    """Items of a list are indented, as yamllint wants them, and nothing is an alias."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump(content: Any) -> str:
    return "---\n" + yaml.dump(content, Dumper=_Indented, sort_keys=False, width=110, allow_unicode=True)


def _named(match: re.Match[str]) -> str:
    return f"{match['before']}{COLLECTION}.{match['name']}"


def _command(match: re.Match[str]) -> str:
    given = _GIVEN.sub(_extra_variable, match["given"])
    return f"ansible-playbook {COLLECTION}.{match['name']}{given}"


def _extra_variable(match: re.Match[str]) -> str:
    name = SETS.get(match["name"], match["name"])
    if match["quote"]:
        return f" -e {match['quote']}{name}='{match['quoted']}'{match['quote']}"
    return f" -e {name}={match['plain']}"


def files() -> Iterator[tuple[Path, Path]]:
    """Each file with its path in the collection."""
    for source, target in PLACES:
        origin = REPOSITORY / source
        if origin.is_file():
            yield origin, Path(target)
        for directory, names, found in os.walk(origin):
            names[:] = sorted(name for name in names if not _is_left_out(Path(directory, name)))
            for name in sorted(found):
                path = Path(directory, name)
                if not _is_left_out(path):
                    yield path, Path(target) / path.relative_to(origin)


def _is_left_out(path: Path) -> bool:
    return path.is_symlink() or any(path.match(pattern) for pattern in LEFT_OUT)


def stage(root: Path) -> None:
    """Write the collection's tree."""
    for origin, relative in files():
        target = root / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        if origin.suffix in (".py", ".yml", ".md") and "locks" not in origin.parts:
            text = origin.read_text(encoding="utf-8")
            target.write_text(text if origin.is_relative_to(METADATA) else translate(relative.as_posix(), text))
            shutil.copymode(origin, target)
        else:
            shutil.copy(origin, target)
    for name, target_of_link in LINKS.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).symlink_to(target_of_link)


def build(output: Path) -> Path:
    """The collection's archive in a directory."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        stage(Path(directory))
        command = [str(Path(sys.executable).parent / "ansible-galaxy"), "collection", "build", "--force"]
        # There no ansible.cfg of a checkout is read.
        command += ["--output-path", str(output), directory]
        subprocess.run(command, check=True, cwd=directory, stdout=subprocess.DEVNULL)
    return output / f"{GALAXY['namespace']}-{GALAXY['name']}-{GALAXY['version']}.tar.gz"


def unready(release: str, repository: Path = REPOSITORY) -> list[str]:
    """Why this version of the checkout cannot be published."""
    galaxy = repository / METADATA.relative_to(REPOSITORY) / "galaxy.yml"
    version = yaml.safe_load(galaxy.read_text(encoding="utf-8"))["version"]
    found = [] if release == version else [f"collection/galaxy.yml has version {version}, not {release}."]
    fragments = [path.name for path in (repository / "changelogs" / "fragments").glob("*.yml")]
    if fragments:
        found.append(f"{', '.join(sorted(fragments))} in changelogs/fragments: run make changelog.")
    if check_changes.newest_release(repository) != version:
        found.append(f"The changelog has nothing about {version}: run make changelog.")
    places = [name for name in PUBLISHED if re.search(PLACEHOLDER, (repository / name).read_text(encoding="utf-8"))]
    if places:
        found.append(f'OWNER or REPOSITORY in {", ".join(places)}: see "Before you publish" in CONTRIBUTING.md.')
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist", help="directory of the archive")
    parser.add_argument("--tree", type=Path, help="write the collection's tree into this directory instead")
    parser.add_argument("--release", metavar="VERSION", help="build only what can be published as this version")
    options = parser.parse_args(arguments)
    if options.release and (problems := unready(options.release)):
        print(*problems, sep="\n", file=sys.stderr)
        return 2
    if options.tree:
        stage(options.tree)
        print(options.tree)
    else:
        path = build(options.output.resolve())
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB): ansible-galaxy collection install {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
