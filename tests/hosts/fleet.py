"""A fleet of test hosts: each has an address of its own and is reached by ssh, with a key made for it.

Most hosts have a double of TensorFlow (`TENSORFLOW`), which is installed in a second. It computes nothing: it answers
the check itself. The others have the real one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.tensorflow_stack.records import lockfile

from tests.hosts import stand_ins
from tests.hosts.engine import Engine
from tests.playbooks import ANSIBLE_PLAYBOOK, REPOSITORY, Run, kill_everything_about, run_playbook
from tests.wheels import make_tensorflow, make_wheel

CACHE = REPOSITORY / ".cache" / "molecule"
SHIPPED_LOCKS = REPOSITORY / "roles" / "tensorflow_release" / "files" / "locks"
PLACES = {"pci": "/sys/bus/pci/devices", "module": "/sys/module", "driver": "/proc/driver"}
ROOT = "/opt/tensorflow"
# Of the double: while this file exists, importing TensorFlow does not end.
HELD = "/run/hold_import"

# What Found has.
LOOK = f"""
for link in {ROOT}/*; do
    [ -e "$link/build.json" ] && [ "$link" != {ROOT}/current ] && echo "live $link"
done
for build in {ROOT}/.builds/*/; do
    [ -d "$build" ] && [ ! -e "$build/build.json" ] && echo "left $build"
done
find {ROOT} /etc /usr/local -not -path '{ROOT}/.tools*' -not -path '{ROOT}/.cache*' \\
    -printf '%p %T@ %s %l\\n' 2>/dev/null | sort | sha256sum
"""
# The double of TensorFlow, in the check's own process, lists a GPU for each of the node and calls every stage right.
TENSORFLOW = f"""
import glob, os, sys, time, types
while os.path.exists("{HELD}"):
    time.sleep(0.1)
executing_eagerly = lambda: True
sysconfig = types.SimpleNamespace()
check = sys.modules.get("check.main")
if check:
    def list_devices():
        classes = [open(path).read()[:6] for path in glob.glob("/sys/bus/pci/devices/*/class")]
        gpus = classes.count("0x0300") + classes.count("0x0302")
        gpus = 0 if os.environ.get("CUDA_VISIBLE_DEVICES") == "-1" else gpus
        names = ["/device:CPU:0"] + ["/device:GPU:%d" % index for index in range(gpus)]
        return {{"devices": [{{"name": name, "type": name[8:11], "description": "a double"}} for name in names]}}
    check.list_devices = list_devices
    check.start_devices = lambda: 0
    check.all_reduce = lambda gpus: {{}}
    check.DEVICE_STAGES = dict.fromkeys(check.DEVICE_STAGES, lambda device: {{}})
"""
# Of the controller's side: writes down what it is asked for, and does once what a test wants at that moment.
SCHEDULER = """#!/bin/bash
cd {directory}
echo "$1 $2" >> asked
if [ -e "at/$1-$2" ]; then
    mv "at/$1-$2" "at/.done-$1-$2"
    exec bash "at/.done-$1-$2"
fi
"""
HOOK = """
- name: Ask the double of a scheduler
  ansible.builtin.command:
    argv: [{directory}/scheduler, {word}, "{{{{ inventory_hostname }}}}"]
  delegate_to: localhost
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"
  changed_when: true
