"""Ten hosts by ssh, from bare to two releases, and then faults in the middle of runs (`make fleet-test`).

Each test finds the fleet whole and leaves it whole, so that each can be run alone. All are judged by what is true
afterwards on every node.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.hosts.fleet import HELD, ROOT, Fleet, Host

# Ten containers with systemd, and two of them install the real TensorFlow: an hour on two cores at a load of 15.
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
    Host("n05", "debian-12", {**OLD, **A100}),
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
# One of each kind; those alike follow in batches of one and two.
CANARY = ["n01", "n03", "n04", "n06", "n07", "n08", "n09"]
BATCHES = [["n02"], ["n05", "n10"]]
COMMON = {
    "tensorflow_version": "2.21.0",
    "python_source": "found",
    "fleet_batches": [1, "100%"],
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


@pytest.fixture
def whole(fleet: Fleet) -> None:
    """Every host has what the inventory asks for, and nothing is about to happen to any."""
    fleet.forget_injected()
    if not fleet.is_whole:
        run = fleet.play()
        assert run.code == 0, run.output
    fleet.is_whole = False
    fleet.asked()


def whole_prints(fleet: Fleet, hosts: list[str] = NAMES) -> dict[str, str]:
    """The prints of hosts that have what the inventory asks for, and nothing else."""
    found = {host: fleet.look(host) for host in hosts}
    assert {host: one.installed for host, one in found.items()} == {host: WANTED[host] for host in hosts}
    assert [one.leftovers for one in found.values() if one.leftovers] == []
    fleet.is_whole = len(hosts) == len(NAMES)
    return {host: one.digest for host, one in found.items()}


def but(*hosts: str) -> list[str]:
    return [name for name in NAMES if name not in hosts]


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
    whole_prints(fleet)
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


def test_again_nothing_is_done(fleet: Fleet, whole: None) -> None:
    before = fleet.prints(NAMES)
    run = fleet.play()
    assert run.code == 0, run.output
    assert set(run.changed.values()) == {0}
    assert (fleet.asked(), whole_prints(fleet)) == ([], before)


# --- Faults in the middle of a run --------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What happens to a host when it is drained, and how it is repaired; what the report says in between."""

    host: str
    happens: Callable[[Fleet, str], object]
    repaired: Callable[[Fleet, str], object] = lambda fleet, host: None
    state: str = "failed"
    error: str = ""
    # What may have come to its end on the host.
    built: tuple[str, ...] = ()


def inside(script: str, *, privileged: bool = False) -> Callable[[Fleet, str], object]:
    return lambda fleet, host: fleet.inside(host, script, privileged=privileged)


def in_build(happens: Callable[[Fleet, str], object]) -> Callable[[Fleet, str], object]:
    return lambda fleet, host: fleet.once_it_builds(host, lambda: happens(fleet, host))


def hold_lock(fleet: Fleet, host: str) -> None:
    fleet.inside(host, f"mkdir -p {ROOT}/.locks")
    fleet.start_inside(host, "flock", f"{ROOT}/.locks/tensorflow-2.21.0", "sleep", "987")


def connect_again(fleet: Fleet, host: str) -> None:
    """What was built meanwhile comes to its end."""
    fleet.inside(host, "ip link set eth0 up", privileged=True)
    fleet.inside(host, f"rm -f {HELD}; flock --timeout 120 {ROOT}/.locks/tensorflow-2.15.1 true")
    fleet.wait_for_ssh(host)


def show_second_gpu(fleet: Fleet, host: str) -> None:
    """Its kernel lists a GPU that is gone as soon as something is built for it."""
    bus = fleet.directory / "stand-ins" / host / "pci"
    first = next(bus.iterdir())
    second = bus / "0000:ff:00.0"
    shutil.copytree(first, second, symlinks=True)

    def vanish() -> None:
        shutil.rmtree(second)
        fleet.inside(host, f"rm {HELD}")

    fleet.once_it_builds(host, vanish)


