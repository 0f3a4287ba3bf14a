"""A fleet whose files the controller fetches once and serves to the nodes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.hosts.fleet import make_doubles
from tests.index import is_closed, serve
from tests.integration.test_bundle import lay_uv
from tests.integration.test_fleet import NODES, Fleet
from tests.playbooks import LOCAL

pytestmark = pytest.mark.integration

Sent = dict[str, list[int]]


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Sent]]:
    """Three bare nodes, and what the index sent."""
    fleet = Fleet(tmp_path_factory.mktemp("fetched"))
    make_doubles(fleet.path / "wheels", fleet.path / "locks", "2.15.1")
    lay_uv(fleet.path / "wheels")
    sent: Sent = {}
    with serve(fleet.path / "wheels", sent=sent) as index:
        common = {
            **LOCAL,
            "tensorflow_version": "2.15.1",
            "tensorflow_release_locks": str(fleet.path / "locks"),
            "tensorflow_index_url": index.replace("127.0.0.1", "localhost"),
            "tensorflow_gpu": "none",
            "tensorflow_root": str(fleet.path / "roots" / "{{ inventory_hostname }}"),
            "stack_report_directory": str(fleet.path / "reports"),
            "fleet_fetch": "controller",
            "fleet_fetch_directory": str(fleet.path / "fetched"),
        }
        hosts: dict[str, Any] = dict.fromkeys(NODES)
        (fleet.path / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common, "hosts": hosts}}))
        yield fleet, sent


def served(fleet: Fleet) -> list[list[str]]:
    return [line.split() for line in (fleet.path / "fetched" / ".served.log").read_text().splitlines()]


@pytest.mark.slow  # it ends before what the next one shows
def test_nodes_that_do_not_reach_the_controller_end_the_run_before_anything_is_changed(
    outside: tuple[Fleet, Sent], port: int
) -> None:
    fleet, sent = outside
    # A proxy that nobody runs.
    environ = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "localhost"}
    run = fleet.play(environ=environ, fleet_fetch_port=port)
    assert run.code == 2, run.output
    assert f"The node does not reach http://127.0.0.1:{port}, where the controller serves" in " ".join(
        run.output.split()
    )
    assert fleet.installed == []
    assert "Fleet of 3 nodes: 3 failed" in run.output
    assert {path.rpartition("/")[2].partition("-")[0] for path in sent if path.startswith("/files/")} >= {"numpy", "uv"}


def test_each_file_comes_from_outside_once(outside: tuple[Fleet, Sent], port: int) -> None:
    fleet, sent = outside
    nodes = NODES[:2]
    run = fleet.play("--limit", ",".join(nodes), fleet_fetch_port=port)
    assert run.code == 0, run.output
    assert "Fleet of 2 nodes: 2 proven" in run.output
    files = {path: sizes for path, sizes in sent.items() if path.startswith("/files/")}
    assert {path: len(sizes) for path, sizes in files.items()} == dict.fromkeys(files, 1)
    # Each file to each node.
    wheels = [path for _, _, method, path, count in served(fleet) if method == "GET" and "/wheels/" in path and count]
    assert sorted(wheels) == sorted(f"/wheels/{path.rpartition('/')[2]}" for path in files for _ in nodes)
    # Nothing of it stays on the nodes, and nothing is served after the run.
    for node in nodes:
        assert f":{port}" not in (fleet.path / "roots" / node / "manifest.json").read_text()
    assert is_closed(port)


@pytest.mark.slow  # as test_fleet.py shows
def test_again_nothing_is_fetched_or_served(outside: tuple[Fleet, Sent]) -> None:
    fleet, sent = outside
    sent.clear()
    run = fleet.play()
    assert run.code == 0, run.output
    assert {path for path in sent if path.startswith("/files/")} == set(), "what the run before fetched is kept"
    sent.clear()
    again = fleet.play()
    assert (again.code, sent) == (0, {}), again.output
    assert "fleet_fetch" not in again.output


@pytest.mark.slow  # refusals, each of which a test of a unit shows but for how a playbook says it
def test_what_cannot_be_served_ends_the_run(outside: tuple[Fleet, Sent]) -> None:
    fleet, _ = outside
    roots = {"tensorflow_root": str(fleet.path / "others" / "{{ inventory_hostname }}")}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        run = fleet.play(fleet_fetch_port=port, **roots)
    assert run.code == 2, run.output
    assert f"cannot be served at 127.0.0.1, port {port}: Address already in use" in run.output
    (fleet.path / "host_vars").mkdir()
    (fleet.path / "host_vars" / "bob.yml").write_text("python_mirror: https://mirror.example/\n")
    run = fleet.play(**roots)
    assert run.code == 2, run.output
    assert "python_mirror is not the same on all nodes: (not set), https://mirror.example/" in " ".join(
        run.output.split()
    )
    assert not (fleet.path / "others").exists()
