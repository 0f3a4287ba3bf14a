"""Ten hosts by ssh, from bare to two releases, and then faults in the middle of runs (`make fleet-test`)."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests import needs
from tests.hosts.fleet import HELD, ROOT, Fleet, Host

# Ten containers with systemd, and two of them install the real TensorFlow: 15 to 30 minutes on two cores.
pytestmark = [pytest.mark.integration, pytest.mark.slow]

A100 = {"testhost_pci": "a100", "testhost_driver": {"version": "570.86.15"}}
T4 = {"testhost_pci": "t4", "testhost_driver": {"version": "570.86.15"}}
H100 = {"testhost_pci": "h100-nvswitch", "testhost_driver": {"version": "570.86.15", "kind": "open"}}
OLD = {"tensorflow_version": "2.15.1"}
BOTH = {"fleet_environments": [{"version": "2.15.1"}, {"version": "2.21.0"}]}
HOSTS = [
    Host("n01", "debian-12", {**OLD, **A100}),
    Host("n02", "debian-12", {**OLD, **A100}),
    Host("n03", "debian-12", {**BOTH, **T4}),
    Host("n04", "debian-12", OLD, is_real=True),
    Host("n05", "debian-12", OLD),
    Host("n06", "debian-12", A100),
    Host("n07", "debian-13", H100),
    Host("n08", "debian-13"),
    Host("n09", "debian-13", T4),
    Host("n10", "debian-13", is_real=True),
]
NAMES = [host.name for host in HOSTS]
WANTED = {
    name: {"n03": ["tensorflow-2.15.1", "tensorflow-2.21.0"]}.get(
        name, ["tensorflow-2.15.1" if name in ("n01", "n02", "n04", "n05") else "tensorflow-2.21.0"]
    )
    for name in NAMES
}
# One of each kind; those alike follow in batches of two and one.
CANARY = ["n01", "n03", "n04", "n06", "n07", "n08", "n09"]
BATCHES = [["n02", "n05"], ["n10"]]
COMMON = {
    "tensorflow_version": "2.21.0",
    "python_source": "found",
    "fleet_batches": [2, "100%"],
    "tensorflow_venv_lock_timeout": 5,
}
WITH_GPU = {host.name for host in HOSTS if "testhost_pci" in host.variables}
# A clock that is so many seconds ahead.
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *found) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int ended = real(clock, found);
    if (clock == CLOCK_REALTIME) found->tv_sec += AHEAD;
    return ended;
}
time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}
"""


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


def _is_whole(fleet: Fleet, hosts: list[str]) -> None:
    for host in hosts:
        assert fleet.installed(host) == WANTED[host], host
        assert fleet.leftovers(host) == [], host


# --- The way that it should go ------------------------------------------------------------------------------


def test_nothing_is_changed_if_nodes_cannot_have_it_or_are_not_reached(fleet: Fleet) -> None:
    before = fleet.prints(NAMES)
    fleet.write_inventory(n09={"tensorflow_gpu": "required", "tensorflow_version": "2.99"})
    fleet.inside("n08", "mv /root/.ssh/authorized_keys /root/.ssh/away")
    run = fleet.play()
    fleet.write_inventory()
    fleet.inside("n08", "mv /root/.ssh/away /root/.ssh/authorized_keys")
    assert run.code != 0, run.output
    assert fleet.states == {**dict.fromkeys(NAMES, "not_begun"), "n08": "unreachable", "n09": "failed"}
    assert "Nothing was changed on any node, because 2 of them cannot have what is asked for:" in run.output
    assert "not reached: n08" in run.output
    assert (fleet.asked(), fleet.drained, fleet.prints(NAMES)) == ([], [], before)


def test_from_bare_to_two_releases(fleet: Fleet) -> None:
    run = fleet.play()
    assert run.code == 0, run.output
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    assert "Fleet of 10 nodes: 10 proven" in run.output
    _is_whole(fleet, NAMES)
    asked = fleet.asked()
    # No batch begins before the one before it is back in service.
    for hosts in (CANARY, *BATCHES):
        drained, undrained = asked[: len(hosts)], asked[len(hosts) : 2 * len(hosts)]
        assert sorted(drained) == [f"drain {host}" for host in hosts]
        assert sorted(undrained) == [f"undrain {host}" for host in hosts]
        asked = asked[2 * len(hosts) :]
    assert (asked, fleet.drained) == ([], [])
    verdicts = {node["host"]: {one["verdict"] for one in node["environments"]} for node in fleet.summary["nodes"]}
    assert verdicts == {name: {"ok"} if name in WITH_GPU else {"cpu_only_no_gpu"} for name in NAMES}
    for host in ("n04", "n10"):
        program = "import tensorflow as tf; print(tf.sysconfig.get_build_info()['is_cuda_build'])"
        assert "True" in fleet.inside(host, f'{ROOT}/current/bin/python -c "{program}"'), "the real one"