# A pattern that does not find the shell that runs it.
END_CONNECTIONS = "pkill -f '[s]shd.*: root' || true"
FULL = f"mkdir -p {ROOT}/.builds; mount -t tmpfs -o size=16k,mode=755 none {ROOT}/.builds"
FAULTS = {
    "the canary dies": Fault("n01", Fleet.kill, Fleet.restart, "unreachable"),
    "a node of a batch dies": Fault("n02", Fleet.kill, Fleet.restart, "unreachable"),
    "it dies while it builds": Fault("n08", in_build(Fleet.kill), Fleet.restart, "unreachable"),
    "it loses its network while it builds the first of two": Fault(
        "n03",
        in_build(inside("ip link set eth0 down", privileged=True)),
        connect_again,
        "unreachable",
        built=("tensorflow-2.15.1",),
    ),
    "its disk is full": Fault(
        "n06",
        inside(FULL, privileged=True),
        inside(f"umount {ROOT}/.builds", privileged=True),
        error="is full: free some space there.",
    ),
    "another run changes the same environment": Fault(
        "n07", hold_lock, inside("pkill -f 'sleep [9]87'"), error="(sleep); waited 5 s."
    ),
    # ssh would use a connection that exists.
    "it refuses the key": Fault(
        "n09",
        inside(f"mv /root/.ssh/authorized_keys /root/.ssh/away; {END_CONNECTIONS}"),
        inside("mv /root/.ssh/away /root/.ssh/authorized_keys"),
        "unreachable",
    ),
    "it has no Python any more": Fault(
        "n06",
        inside("mv /usr/bin/python3 /usr/bin/away"),
        inside("mv /usr/bin/away /usr/bin/python3"),
        error="/usr/bin/python3",
    ),
    "it has a GPU less than it said": Fault("n09", show_second_gpu, error="GPU", built=("tensorflow-2.21.0",)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named_and_stops_the_rest_and_the_next_run_does_what_is_missing(
    fleet: Fleet, whole: None, name: str
) -> None:
    """n01 is of the same canary and is done. The host that waits is bare too, and is not begun."""
    fault = FAULTS[name]
    host, waiting = fault.host, "n05" if fault.host == "n02" else "n02"
    for bare in {host, waiting, "n01"}:
        fleet.forget(bare)
    others = but(host, waiting, "n01")
    before = fleet.prints(others)
    fleet.during("drain", {host: lambda: fault.happens(fleet, host)})
    try:
        run = fleet.play()
        fleet.check_injected()
    finally:
        fault.repaired(fleet, host)
    assert run.code != 0, run.output
    assert fleet.states == {**dict.fromkeys(NAMES, "proven"), host: fault.state, waiting: "not_begun"}, run.output
    said = fleet.node(host)
    assert fault.error in (said["error"] or ""), run.output
    assert said["cause"] and said["next_step"] and said["drained_since"]
    assert f"still drained: {host}; run the playbook again" in run.output[run.output.index("Fleet of 10 nodes:") :]
    done = ["n01"] if host != "n01" else []
    words = [f"drain {host}", *(f"{word} {one}" for word in ("drain", "undrain") for one in done)]
    assert (sorted(fleet.asked()), fleet.drained) == (sorted(words), [host])
    # Nothing is half live.
    assert fleet.installed(host) in ([], [*fault.built])
    assert fleet.installed(waiting) == []
    assert fleet.prints(others) == before
    before.update(whole_prints(fleet, done))

    run = fleet.play()
    assert run.code == 0, run.output
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    assert ({line.split()[1] for line in fleet.asked()}, fleet.drained) == ({host, waiting}, [])
    assert whole_prints(fleet).items() >= before.items()


def test_clocks_that_are_wrong_and_a_node_that_is_slow_are_no_fault(fleet: Fleet, whole: None) -> None:
    needs.require("gcc")
    clocks = {"n06": 400 * 86400, "n08": -400 * 86400}
    for host in (*clocks, "n09"):
        fleet.forget(host)
    before = fleet.prints(but(*clocks, "n09"))
    for host, ahead in clocks.items():
        library = fleet.directory / "wheels" / f"clock-{host}.so"
        build = ["gcc", "-shared", "-fPIC", f"-DAHEAD={ahead}", "-x", "c", "-", "-o", str(library), "-ldl"]
        subprocess.run(build, input=CLOCK, text=True, check=True)
        fleet.inside(host, f"echo LD_PRELOAD=/srv/fleet/wheels/{library.name} >> /etc/environment; {END_CONNECTIONS}")
        assert abs(int(fleet.ssh(host, "date +%s") or 0) - time.time()) > 300 * 86400
    slow = threading.Thread(target=fleet.pause, args=("n09", 30.0))
    fleet.during("drain", {"n09": slow.start})
    try:
        run = fleet.play()
        fleet.check_injected()
        again = fleet.play()
    finally:
        slow.join()
        for host in clocks:
            fleet.inside(host, f"sed -i /LD_PRELOAD/d /etc/environment; {END_CONNECTIONS}")
    for ended in (run, again):
        assert ended.code == 0, ended.output
    assert set(again.changed.values()) == {0}
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    assert ({line.split()[1] for line in fleet.asked()}, fleet.drained) == ({*clocks, "n09"}, [])
    assert whole_prints(fleet).items() >= before.items()


# A Python that answers each module with a record that is none.
LIAR = """#!/bin/sh
echo '{"node": {}}'
"""


def test_records_that_lie_are_not_believed(fleet: Fleet, whole: None) -> None:
    """n02 says that its environment is proven, and has lost its TensorFlow; n08 answers with something else."""
    package = f"{ROOT}/tensorflow-2.15.1/lib/python3.11/site-packages/tensorflow/__init__.py"
    fleet.inside("n02", f"echo > {package}")
    fleet.inside("n08", f"mv /usr/bin/python3 /usr/bin/away; cat > /usr/bin/python3 <<'EOF'\n{LIAR}EOF")
    fleet.inside("n08", "chmod +x /usr/bin/python3")
    before = fleet.prints(but("n08"))
    try:
        refused = fleet.play()
        states, prints = fleet.states, fleet.prints(but("n08"))
        run = fleet.play(fleet_skip_refused=True)
    finally:
        fleet.inside("n08", "rm /usr/bin/python3; mv /usr/bin/away /usr/bin/python3")
    assert refused.code != 0, refused.output
    assert "Traceback" not in refused.output
    assert states == {**dict.fromkeys(NAMES, "proven"), "n02": "not_begun", "n08": "failed"}
    assert prints == before
    assert run.code != 0, run.output
    assert fleet.states == {**dict.fromkeys(NAMES, "proven"), "n08": "failed"}
    assert sorted(fleet.asked()) == ["drain n02", "undrain n02"]
    whole_prints(fleet)


# --- The controller is killed -------------------------------------------------------------------------------

MOMENTS = ["drains", "builds", "undrains"]


@pytest.mark.parametrize(("moment", "host"), [*((moment, "n01") for moment in MOMENTS), ("builds", "n02")])
def test_controller_is_killed(fleet: Fleet, whole: None, moment: str, host: str) -> None:
    """In the canary or in a batch. What another run finds is named; it does only what is missing."""
    bare = ["n01", "n02", "n05"]
    for one in bare:
        fleet.forget(one)
    others = but(*bare)
    before = fleet.prints(others)
    if moment == "builds":
        is_reached = threading.Event()
        fleet.during("drain", {host: lambda: fleet.once_it_builds(host, is_reached.set)})
        said = fleet.play_killed(is_reached.is_set)
    else:
        word = moment[: -len("s")]
        fleet.hang(word, host)
        said = fleet.play_killed(lambda: fleet.has_asked(f"{word} {host}"))
    assert "Fleet of" not in said
    done = ["n01"] if host != "n01" else []
    asked = [f"{word} {one}" for one in done for word in ("drain", "undrain")] + [f"drain {host}"]
    assert fleet.asked() == [*asked, *([f"undrain {host}"] if moment == "undrains" else [])]
    assert fleet.drained == [host]
    assert fleet.installed(host) == (WANTED[host] if moment == "undrains" else [])
    assert all(fleet.installed(one) == [] for one in bare if one not in (*done, host))
    assert fleet.prints(others) == before

    # From the records alone.
    report = fleet.play(playbook="report")
    assert report.code != 0
    assert f"still drained: {host}; run the playbook again" in report.output
    rest = [one for one in bare if one not in (*done, host)]
    assert fleet.states == {
        **dict.fromkeys([*others, *done], "proven"),
        # Its report was written when it was checked, before it was to be undrained.
        host: "proven" if moment == "undrains" else "unfinished",
        **dict.fromkeys(rest, "not_begun"),
    }

    # What the node was building comes to its end there.
    fleet.inside(
        host, f"rm -f {HELD}; mkdir -p {ROOT}/.locks; flock --timeout 120 {ROOT}/.locks/tensorflow-2.15.1 true"
    )
    before.update(whole_prints(fleet, done))
    run = fleet.play()
    assert run.code == 0, run.output
    assert fleet.states == dict.fromkeys(NAMES, "proven")
    assert ({line.split()[1] for line in fleet.asked()}, fleet.drained) == ({host, *rest}, [])
    assert whole_prints(fleet).items() >= before.items()


# --- Reboots ------------------------------------------------------------------------------------------------

# What looks like a kernel, and says that it has the driver's module.
KERNEL = r"""
mkdir -p /lib/modules/6.1.0-1-amd64
touch /boot/vmlinuz-6.1.0-1-amd64
rm /sbin/modinfo
printf '#!/bin/sh\necho "version:        570.86.15"\necho "license:        NVIDIA"\n' > /sbin/modinfo
chmod +x /sbin/modinfo
"""
NEEDS_REBOOT: dict[str, Any] = {
    "nvidia_driver_kernel_result": {
        "changed": False,
        "reboot_required": True,
        "reboot_reasons": ["nouveau is loaded"],
        "machine": {"boot_id": "of a node", "machine_id": None},
    },
    # With which it looks at the kernel side after its reboot.
    "nvidia_driver_plan": {
        "driver": {"kernel_modules": "proprietary", "fabric_manager": False, "kernels": ["6.1.0-1-amd64"]}
    },
    "nvidia_driver_result": {"version": "570.86.15-1", "packages": [], "changed": False, "pending": False},
}


def test_reboots_only_with_permission_one_batch_at_a_time_and_never_the_controller(fleet: Fleet, whole: None) -> None:
    """The canary and the two batches after it need a reboot. n05 says that it is the controller."""
    bare = ["n01", "n02", "n05"]
    for host in bare:
        fleet.forget(host)
        fleet.inside(host, KERNEL)
    before = fleet.prints(but(*bare))
    here = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    kernel_side = {**NEEDS_REBOOT["nvidia_driver_kernel_result"], "machine": {"boot_id": here, "machine_id": None}}
    fleet.write_inventory(
        n01=NEEDS_REBOOT, n02=NEEDS_REBOOT, n05={**NEEDS_REBOOT, "nvidia_driver_kernel_result": kernel_side}
    )
    is_over = threading.Event()

    def power() -> None:
        """Containers that shut down start again, as machines do."""
        while not is_over.wait(0.5):
            for host in bare:
                if not fleet.is_running(host):
                    fleet.note(f"reboot {host}")
                    fleet.restart(host)

    thread = threading.Thread(target=power)
    thread.start()
    try:
        without = fleet.play()
        asked, states, drained = fleet.asked(), fleet.states, fleet.drained
        # Of one kind with the two others again.
        fleet.forget("n01")
        run = fleet.play(nvidia_driver_reboot=True)
    finally:
        is_over.set()
        thread.join()
        fleet.write_inventory()
    assert without.code != 0, without.output
    assert "Reboot the node and run again, or set nvidia_driver_reboot to true." in without.output
    assert (asked, drained) == (["drain n01"], ["n01"])
    assert states == {**dict.fromkeys(NAMES, "proven"), "n01": "failed", "n02": "not_begun", "n05": "not_begun"}

    assert run.code != 0, run.output
    assert "it is the machine that runs this play" in " ".join(run.output.split())
    rebooted = [f"{word} {host}" for host in ("n01", "n02") for word in ("drain", "reboot", "undrain")]
    assert fleet.asked() == [*rebooted, "drain n05"]
    assert fleet.states == {**dict.fromkeys(NAMES, "proven"), "n05": "failed"}
    assert fleet.drained == ["n05"]

    # Somebody has rebooted it.
    run = fleet.play()
    assert run.code == 0, run.output
    # Verdicts of the two others are of the boot before, so they may be checked again.
    assert "undrain n05" in fleet.asked()
    assert fleet.drained == []
    assert whole_prints(fleet).items() >= before.items()
