"""Ten hosts by ssh, from bare to two releases, and then each fault in the middle of a run (`make fleet-test`)."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests import needs
from tests.hosts.fleet import HELD, ROOT, Fleet, Host

# Ten containers with systemd, two installs of the real TensorFlow, and two runs for each fault: 20 to 40 minutes.
pytestmark = [pytest.mark.integration, pytest.mark.slow]

A100 = {"testhost_pci": "a100", "testhost_driver": {"version": "570.86.15"}}
T4 = {"testhost_pci": "t4", "testhost_driver": {"version": "570.86.15"}}
H100 = {"testhost_pci": "h100-nvswitch", "testhost_driver": {"version": "570.86.15", "kind": "open"}}
OLD = {"tensorflow_version": "2.15.1"}
BOTH = {"fleet_environments": [{"version": "2.15.1"}, {"version": "2.21.0"}]}
# Kinds in this order: n01, n03, n04, n07 and n08 are the canary.
HOSTS = [
    Host("n01", "debian-12", {**OLD, **A100}),
    Host("n02", "debian-12", {**OLD, **A100}),
    Host("n03", "debian-12", {**BOTH, **T4}),
    Host("n04", "debian-12", OLD, is_real=True),
    Host("n05", "debian-12", OLD),
    Host("n06", "debian-12", {**OLD, **A100}),
    Host("n07", "debian-13", H100),
    Host("n08", "debian-13"),
    Host("n09", "debian-13"),
    Host("n10", "debian-13", is_real=True),
]
NAMES = [host.name for host in HOSTS]
CANARY = ["n01", "n03", "n04", "n07", "n08"]
WANTED = {
    name: ["tensorflow-2.15.1", "tensorflow-2.21.0"]
    if name == "n03"
    else ["tensorflow-2.15.1" if name < "n07" else "tensorflow-2.21.0"]
    for name in NAMES
}
COMMON = {
    "tensorflow_version": "2.21.0",
    "python_source": "found",
    "fleet_batches": [2, "100%"],
    "tensorflow_venv_lock_timeout": 5,
}
# Each fault meets three hosts that are bare again: the canaries n05 and n08, and n09, which waits for them.
BARE = ["n05", "n08", "n09"]
OTHERS = [name for name in NAMES if name not in BARE]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    needs.require("podman", root=True)
    fleet = Fleet(tmp_path_factory.mktemp("hosts"), HOSTS, COMMON)
    try:
        if why := fleet.start():
            needs.unavailable(why)
        yield fleet
    finally:
        fleet.stop()
        shutil.rmtree(fleet.directory, ignore_errors=True)


@pytest.fixture
def bare(fleet: Fleet) -> Fleet:
    """Three hosts are bare, all others as they should be."""
    for host in BARE:
        fleet.forget(host)
    fleet.asked()
    return fleet


def _is_whole(fleet: Fleet, hosts: list[str] = NAMES) -> None:
    for host in hosts:
        assert fleet.installed(host) == WANTED[host], host
        assert fleet.leftovers(host) == [], host


def test_nothing_is_changed_if_one_node_cannot_have_it(fleet: Fleet) -> None:
    before = fleet.prints(NAMES)
    fleet.write_inventory(n09={"tensorflow_gpu": "required"})
    run = fleet.play()
    fleet.write_inventory()
    assert run.code == 2, run.output
    assert fleet.states == {**dict.fromkeys(NAMES, "not_begun"), "n09": "refused"}
    assert "refused: n09: gpu: wanted a GPU" in run.output
    assert (fleet.asked(), fleet.drained, fleet.prints(NAMES)) == ([], [], before)


def test_from_bare_to_two_releases(fleet: Fleet) -> None:
    run = fleet.play()
    assert run.code == 0, run.output
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    assert "Fleet of 10 nodes: 10 proven" in run.output
    _is_whole(fleet)
    asked = fleet.asked()
    drained = [line.split()[1] for line in asked if line.startswith("drain")]
    assert sorted(drained[:5]) == CANARY
    assert (sorted(drained[5:7]), sorted(drained[7:])) == (["n02", "n05"], ["n06", "n09", "n10"])
    # No batch begins before the one before it is back in service.
    assert all(line.startswith("undrain") for line in (*asked[5:10], *asked[12:14], *asked[17:]))
    assert fleet.drained == []
    verdicts = {node["host"]: {one["verdict"] for one in node["environments"]} for node in fleet.summary["nodes"]}
    with_gpu = {host.name for host in HOSTS if "testhost_pci" in host.variables}
    assert verdicts == {name: {"ok"} if name in with_gpu else {"cpu_only_no_gpu"} for name in NAMES}
    for host in ("n04", "n10"):
        said = fleet.inside(
            host, f"{ROOT}/current/bin/python -c 'import tensorflow; print(tensorflow.sysconfig.get_build_info())'"
        )
        assert "is_cuda_build" in said, "the real one"


def test_again_nothing_is_done(fleet: Fleet) -> None:
    before = fleet.prints(NAMES)
    run = fleet.play()
    assert run.code == 0, run.output
    assert set(run.changed.values()) == {0}
    assert (fleet.asked(), fleet.prints(NAMES)) == ([], before)


# --- A fault on n08, in the middle of a run -----------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What happens to n08 when it is drained, and how it is mended; what the summary says in between."""

    happens: Callable[[Fleet], object]
    mended: Callable[[Fleet], object]
    state: str = "failed"
    error: str = ""