def test_again_nothing_is_done(fleet: Fleet) -> None:
    before = fleet.prints(NAMES)
    run = fleet.play()
    assert run.code == 0, run.output
    assert set(run.changed.values()) == {0}
    assert (fleet.asked(), fleet.prints(NAMES)) == ([], before)


# --- Faults in the middle of a run --------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What happens to a host when it is drained, and how it is mended; what the summary says in between."""

    happens: Callable[[Fleet, str], object]
    mended: Callable[[Fleet, str], object]
    state: str = "failed"
    error: str = ""


def inside(script: str, *, privileged: bool = False) -> Callable[[Fleet, str], object]:
    return lambda fleet, host: fleet.inside(host, script, privileged=privileged)


def in_build(happens: Callable[[Fleet, str], object]) -> Callable[[Fleet, str], object]:
    return lambda fleet, host: fleet.once_it_builds(host, lambda: happens(fleet, host))


def hold_lock(fleet: Fleet, host: str) -> None:
    fleet.inside(host, f"mkdir -p {ROOT}/.locks")
    fleet.start_inside(host, "flock", f"{ROOT}/.locks/tensorflow-2.21.0", "sleep", "987")


FULL = f"mkdir -p {ROOT}/.builds; mount -t tmpfs -o size=16k,mode=755 none {ROOT}/.builds"
# sshd's processes for the connections that exist end, too: ssh would use them again.
NO_KEY = "mv /root/.ssh/authorized_keys /root/.ssh/away; pkill -f 'sshd.*: root' || true"
FAULTS = {
    # It dies.
    "n01": Fault(Fleet.kill, Fleet.restart, "unreachable"),
    # It loses its network while it builds the first of two environments.
    "n03": Fault(
        in_build(inside("ip link set eth0 down", privileged=True)),
        inside(f"ip link set eth0 up; rm -f {HELD}", privileged=True),
        "unreachable",
    ),
    "n05": Fault(
        inside(FULL, privileged=True),
        inside(f"umount {ROOT}/.builds", privileged=True),
        error="No space left on device",
    ),
    # Another run changes the same environment.
    "n06": Fault(hold_lock, inside("pkill -f 'sleep 987'"), error="is in use by an unknown process; waited 5 s."),
    "n07": Fault(inside(NO_KEY), inside("mv /root/.ssh/away /root/.ssh/authorized_keys"), "unreachable"),
    # It dies while it builds.
    "n08": Fault(in_build(Fleet.kill), Fleet.restart, "unreachable"),
    "n09": Fault(
        inside("mv /usr/bin/python3 /usr/bin/away"),
        inside("mv /usr/bin/away /usr/bin/python3"),
        error="/usr/bin/python3",
    ),
}
# A Python that answers each module with a record that is none.
LIAR = """#!/bin/sh
echo '{"node": {}}'
"""
UNTOUCHED = ["n02", "n04", "n10"]


def test_each_fault_is_named_and_stops_the_rest(fleet: Fleet) -> None:
    """All of the canary at once, each with its own; n02 is bare as well, and waits for n01."""
    for host in [*FAULTS, "n02"]:
        fleet.forget(host)
    before = fleet.prints(UNTOUCHED)
    fleet.during("drain", {host: lambda host=host: FAULTS[host].happens(fleet, host) for host in FAULTS})
    run = fleet.play()
    fleet.check_injected()
    assert run.code != 0, run.output
    assert fleet.states == {
        **{host: fault.state for host, fault in FAULTS.items()},
        "n02": "not_begun",
        "n04": "proven",
        "n10": "proven",
    }, run.output
    summary = run.output[run.output.index("Fleet of 10 nodes:") :]
    for host, fault in FAULTS.items():
        assert fault.error in fleet.errors[host]
        assert host in summary
    assert "still drained: n01, n03, n05, n06, n07, n08, n09; run the playbook again" in summary
    assert (sorted(fleet.asked()), fleet.drained) == ([f"drain {host}" for host in FAULTS], list(FAULTS))

    for host, fault in FAULTS.items():
        fault.mended(fleet, host)
    assert fleet.prints(UNTOUCHED) == before
    for host in FAULTS:
        # What n03 was building when it lost its network may come to its end there.
        assert fleet.installed(host) in ([], ["tensorflow-2.15.1"] if host == "n03" else [])


def test_a_canary_that_is_lost_stops_the_rest(fleet: Fleet) -> None:
    """Nothing fails but the connection, which Ansible does not count for max_fail_percentage."""
    fleet.during("drain", {"n01": lambda: fleet.kill("n01")})
    run = fleet.play("--limit", "n01,n02,n05")
    fleet.check_injected()
    fleet.restart("n01")
    assert run.code != 0, run.output
    assert fleet.states == {"n01": "unreachable", "n02": "not_begun", "n05": "proven"}
    assert "these nodes of the batch were lost: n01." in " ".join(run.output.split())
    assert sorted(fleet.asked()) == ["drain n01", "drain n05", "undrain n05"]
    assert fleet.installed("n02") == []


def test_the_next_run_does_what_is_missing_although_clocks_are_wrong_and_a_node_is_slow(fleet: Fleet) -> None:
    needs.require("gcc")
    before = fleet.prints(["n04", "n10"])
    for host, ahead in (("n06", 400 * 86400), ("n08", -400 * 86400)):
        library = fleet.directory / "wheels" / f"clock-{host}.so"
        build = ["gcc", "-shared", "-fPIC", f"-DAHEAD={ahead}", "-x", "c", "-", "-o", str(library), "-ldl"]
        subprocess.run(build, input=CLOCK, text=True, check=True)
        fleet.inside(host, f"echo LD_PRELOAD=/srv/fleet/wheels/clock-{host}.so >> /etc/environment")
    slow = threading.Thread(target=fleet.pause, args=("n09", 30.0))
    fleet.during("drain", {"n09": slow.start})
    run = fleet.play()
    fleet.check_injected()
    slow.join()
    for host in ("n06", "n08"):
        fleet.inside(host, "sed -i /LD_PRELOAD/d /etc/environment")
    assert run.code == 0, run.output
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    assert {line.split()[1] for line in fleet.asked()} == {*FAULTS, "n02"} - {"n05"}
    assert (fleet.drained, fleet.prints(["n04", "n10"])) == ([], before)
    _is_whole(fleet, NAMES)
    run = fleet.play()
    assert (run.code, fleet.asked()) == (0, []), run.output


def test_records_that_lie_are_not_believed(fleet: Fleet) -> None:
    """n02 says that its environment is proven, and has lost its TensorFlow; n08 answers with something else."""
    package = f"{ROOT}/tensorflow-2.15.1/lib/python3.11/site-packages/tensorflow/__init__.py"
    fleet.inside("n02", f"echo > {package}")
    fleet.inside("n08", f"mv /usr/bin/python3 /usr/bin/away; cat > /usr/bin/python3 <<'EOF'\n{LIAR}EOF")
    fleet.inside("n08", "chmod +x /usr/bin/python3")
    before = fleet.prints([name for name in NAMES if name != "n08"])
    run = fleet.play()
    assert run.code != 0, run.output
    assert "Traceback" not in run.output
    assert (fleet.states["n02"], fleet.states["n08"]) == ("not_begun", "failed")
    assert fleet.prints([name for name in NAMES if name != "n08"]) == before
    run = fleet.play(fleet_skip_refused=True)
    assert run.code != 0, run.output
    assert fleet.states == {**dict.fromkeys(NAMES, "proven"), "n08": "failed"}
    assert sorted(fleet.asked()) == ["drain n02", "undrain n02"]
    fleet.inside("n08", "rm /usr/bin/python3; mv /usr/bin/away /usr/bin/python3")
    _is_whole(fleet, NAMES)


# --- The controller is killed -------------------------------------------------------------------------------


def test_controller_is_killed_while_it_drains_builds_and_undrains(fleet: Fleet) -> None:
    """Three runs, each ended by SIGKILL, and a fourth one that comes to its end."""
    for host in ("n05", "n08"):
        fleet.forget(host)
    others = [name for name in NAMES if name not in ("n05", "n08")]
    before = fleet.prints(others)
    asked: list[str] = []

    def killed(when: Callable[[], bool]) -> None:
        assert "Fleet of" not in fleet.play_killed(when)
        asked.extend(fleet.asked())
        # Every node that the scheduler has out of service is recorded.
        last = {line.split()[1]: line.split()[0] for line in asked}
        assert {host for host, word in last.items() if word == "drain"} <= set(fleet.drained)
        assert fleet.prints(others) == before

    fleet.hang("drain", "n08")
    killed(lambda: fleet.has_asked("drain n08"))
    assert fleet.installed("n08") == []

    is_building = threading.Event()
    fleet.during("drain", {"n08": lambda: fleet.once_it_builds("n08", is_building.set)})
    killed(is_building.is_set)
    assert fleet.installed("n08") == []
    fleet.inside("n08", f"rm {HELD}")

    fleet.hang("undrain", "n08")
    killed(lambda: fleet.has_asked("undrain n08"))
    assert "n08" in fleet.drained

    run = fleet.play()
    assert run.code == 0, run.output
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    assert fleet.asked()[-1] == "undrain n08"
    assert (fleet.drained, fleet.prints(others)) == ([], before)
    _is_whole(fleet, NAMES)