"""


def make_doubles(wheels: Path, locks: Path, *releases: str) -> None:
    """Wheels of doubles for which the check succeeds, and locks of these alone."""
    wheels.mkdir()
    numpy = make_wheel(wheels, "numpy", "1.26.4", {"numpy/__init__.py": "__version__ = '1.26.4'\n"})
    for release in releases:
        double = make_tensorflow(wheels, release, TENSORFLOW)
        for path in (SHIPPED_LOCKS / f"tensorflow-{release}").glob("cp3*-linux_x86_64-*.txt"):
            lock = lockfile.parse_lock(path.read_text(), path=str(path))
            lock = dataclasses.replace(lock, distributions=(numpy, double), constraints=())
            lockfile.write_lock(str(locks / path.parent.name / path.name), lock)


@dataclass(frozen=True)
class Host:
    """A host to make; `variables` are those of the inventory, those of stand_ins.py among them."""

    name: str
    image: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    is_real: bool = False


@dataclass(frozen=True)
class Found:
    """What is on a host."""

    # Environments that are live: the links of its root, each of which is to a complete build.
    installed: list[str]
    # Builds that no run has completed.
    leftovers: list[str]
    # Of every file that a run may change, with the time of its change.
    digest: str


@dataclass
class Injected:
    """What a test does to a host when the scheduler is asked about it."""

    host: str
    action: Callable[[], object]
    reached: Path
    done: Path
    outcome: str = "never reached"

    def act(self) -> None:
        while not self.reached.exists():
            time.sleep(0.1)
        try:
            self.action()
            self.outcome = "done"
        except Exception as error:
            self.outcome = repr(error)
        self.done.touch()


class Fleet:
    def __init__(self, directory: Path, hosts: Sequence[Host], common: Mapping[str, Any]) -> None:
        self.directory = directory
        self.hosts = {host.name: host for host in hosts}
        digest = hashlib.sha256(str(REPOSITORY).encode()).digest()
        self._label = f"testhost-fleet-{digest.hex()[:4]}"
        self._subnet = f"10.213.{digest[0]}"
        self._engine = Engine(CACHE)
        self._common = dict(common)
        self._injected: list[Injected] = []
        # A test has seen that every host has what the inventory asks for.
        self.is_whole = False
        self.reports = directory / "reports"

    # --- Making -----------------------------------------------------------------------------------------

    def start(self) -> str | None:
        """Why there can be no fleet here; None when its hosts run and answer."""
        tags, missing = self._engine.prepare({host.image for host in self.hosts.values()})
        if missing:
            return "; ".join(missing.values())
        self.stop()
        self._podman("network", "create", f"--subnet={self._subnet}.0/24", self._label)
        self._make_files()
        for number, host in enumerate(self.hosts.values()):
            self._run(host, self._address(number), tags[host.image])
        for name in self.hosts:
            self.wait_for(name, "systemctl is-system-running --wait")
            self.place(name)
        known = "".join(self._known(name, number) for number, name in enumerate(self.hosts))
        (self.directory / "known_hosts").write_text(known)
        return None

    def stop(self) -> None:
        self._engine.remove(self._label)
        self._podman("network", "rm", "--force", self._label, check=False)

    def _make_files(self) -> None:
        key = self.directory / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        (self.directory / "at").mkdir()
        scheduler = self.directory / "scheduler"
        scheduler.write_text(SCHEDULER.format(directory=self.directory))
        scheduler.chmod(0o755)
        for word in ("drain", "undrain"):
            (self.directory / f"{word}.yml").write_text(HOOK.format(directory=self.directory, word=word))
        make_doubles(self.directory / "wheels", self.directory / "double_locks", "2.15.1", "2.21.0")
        self.write_inventory()

    def write_inventory(self, **variables: Mapping[str, Any]) -> None:
        """The inventory, with further variables of single hosts."""
        common = {
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(self.directory / "id_ed25519"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.directory}/known_hosts",
            "stack_report_directory": str(self.reports),
            "fleet_drain_tasks": str(self.directory / "drain.yml"),
            "fleet_undrain_tasks": str(self.directory / "undrain.yml"),
            **self._common,
        }
        double = {
            "tensorflow_index_url": "file:///srv/fleet/wheels",
            "tensorflow_release_locks": str(self.directory / "double_locks"),
            "tensorflow_offline": False,
        }
        hosts = {
            host.name: {
                "ansible_host": self._address(number),
                **({} if host.is_real else double),
                **host.variables,
                **variables.get(host.name, {}),
            }
            for number, host in enumerate(self.hosts.values())
        }
        inventory = {"all": {"vars": common, "hosts": hosts}}
        (self.directory / "hosts.yml").write_text(yaml.safe_dump(inventory, sort_keys=False))

    def _run(self, host: Host, address: str, tag: str) -> None:
        stand_ins.write(self.directory / "stand-ins" / host.name, host.variables)
        mounts = {
            self.directory / "stand-ins" / host.name: "/srv/stand-ins:ro",
            self.directory / "wheels": "/srv/fleet/wheels:ro",
            REPOSITORY / ".tools": f"{ROOT}/.tools:ro",
        }
        if host.is_real:
            cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
            cache.mkdir(parents=True, exist_ok=True)
            mounts[cache] = f"{ROOT}/.cache/uv"
        volumes = [f"--volume={path}:{place}" for path, place in mounts.items()]
        names = [f"--name={self.container(host.name)}", f"--hostname={host.name}", f"--label={self._label}"]
        network = [f"--network={self._label}", f"--ip={address}"]
        self._podman("run", "--detach", "--systemd=always", *names, *network, *volumes, tag)

    def place(self, host: str) -> None:
        """Mounts the stand-ins, which disappear when a container ends, and lets the key in; each start is a boot."""
        made = self.directory / "stand-ins" / host
        boot_id = "/proc/sys/kernel/random/boot_id"
        self.inside(
            host,
            f"cat /proc/sys/kernel/random/uuid > /root/boot-id; mount --bind /root/boot-id {boot_id}",
            privileged=True,
        )
        for name, place in PLACES.items():
            if (made / name).is_dir():
                self.inside(host, f"mount --bind /srv/stand-ins/{name} {place}", privileged=True)
        if "testhost_pci" in self.hosts[host].variables:
            self.inside(host, "for index in 0 1 2 3 4 5 6 7; do touch /dev/nvidia$index; done")
        driver = self.hosts[host].variables.get("testhost_driver")
        if driver:
            # What counts is its name; any library of the loader's will do.
            libraries = "/usr/lib/x86_64-linux-gnu"
            libcuda = f"{libraries}/libcuda.so.{driver['version']}"
            self.inside(
                host,
                f"cp -L {libraries}/libdl.so.2 {libcuda}; ln -sf {libcuda} {libraries}/libcuda.so.1; ldconfig",
            )
        # Last, and in a place that a boot empties: nobody sees the host as it is before that.
        public = (self.directory / "id_ed25519.pub").read_text().strip()
        self.inside(
            host,
            f"umask 077; mkdir -p /root/.ssh; echo '{public}' > /run/authorized_keys; "
            "ln -sf /run/authorized_keys /root/.ssh/authorized_keys",
        )

    def _known(self, host: str, number: int) -> str:
        key = " ".join(self.inside(host, "cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
        return f"{self._address(number)} {key}\n"

    def _address(self, number: int) -> str:
        return f"{self._subnet}.{number + 11}"

    @property
    def gateway(self) -> str:
        """The address of this machine that the hosts reach."""
        return f"{self._subnet}.1"

    # --- Using ------------------------------------------------------------------------------------------

    def container(self, host: str) -> str:
        return f"{self._label}-{host}"

    def inside(self, host: str, script: str, *, privileged: bool = False, check: bool = True) -> str:
        options = ["--privileged"] if privileged else []
        return self._podman("exec", *options, self.container(host), "sh", "-c", script, check=check)

    def wait_for(self, host: str, script: str, seconds: float = 90) -> None:
        """Until the script ends well on the host."""
        deadline = time.monotonic() + seconds
        while self.inside(host, f"({script}) >/dev/null 2>&1 && echo yes", check=False).strip() != "yes":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{host}: {script}")
            time.sleep(0.2)

    def during(self, word: str, actions: Mapping[str, Callable[[], object]]) -> None:
        """Has the scheduler wait, once, when it is asked about a host, until the host's action is done."""
        self._injected = []
        for host, action in actions.items():
            reached, done = (self.directory / f"{name}-{host}" for name in ("reached", "done"))
            for path in (reached, done):
                path.unlink(missing_ok=True)
            script = f"touch {reached}; until [ -e {done} ]; do sleep 0.1; done"
            (self.directory / "at" / f"{word}-{host}").write_text(script)
            injected = Injected(host, action, reached, done)
            threading.Thread(target=injected.act, daemon=True).start()
            self._injected.append(injected)

    def forget_injected(self) -> None:
        for path in (self.directory / "at").glob("*"):
            path.unlink()

    def check_injected(self) -> None:
        """That everything happened that was to happen."""
        assert [f"{one.host}: {one.outcome}" for one in self._injected if one.outcome != "done"] == []

    def hang(self, word: str, host: str) -> None:
        """Has the scheduler not answer, once."""
        (self.directory / "at" / f"{word}-{host}").write_text("sleep 600")

    def note(self, line: str) -> None:
        """Among what the scheduler was asked for."""
        with (self.directory / "asked").open("a") as stream:
            stream.write(f"{line}\n")

    def has_asked(self, line: str) -> bool:
        log = self.directory / "asked"
        return log.exists() and line in log.read_text()

    def once_it_builds(self, host: str, action: Callable[[], object]) -> None:
        """Holds the build of a host at its first import, and calls `action` when it is there, in a thread."""
        self.inside(host, f"touch {HELD}")

        def act() -> None:
            self.wait_for(host, f"grep -qs Importing {ROOT}/.builds/*.log", seconds=900)
            action()

        threading.Thread(target=act, daemon=True).start()

    def restart(self, host: str) -> None:
        self._podman("start", self.container(host))
        self.wait_for(host, "systemctl is-system-running --wait")
        self.place(host)
        self.wait_for_ssh(host)

    def ssh(self, host: str, command: str) -> str | None:
        """What the command says by a connection of its own; None if there is none, or the command fails."""
        known = f"UserKnownHostsFile={self.directory / 'known_hosts'}"
        options = [
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=5",
            "-o",
            known,
            "-i",
            str(self.directory / "id_ed25519"),
        ]
        address = f"root@{self._address(list(self.hosts).index(host))}"
        done = subprocess.run(["ssh", *options, address, command], capture_output=True, text=True, check=False)
        return None if done.returncode else done.stdout

    def wait_for_ssh(self, host: str, seconds: float = 120) -> None:
        """A host that was started again has another hardware address, which this machine may learn late."""
        deadline = time.monotonic() + seconds
        while self.ssh(host, "true") is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{host}: no ssh")
            time.sleep(1)

    def is_running(self, host: str) -> bool:
        state = self._podman("inspect", "--format={{.State.Running}}", self.container(host), check=False)
        return state.strip() == "true"

    def kill(self, host: str) -> None:
        self._podman("kill", self.container(host))

    def pause(self, host: str, seconds: float) -> None:
        """The whole host stands still."""
        self._podman("pause", self.container(host))
        time.sleep(seconds)
        self._podman("unpause", self.container(host))

    def start_inside(self, host: str, *command: str) -> None:
        self._podman("exec", "--detach", self.container(host), *command)

    def command(self, *options: str, playbook: str = "fleet", **variables: Any) -> list[str]:
        inventory = str(self.directory / "hosts.yml")
        command = [str(ANSIBLE_PLAYBOOK), "-i", inventory, f"playbooks/{playbook}.yml", *options]
        return [*command, "-e", json.dumps(variables)]

    def play(self, *options: str, playbook: str = "fleet", **variables: Any) -> Run:
        return run_playbook(self.command(*options, playbook=playbook, **variables), directory=REPOSITORY)

    def play_killed(self, when: Callable[[], bool]) -> str:
        """A run that is ended by SIGKILL, with everything that it started here, as soon as `when`; what it said."""
        log = self.directory / "killed.log"
        about = f"ABOUT={self.directory}"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                self.command(),
                cwd=REPOSITORY,
                env={**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "", "ABOUT": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            while not when():
                assert process.poll() is None, f"the run ended before it was killed: {log.read_text()}"
                time.sleep(0.1)
            kill_everything_about(about)
            process.wait()
        # The scheduler may have ended before it had taken what it was to do.
        self.forget_injected()
        return log.read_text(errors="replace")

    @property
    def summary(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.reports / "fleet.json").read_text())
        return content

    @property
    def states(self) -> dict[str, str]:
        return {node["host"]: node["state"] for node in self.summary["nodes"]}

    def node(self, host: str) -> dict[str, Any]:
        """What the report has of the host."""
        return next(node for node in self.summary["nodes"] if node["host"] == host)

    @property
    def drained(self) -> list[str]:
        """Those recorded as drained."""
        return sorted(path.name for path in (self.reports / "drained").glob("*"))

    def asked(self) -> list[str]:
        """What the scheduler was asked for since the last time."""
        log = self.directory / "asked"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def look(self, host: str) -> Found:
        *lines, digest = self.inside(host, LOOK).splitlines()
        return Found(
            sorted(os.path.basename(line) for line in lines if line.startswith("live ")),
            [line.partition(" ")[2] for line in lines if line.startswith("left ")],
            digest,
        )

    def installed(self, host: str) -> list[str]:
        return self.look(host).installed

    def prints(self, hosts: Iterable[str]) -> dict[str, str]:
        return {host: self.look(host).digest for host in hosts}

    def forget(self, host: str) -> None:
        """Makes the host bare again."""
        kept = "-not -name .tools -not -name .cache"
        self.inside(host, f"rm -f {HELD}; find {ROOT} -mindepth 1 -maxdepth 1 {kept} -exec rm -rf {{}} +")

    def _podman(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["podman", *arguments],
            env=self._engine.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"podman {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout
