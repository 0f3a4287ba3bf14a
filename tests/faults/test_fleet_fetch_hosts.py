"""Three hosts by ssh that take everything from the controller, which alone reaches the index."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.hosts.fleet import Fleet, Host
from tests.index import is_closed, serve
from tests.integration.test_bundle import lay_uv
from tests.playbooks import REPOSITORY, kill_everything_about

# Three containers with systemd: minutes, and images that have to be made.
pytestmark = [pytest.mark.integration, pytest.mark.slow]

NAMES = ["n01", "n02", "n03"]
PORT = 8791


@pytest.fixture(scope="module")
def sent() -> dict[str, list[int]]:
    """Bytes that the index sent, by path."""
    return {}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, sent: dict[str, list[int]]) -> Iterator[Fleet]:
    needs.require("podman", root=True)
    directory = tmp_path_factory.mktemp("hosts")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    common = {
        "tensorflow_version": "2.15.1",
        "python_source": "found",
        "fleet_fetch": "controller",
        "fleet_fetch_port": PORT,
        "fleet_fetch_directory": str(directory / "fetched"),
    }
    index = f"http://127.0.0.1:{port}/simple"
    fleet = Fleet(directory, [Host(name, "debian-12", {"tensorflow_index_url": index}) for name in NAMES], common)
    try:
        if why := fleet.start():
            needs.unavailable(why)
        lay_uv(directory / "wheels")
        with serve(directory / "wheels", sent=sent, port=port):
            yield fleet
    finally:
        fleet.stop()
        shutil.rmtree(directory, ignore_errors=True)


def listens(fleet: Fleet) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((fleet.gateway, PORT)) == 0


def fetched(sent: dict[str, list[int]]) -> dict[str, int]:
    return {Path(path).name.partition("-")[0]: len(sizes) for path, sizes in sent.items() if path.startswith("/files/")}


def test_the_server_ends_with_a_run_that_is_killed(fleet: Fleet) -> None:
    """By nobody but itself: of the run, only its first process is killed."""
    fleet.once_it_builds("n01", lambda: None)  # holds the build of the canary
    about = f"ABOUT={fleet.directory}"
    process = subprocess.Popen(
        fleet.command(),
        cwd=REPOSITORY,
        env={**os.environ, "ABOUT": str(fleet.directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (listens(fleet) and fleet.inside("n01", "ls -d /opt/tensorflow/.builds/*", check=False)):
            assert process.poll() is None, "the run ended before it was killed"
            time.sleep(0.2)
        process.kill()
        process.wait()
        assert is_closed(PORT, host=fleet.gateway)
    finally:
        kill_everything_about(about)


def test_each_file_comes_from_outside_once_and_the_hosts_do_not_reach_the_index(
    fleet: Fleet, sent: dict[str, list[int]]
) -> None:
    for host in NAMES:
        fleet.forget(host)
    run = fleet.play()
    assert run.code == 0, run.output
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    assert {host: fleet.installed(host) for host in NAMES} == dict.fromkeys(NAMES, ["tensorflow-2.15.1"])
    assert fetched(sent) == {"numpy": 1, "tensorflow": 1, "uv": 1}
    clients = {line.split()[1] for line in (fleet.directory / "fetched" / ".served.log").read_text().splitlines()}
    assert len(clients) == len(NAMES)
    assert is_closed(PORT, host=fleet.gateway)
