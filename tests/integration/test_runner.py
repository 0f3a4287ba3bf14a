"""The playbooks under ansible-runner, as AWX and Automation Controller start them: events, artifacts, exit status."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks import ANSIBLE_PLAYBOOK, REPOSITORY

ansible_runner = pytest.importorskip("ansible_runner", reason="the oldest ansible-core is tested without it")
pytestmark = pytest.mark.integration

NODES = ("ada", "bob")


@dataclass(frozen=True)
class PrivateData:
    """A private_data_dir of ansible-runner, whose project is this repository."""

    path: Path

    def run(self, playbook: str, ident: str, **how: Any) -> Any:
        # What one run is given is kept there for the next one.
        for name in ("cmdline", "envvars"):
            (self.path / "env" / name).unlink(missing_ok=True)
        return ansible_runner.run(
            private_data_dir=str(self.path),
            playbook=f"playbooks/{playbook}.yml",
            ident=ident,
            quiet=True,
            **how,
        )


@pytest.fixture(scope="module")
def private_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateData]:
    path = tmp_path_factory.mktemp("runner")
    (path / "project").symlink_to(REPOSITORY)
    for name in ("inventory", "env"):
        (path / name).mkdir()
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "tensorflow_root": str(path / "roots" / "{{ inventory_hostname }}"),
        "stack_report_directory": str(path / "reports"),
    }
    inventory = {"all": {"vars": variables, "hosts": dict.fromkeys(NODES)}}
    (path / "inventory" / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (path / "env" / "extravars").write_text('tensorflow_version: "2.15.1"\ntensorflow_gpu: none\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{ANSIBLE_PLAYBOOK.parent}:{os.environ['PATH']}")
        yield PrivateData(path)
    shutil.rmtree(path)


def text_of(run: Any) -> str:
    with run.stdout as stream:
        return str(stream.read())


# The second screen is the slow lane's: the same run again, 20 s.
@pytest.mark.parametrize("screen", ["default", pytest.param("stack_screen", marks=pytest.mark.slow)])
def test_each_result_is_one_event_and_each_line_is_shown_once(private_data: PrivateData, screen: str) -> None:
    """Our callbacks are loaded next to that of ansible-runner, which replaces the list in ansible.cfg."""
    environ = {"ANSIBLE_STDOUT_CALLBACK": screen, "ANSIBLE_NOCOLOR": "1"}
    run = private_data.run("fleet", screen, cmdline="--check --limit ada", envvars=environ)
    text, artifacts = text_of(run), private_data.path / "artifacts" / screen
    assert (run.status, run.rc) == ("successful", 0), text
    assert ((artifacts / "status").read_text(), (artifacts / "rc").read_text()) == ("successful", "0")
    events = [json.loads(path.read_text()) for path in (artifacts / "job_events").glob("*.json")]
    results = Counter(
        (event["event_data"]["task_uuid"], event["event_data"]["host"])
        for event in events
        if event["event"] in ("runner_on_ok", "runner_on_failed")
    )
    assert results and set(results.values()) == {1}
    [plan] = [
        event["event_data"]["res"]["plan"]
        for event in events
        if event["event"] == "runner_on_ok" and event["event_data"]["task_action"] == "tensorflow_stack_info"
    ][:1]
    assert plan["release"] == "2.15.1"
    assert [event["event"] for event in sorted(events, key=lambda event: int(event["counter"]))].count(
        "playbook_on_stats"
    ) == 1
    assert run.stats["changed"] == {"ada": 1}
    # Of the callbacks: one line for the plan, which is made in the preflight alone, and the sum of the fleet.
    assert text.count("ada: TensorFlow 2.15.1 (cpu) at") == 1, text
    assert text.count("Fleet of 1 node: 1 would be changed") == 1, text
    assert text.count("PLAY RECAP") == 1


def test_a_refusal_is_a_failed_run_whose_events_say_why(private_data: PrivateData) -> None:
    run = private_data.run("fleet", "refused", extravars={"tensorflow_version": "2.15.1", "tensorflow_gpu": "required"})
    (private_data.path / "env" / "extravars").write_text('tensorflow_version: "2.15.1"\ntensorflow_gpu: none\n')
    text = text_of(run)
    assert (run.status, run.rc) == ("failed", 2), text
    messages = [event["event_data"]["res"]["msg"] for event in run.events if event["event"] == "runner_on_failed"]
    assert len(messages) == 1 and "Nothing was changed on any node" in messages[0]
    report = json.loads((private_data.path / "reports" / "fleet.json").read_text())
    assert {node["host"]: node["state"] for node in report["nodes"]} == dict.fromkeys(NODES, "refused")
    assert text.count("Fleet of 2 nodes: 2 refused") == 1


@pytest.mark.slow  # a real build, cancelled and built: a minute, 1.6 GB
def test_a_run_that_is_cancelled_while_it_builds_is_run_again(private_data: PrivateData) -> None:
    began: list[float] = []

    def see(event: dict[str, Any]) -> bool:
        is_build = event.get("event_data", {}).get("task") == "Build the environment"
        if is_build and event["event"] == "runner_on_start":
            began.append(time.monotonic())
        return True

    def has_built_for_a_while() -> bool:
        return bool(began) and time.monotonic() > began[0] + 5

    how: dict[str, Callable[..., bool]] = {"event_handler": see, "cancel_callback": has_built_for_a_while}
    run = private_data.run("workstation", "cancelled", limit="ada", **how)
    assert run.status == "canceled", text_of(run)
    root = private_data.path / "roots" / "ada"
    assert not list(root.glob("tensorflow-*"))
    # The task that was cancelled ends by itself on the node; this run waits for it, or builds anew.
    run = private_data.run("workstation", "again", limit="ada")
    assert (run.status, run.rc) == ("successful", 0), text_of(run)
    assert (root / "tensorflow-2.15.1" / "bin" / "python").exists()
