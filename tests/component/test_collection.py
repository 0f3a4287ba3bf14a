"""The Galaxy collection: built from this checkout, installed where no checkout is near, and used by its names alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import make_collection
import pytest
import yaml
from make_collection import COLLECTION, GALAXY, MODULES, PLAYBOOKS, ROLES

from tests.playbooks import LOCAL, Run, run_playbook

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent


class Project:
    """Somebody's project with this collection and nothing else of ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.collections = path / "collections"
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_NOCOLOR": "1",
        }
        (path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"node": LOCAL}}}))

    @property
    def tree(self) -> Path:
        return self.collections / "ansible_collections" / GALAXY["namespace"] / GALAXY["name"]

    def run(self, program: str, *arguments: str) -> str:
        command = [str(PROGRAMS / program), *arguments]
        done = subprocess.run(command, cwd=self.path, env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def play(self, playbook: str, *options: str, **variables: Any) -> Run:
        command = [
            str(PROGRAMS / "ansible-playbook"),
            "-i",
            "hosts.yml",
            playbook,
            "-e",
            json.dumps(variables),
            *options,
        ]
        return run_playbook(command, directory=self.path, environ=self.environ)

    def write(self, name: str, *tasks: dict[str, Any], **play: Any) -> str:
        content = [{"name": "Foreign", "hosts": "all", "gather_facts": False, **play, "tasks": list(tasks)}]
        (self.path / name).write_text(yaml.safe_dump(content))
        return name


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"))
    archive = make_collection.build(project.path / "dist")
    project.run("ansible-galaxy", "collection", "install", "-p", str(project.collections), str(archive))
    return project


def tasks_of(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for inner in value.values():
            yield from tasks_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from tasks_of(inner)


def test_every_task_names_its_module_and_role_in_full(project: Project) -> None:
    paths = [*project.tree.glob("playbooks/**/*.yml"), *project.tree.glob("roles/*/tasks/*.yml")]
    assert len(paths) > 30
    short: list[str] = []
    for task in (task for path in paths for task in tasks_of(yaml.safe_load(path.read_text(encoding="utf-8")))):
        short += [name for name in MODULES if name in task and not isinstance(task[name], str | int)]
        for how in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
            if how in task and not task[how]["name"].startswith(f"{COLLECTION}."):
                short.append(f"{how}: {task[how]['name']}")
    assert short == []


def test_no_text_speaks_of_make_or_of_paths_in_a_checkout(project: Project) -> None:
    left = []
    for path in [*project.tree.glob("plugins/**/*.py"), *project.tree.glob("playbooks/**/*.yml")]:
        text = path.read_text(encoding="utf-8")
        left += re.findall(rf"\bmake (?:{'|'.join(PLAYBOOKS)})\b(?! again)", text)
        left += [
            line
            for line in re.findall(r".*\bplaybooks/\w+\.yml.*", text)
            if "created-by" not in line and "made by" not in line
        ]
        left += re.findall(r"playbook_dir.{0,5}/\.\./(?:reports|bundle|\.tools)", text)
    assert left == []


@pytest.mark.parametrize(
    ("text", "translated"),
    [
        ("make plan", f"ansible-playbook {COLLECTION}.plan"),
        ("(make add PACKAGES=ipykernel", f"(ansible-playbook {COLLECTION}.add -e tensorflow_packages=ipykernel"),
        ('make add PACKAGES="a b"', f"ansible-playbook {COLLECTION}.add -e \"tensorflow_packages='a b'\""),
        ("set tensorflow_root (make: ROOT=) to", "set tensorflow_root to"),
        ("Run playbooks/workstation.yml with x", f"Run {COLLECTION}.workstation with x"),
        ("#   ansible-playbook playbooks/plan.yml -e a=b", f"#   ansible-playbook {COLLECTION}.plan -e a=b"),
        ("make locks, and make sure", "make locks, and make sure"),
        ("# made by: playbooks/lock.yml", "# made by: playbooks/lock.yml"),
    ],
)
def test_commands_are_those_of_a_collection(text: str, translated: str) -> None:
    assert make_collection.translate_commands(text) == translated


def test_data_files_travel_unchanged(project: Project) -> None:
    kept = ("locks", "tables")
    files = [path for name in kept for path in (REPOSITORY / "roles/tensorflow_release/files" / name).rglob("*")]
    files = [path for path in files if path.is_file() and path.name != "diagnoses.yml"]
    differ = [path for path in files if path.read_bytes() != (project.tree / path.relative_to(REPOSITORY)).read_bytes()]
    assert len(files) > 100
    assert differ == []
    assert (project.tree / "playbooks" / "variables.json").is_file()
    assert (project.tree / "inventories" / "example_fleet" / "hosts.yml").is_file()


def test_the_core_that_is_required_is_the_oldest_tested_one(project: Project) -> None:
    runtime = yaml.safe_load((project.tree / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    (oldest,) = re.findall(
        r"^ansible-core==(\d+\.\d+)", (REPOSITORY / "requirements/oldest.in").read_text(), re.MULTILINE
    )
    assert runtime["requires_ansible"] == f">={oldest}.0"


def test_everything_is_documented_with_the_version_that_added_it(project: Project) -> None:
    for kind, names in (("module", MODULES), ("callback", ["fleet_summary", "stack_progress", "stack_screen"])):
        found = json.loads(
            project.run("ansible-doc", "-t", kind, "--json", *(f"{COLLECTION}.{name}" for name in names))
        )
        assert {
            name.rpartition(".")[2]: row["doc"].get("version_added") for name, row in found.items()
        } == dict.fromkeys(names, "1.0.0")
    roles = json.loads(project.run("ansible-doc", "-t", "role", "--json", *(f"{COLLECTION}.{name}" for name in ROLES)))
    assert len(roles) == len(ROLES)
    for role in roles.values():
        assert [entry for entry in role["entry_points"].values() if entry.get("version_added") != "1.0.0"] == []


def test_a_playbook_is_run_by_its_name(project: Project) -> None:
    """Its progress too, which nobody enabled; nothing is written into the collection."""
    run = project.play(f"{COLLECTION}.plan", tensorflow_version="2.8.0", tensorflow_root=str(project.path / "root"))
    assert run.code == 0, run.output
    assert "TensorFlow 2.8.0" in run.output
    plan = json.loads((project.path / "reports" / "node.plan.json").read_text())["plan"]
    assert plan["lock"]["path"].startswith(str(project.tree))
    assert not (project.tree / "reports").exists()


def test_modules_are_used_from_a_foreign_playbook(project: Project) -> None:
    book = project.write(
        "site.yml",
        {"name": "Read", f"{COLLECTION}.gpu_node_info": {}, "when": "tensorflow_version is defined"},
        {"name": "Check names", f"{COLLECTION}.tensorflow_inventory": {}},
    )
    run = project.play(book, tensorflow_version="2.15.1")
    assert run.code == 0, run.output
    wrong = project.play(book, tensorfow_version="2.15.1")
    assert "tensorflow_version is one" in wrong.errors["node"]


def test_a_role_is_used_by_its_path_alone(tmp_path: Path) -> None:
    """Another project's roles_path, and no other setting: the modules come with the role."""
    project = Project(tmp_path)
    book = project.write(
        "site.yml",
        {"name": "Plan", "ansible.builtin.import_role": {"name": "tensorflow_release"}},
        {"name": "Report", "ansible.builtin.import_role": {"name": "stack_report"}},
    )
    project.environ["ANSIBLE_ROLES_PATH"] = str(REPOSITORY / "roles")
    variables = {"tensorflow_root": str(tmp_path / "root"), "stack_report_directory": str(tmp_path)}
    run = project.play(book, tensorflow_version="2.15.1", stack_report_proof_required=False, **variables)
    assert run.code == 0, run.output
    assert json.loads((tmp_path / "node.json").read_text())["release"] == "2.15.1"
