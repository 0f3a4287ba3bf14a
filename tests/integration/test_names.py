"""Names, values and exit codes at the playbooks: what cannot be meant is refused, no value is a template."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import run_playbook as front
import yaml

from tests.playbooks import ANSIBLE_PLAYBOOK, LOCAL, REPOSITORY, Run, Site, run_playbook

pytestmark = pytest.mark.integration

# What a value that is templated leaves, and other texts that a template would read.
ODD = (
    "{{ lookup('pipe', 'touch LEFT') }}",
    "{% set x = lookup('pipe', 'touch LEFT') %}",
    "{# LEFT #}",
    """a 'b' "c" \\ $d\r\n{{""",
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    """A checkout whose reports/ is its own, since the plan is left there."""
    for name in (
        "action_plugins",
        "ansible.cfg",
        "callback_plugins",
        "inventories",
        "library",
        "module_utils",
        "roles",
    ):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    # Copied: playbook_dir is where the file is.
    shutil.copytree(REPOSITORY / "playbooks", tmp_path / "playbooks", symlinks=True)
    (tmp_path / "reports").mkdir()
    return tmp_path


def plan(checkout: Path, hosts: dict[str, Any], *options: str, environ: Any = None, **variables: Any) -> Run:
    inventory = checkout / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"vars": LOCAL, "hosts": hosts}}))
    command = [str(ANSIBLE_PLAYBOOK), "-i", str(inventory), "playbooks/plan.yml", "-e", json.dumps(variables)]
    return run_playbook([*command, *options], directory=checkout, environ=environ)


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


# tests/contract/test_roles.py: every playbook begins with the task that says it.
@pytest.mark.parametrize(
    "playbook",
    [
        pytest.param("workstation", marks=pytest.mark.oldest_core),
        "lock",
        *map(slow, ("plan", "verify", "history", "rollback", "remove", "doctor")),
    ],
)
def test_a_misspelt_variable_is_named_before_anything_is_done(site: Site, playbook: str) -> None:
    run = site.play(playbook, tensorfow_version="2.8.0", tensorflow_port=8500)
    assert run.code == 2, run.output
    message = "tensorfow_version is set, but is no variable of this toolkit; tensorflow_version is one."
    said = " ".join(run.output.split())
    assert message in said and "tensorflow_port" not in said
    assert run.counts["changed"] == 0 and "ok: [" not in run.output
    if playbook in ("workstation", "verify", "rollback"):
        assert run.report["error"].startswith(message)
    assert [path.name for path in site.path.iterdir()] == (["localhost.json"] if run.report else [])


def test_a_misspelt_variable_of_one_host_does_not_stop_the_other(plans: Path) -> None:
    run = plan(plans, {"ada": {"cuda_sorce": "wheels"}, "bob": {"cuda_visible": "0"}}, tensorflow_version="2.17.1")
    assert run.code == 2, run.output
    assert "cuda_sorce is set" in run.output and "cuda_visible" not in run.output
    assert {host: counts["failed"] for host, counts in run.recap.items()} == {"ada": 1, "bob": 0}
    assert [path.name for path in (plans / "reports").iterdir()] == ["bob.plan.json"]


@pytest.mark.oldest_core
def test_junit_beside_our_own_callbacks(site: Site) -> None:
    environ = {"ANSIBLE_CALLBACKS_ENABLED": "junit", "JUNIT_OUTPUT_DIR": str(site.path)}
    run = site.play("workstation", "--check", environ=environ, tensorflow_version="2.15.1", tensorflow_gpu="none")
    assert f"localhost: TensorFlow 2.15.1 (cpu) at {site.root}/tensorflow-2.15.1: " in run.output
    (written,) = site.path.glob("workstation-*.xml")
    assert "<testcase" in written.read_text()
    refused = site.play("plan", environ=environ, tensorflow_verison="2.8.0")
    assert refused.code == 2 and "tensorflow_version is one" in refused.output


@pytest.mark.parametrize(
    ("stdout", "result_format"),
    [
        slow("default", "json"),
        ("default", "yaml"),
        slow("stack_screen", "json"),
        slow("stack_screen", "yaml"),
        slow("minimal", "json"),
        slow("minimal", "yaml"),
    ],
)
@pytest.mark.oldest_core
def test_another_screen_or_format(plans: Path, stdout: str, result_format: str) -> None:
    environ = {"ANSIBLE_STDOUT_CALLBACK": stdout, "ANSIBLE_CALLBACK_RESULT_FORMAT": result_format}
    hosts = {"ada": {"tensorflow_version": "2.15.1"}, "bob": {"tensorflow_version": "2.99"}}
    run = plan(plans, hosts, "-v", environ=environ, tensorflow_gpu="none")
    assert {host: counts["failed"] for host, counts in run.recap.items()} in ({}, {"ada": 0, "bob": 1})
    assert "TensorFlow 2.15.1 (cpu) at" in run.output and "Traceback" not in run.output
    assert run.code == 2 and "2.99 is not a known release" in run.output
    assert ('"changed": false' in run.output) is (result_format == "json")


VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"tensorflow_version": None}, "tensorflow_version has no value (null)"),
    "number": ({"tensorflow_keep": -5}, "tensorflow_keep is '-5', but must be a whole number, 0 or more"),
    "url": ({"tensorflow_index_url": "not a url"}, "must be an http, https or file URL"),
    "system": ({"tensorflow_root": "/"}, "The root of the environments is /, which is the system's"),
    "device": ({"tensorflow_root": "/dev/null/x"}, "The root of the environments is /dev/null/x"),
    "keep": ({"tensorflow_keep": 0, "tensorflow_gpu": "none"}, "Set tensorflow_keep to 1 or more."),
}


def test_a_value_that_cannot_be_meant(plans: Path) -> None:
    """A host for each: they are refused one by one, and none by another's."""
    inventory = plans / "hosts.yml"
    own = {"stack_report_directory": str(plans / "reports"), "tensorflow_root": str(plans / "root")}
    hosts = {host: {**own, **variables} for host, (variables, _) in VALUES.items()}
    inventory.write_text(yaml.safe_dump({"all": {"vars": LOCAL, "hosts": hosts}}))
    command = [str(ANSIBLE_PLAYBOOK), "-i", str(inventory), "playbooks/workstation.yml", "--check"]
    run = run_playbook(command, directory=plans)
    assert run.code == 2, run.output
    for host, (_, message) in VALUES.items():
        assert (run.recap[host]["failed"], run.recap[host]["changed"]) == (1, 0), run.output
        assert message in run.errors[host]


@pytest.mark.parametrize("host", ["../../play/x", slow("a/b")])
def test_a_host_leads_no_file_elsewhere(plans: Path, host: str) -> None:
    before = sorted(plans.rglob("*"))
    run = plan(plans, {host: {}}, tensorflow_version="2.17.1")
    assert run.code == 2, run.output
    assert "cannot be the name of a file" in " ".join(run.output.split())
    assert [path for path in plans.rglob("*") if path not in before and path.name != "hosts.yml"] == []


class TestPlan:
    def test_all_are_planned_before_a_refused_one_fails(self, plans: Path) -> None:
        run = plan(plans, {"ada": {"tensorflow_gpu": "required"}, "bob": {}}, tensorflow_version="2.17.1")
        assert run.code == 2, run.output
        assert {host: counts["failed"] for host, counts in run.recap.items()} == {"ada": 1, "bob": 0}
        assert "TensorFlow 2.17.1 (cpu) at " in run.output and "TensorFlow 2.17.1 is refused" in run.output
        left = {name: json.loads((plans / "reports" / f"{name}.plan.json").read_text()) for name in ("ada", "bob")}
        assert [bool(content["plan"]["refusals"]) for content in left.values()] == [True, False]

    def test_no_plan_of_an_earlier_run_is_left_for_one_that_cannot_be_read(self, plans: Path) -> None:
        (plans / "reports" / "ada.plan.json").write_text('{"plan": {"refusals": []}}')
        assert plan(plans, {"ada": {}}, tensorflow_version="2.17.99").code == 2
        content = json.loads((plans / "reports" / "ada.plan.json").read_text())
        assert "2.17.99 is not a known release" in content["plan"]["refusals"][0]["message"]

    @pytest.mark.parametrize("spoil", ["tags", slow("reports")])
    def test_what_was_not_planned_or_not_saved_does_not_end_well(self, plans: Path, spoil: str) -> None:
        if spoil == "reports":
            (plans / "reports").rmdir()
        run = plan(plans, {"ada": {}}, *(["--tags", "foo"] if spoil == "tags" else []), tensorflow_version="2.17.1")
        assert run.code == 2, run.output
        message = {"tags": "Only a part of the play ran, so nothing was planned.", "reports": "The plan is not saved: "}
        assert message[spoil] in run.output
        assert ("use a checkout of your own." in " ".join(run.output.split())) is (spoil == "reports")

    def test_it_starts_from_anywhere_and_under_the_settings_of_another_project(self, plans: Path) -> None:
        """That was: couldn't resolve module/action 'tensorflow_inventory'."""
        other = plans / "other.cfg"
        other.write_text("[defaults]\nlibrary = none\nroles_path = none\n")
        environ = {"ANSIBLE_CONFIG": str(other), "ANSIBLE_MODULE_UTILS": "none", "ANSIBLE_ACTION_PLUGINS": "none"}
        inventory = plans / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"all": {"vars": LOCAL, "hosts": {"ada": {}}}}))
        command = [str(ANSIBLE_PLAYBOOK), "-i", str(inventory), str(plans / "playbooks" / "plan.yml")]
        command += ["-e", json.dumps({"tensorflow_version": "2.17.1"})]
        run = run_playbook(command, directory=Path("/"), environ=environ)
        assert run.code == 0, run.output
        assert (plans / "reports" / "ada.plan.json").exists()

    def test_a_project_of_ones_own_has_the_lines_of_the_page(self, tmp_path: Path) -> None:
        page = (REPOSITORY / "docs" / "operations.md").read_text()
        (lines,) = re.findall(r"^```ini\n(\[defaults\]\nroles_path.*?)^```$", page, re.MULTILINE | re.DOTALL)
        (tmp_path / "ansible.cfg").write_text(lines.replace("/srv/tensorflow-gpu-stack", str(REPOSITORY)))
        tasks = [{"name": "Plan", "ansible.builtin.import_role": {"name": "tensorflow_release"}}]
        (tmp_path / "site.yml").write_text(json.dumps([{"name": "Plan", "hosts": "all", "tasks": tasks}]))
        command = [str(ANSIBLE_PLAYBOOK), "-i", "localhost,", "--syntax-check", "site.yml"]
        run = run_playbook(command, directory=tmp_path)
        assert run.code == 0, run.output

    def test_with_no_release_one_that_runs_is_enough(self, plans: Path) -> None:
        run = plan(plans, {"ada": {}, "bob": {"tensorflow_gpu": "required"}})
        assert {host: counts["failed"] for host, counts in run.recap.items()} == {"ada": 0, "bob": 1}, run.output


START, TAGS = ("--start-at-task", "Write the report"), ("--tags", "nosuch")


@pytest.mark.parametrize(
    ("playbook", "options"),
    [
        pytest.param("workstation", START, marks=pytest.mark.oldest_core),
        ("workstation", TAGS),
        ("verify", START),
        *(slow(*case) for case in (("verify", TAGS), ("rollback", START), ("rollback", TAGS))),
    ],
)
def test_a_run_of_a_part_proves_nothing(site: Site, playbook: str, options: tuple[str, str]) -> None:
    run = site.play(playbook, *options)
    assert run.code == 2, run.output
    assert not run.report["succeeded"] and run.report["error"]
    if "--tags" not in options:  # the validation of a role's arguments has any tags, and may fail first
        assert "Nothing was proven" in run.report["error"]
        assert run.output.count("fatal: ") == 1


def test_a_run_of_a_part_is_no_failure_in_check_mode(site: Site) -> None:
    assert site.play("workstation", "--check", "--start-at-task", "Write the report").code == 0


@pytest.mark.oldest_core
def test_the_error_of_a_run_is_said_once_and_in_its_report(site: Site) -> None:
    run = site.play("verify")
    assert run.code == 2, run.output
    message = "There is no environment below"
    assert run.report["error"].startswith(message)
    assert run.output.count("fatal: ") == run.output.count(message) == 1
    assert f"localhost: the report is {site.path}/localhost.json\n" in run.output
    assert "null" not in run.output, "the screen has the message and not the result"