def inside(script: str, *, privileged: bool = False) -> Callable[[Fleet], object]:
    return lambda fleet: fleet.inside("n08", script, privileged=privileged)


def in_build(happens: Callable[[Fleet], object]) -> Callable[[Fleet], object]:
    return lambda fleet: fleet.once_it_builds("n08", lambda: happens(fleet))


def hold_lock(fleet: Fleet) -> None:
    fleet.inside("n08", f"mkdir -p {ROOT}/.locks")
    fleet.start_inside("n08", "flock", f"{ROOT}/.locks/tensorflow-2.21.0", "sleep", "987")


DIES, IS_STARTED = (lambda fleet: fleet.kill("n08")), (lambda fleet: fleet.restart("n08"))
LOSES_ITS_NETWORK = inside("ip link set eth0 down", privileged=True)
HAS_IT_AGAIN = inside(f"ip link set eth0 up; rm -f {HELD}", privileged=True)
# sshd's processes for the connections that exist end, too: ssh would use them again.
REFUSES_THE_KEY = inside("mv /root/.ssh/authorized_keys /root/.ssh/away; pkill -f 'sshd.*: root' || true")
FAULTS = {
    "dies": Fault(DIES, IS_STARTED, "unreachable"),
    "dies_while_it_builds": Fault(in_build(DIES), IS_STARTED, "unreachable"),
    "loses_its_network": Fault(LOSES_ITS_NETWORK, HAS_IT_AGAIN, "unreachable"),
    "loses_its_network_while_it_builds": Fault(in_build(LOSES_ITS_NETWORK), HAS_IT_AGAIN, "unreachable"),
    "refuses_the_key": Fault(REFUSES_THE_KEY, inside("mv /root/.ssh/away /root/.ssh/authorized_keys"), "unreachable"),
    "has_a_full_disk": Fault(
        inside(
            f"mkdir -p {ROOT}/.builds; mount -t tmpfs -o size=16k,mode=755 none {ROOT}/.builds",
            privileged=True,
        ),
        inside(f"umount {ROOT}/.builds", privileged=True),
        error="No space left on device",
    ),
    "is_changed_by_another_run": Fault(
        hold_lock, inside("pkill -f 'sleep 987'"), error="is in use by an unknown process; waited 5 s."
    ),
    "loses_its_python": Fault(
        inside("mv /usr/bin/python3 /usr/bin/away"),
        inside("mv /usr/bin/away /usr/bin/python3"),
        error="/usr/bin/python3",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_stops_the_rest_and_is_named_and_the_next_run_does_what_is_missing(bare: Fleet, name: str) -> None:
    fault, fleet = FAULTS[name], bare
    before = fleet.prints([*OTHERS, "n09"])
    with fleet.during("drain", "n08", lambda: fault.happens(fleet)):
        run = fleet.play()
    assert run.code != 0, run.output
    expected = dict.fromkeys(OTHERS, "proven")
    assert fleet.states == {**expected, "n05": "proven", "n08": fault.state, "n09": "not_begun"}, run.output
    assert fault.error in fleet.errors["n08"]
    assert "n08" in run.output[run.output.index("Fleet of 10 nodes:") :]
    assert "still drained: n08; run the playbook again when the cause is mended" in run.output
    assert (fleet.asked(), fleet.drained) == (["drain n05", "drain n08", "undrain n05"], ["n08"])

    fault.mended(fleet)
    assert fleet.prints([*OTHERS, "n09"]) == before
    _is_whole(fleet, ["n05"])
    assert fleet.installed("n08") == []
    built = fleet.prints(["n05"])
    run = fleet.play()
    assert run.code == 0, run.output
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    assert fleet.asked() == ["drain n08", "undrain n08", "drain n09", "undrain n09"]
    assert (fleet.drained, fleet.prints(["n05"]), fleet.prints(OTHERS)) == (
        [],
        built,
        {host: before[host] for host in OTHERS},
    )
    _is_whole(fleet)


def test_node_that_answers_slowly_is_waited_for(bare: Fleet) -> None:
    fleet = bare

    def stands_still() -> None:
        threading.Thread(target=fleet.pause, args=("n08", 30.0)).start()

    with fleet.during("drain", "n08", stands_still):
        run = fleet.play()
    assert run.code == 0, run.output
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    _is_whole(fleet)


# --- The controller is killed --------------------------------------------------------------------------------


def _has_asked(fleet: Fleet, line: str) -> Callable[[], bool]:
    return lambda: (fleet.directory / "asked").exists() and line in (fleet.directory / "asked").read_text()


@pytest.mark.parametrize("word", ["drain", "undrain"])
def test_controller_is_killed_while_it_drains_or_undrains(bare: Fleet, word: str) -> None:
    fleet = bare
    before = fleet.prints([*OTHERS, "n09"])
    (fleet.directory / "at" / f"{word}-n08").write_text("sleep 600")
    said = fleet.play_killed(_has_asked(fleet, f"{word} n08"))
    assert "Fleet of" not in said
    asked = fleet.asked()
    assert fleet.prints([*OTHERS, "n09"]) == before
    assert {"n08"} <= set(fleet.drained) <= {"n05", "n08"}
    _no_node_is_forgotten(fleet, asked)
    run = fleet.play()
    assert run.code == 0, run.output
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    assert fleet.drained == []
    _no_node_is_forgotten(fleet, [*asked, *fleet.asked()])
    assert fleet.prints(OTHERS) == {host: before[host] for host in OTHERS}
    _is_whole(fleet)


def test_controller_is_killed_while_a_node_builds(bare: Fleet) -> None:
    fleet = bare
    before = fleet.prints([*OTHERS, "n09"])
    is_building = threading.Event()
    with fleet.during("drain", "n08", lambda: fleet.once_it_builds("n08", is_building.set)):
        fleet.play_killed(is_building.is_set)
    asked = fleet.asked()
    assert fleet.prints([*OTHERS, "n09"]) == before
    assert fleet.installed("n08") == []
    _no_node_is_forgotten(fleet, asked)
    fleet.inside("n08", f"rm {HELD}")
    run = fleet.play()
    assert run.code == 0, run.output
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    assert fleet.drained == []
    _is_whole(fleet)


def _no_node_is_forgotten(fleet: Fleet, asked: list[str]) -> None:
    """Every node that the scheduler has out of service is recorded."""
    last = {line.split()[1]: line.split()[0] for line in asked}
    assert {host for host, word in last.items() if word == "drain"} <= set(fleet.drained)