def test_remove_names_what_is_there(site: Site) -> None:
    run = site.play("remove", tensorflow_environment="tensorflow-9.9")
    assert run.code == 2, run.output
    assert (
        f"There is no environment tensorflow-9.9 below {site.root}; there is none. If yours is elsewhere"
        in " ".join(run.output.split())
    )


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        pytest.param("TENSORFLOW", ODD[0], marks=pytest.mark.oldest_core),
        ("LOG", ODD[0]),
        *(slow(name, ODD[0]) for name in ("REQUIREMENTS", "ENVIRONMENT", "PYTHON_PATH", "ROOT")),
        pytest.param("ROOT", ODD[1], marks=pytest.mark.oldest_core),
        slow("ROOT", ODD[2]),
        slow("ROOT", ODD[3]),
    ],
)
def test_a_value_of_make_is_not_templated(plans: Path, name: str, odd: str) -> None:
    """By the command that make would run, with the Ansible of these tests."""
    left = plans / "left"
    playbook = "doctor" if name in ("PYTHON_PATH", "LOG") else "plan"
    given = {name: f"/{odd.replace('LEFT', str(left))}"}
    command = front.command_line(playbook, front.settings(playbook, given, {}))
    done = run_playbook([str(ANSIBLE_PLAYBOOK), *command[1:]], directory=plans)
    assert not left.exists()
    assert "Traceback" not in done.output
    # Any text does for a directory.
    assert done.code == (0 if name == "ROOT" else 2), done.output
