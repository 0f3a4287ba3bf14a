"""A host of tests/hosts for a test of pytest's own: started, reached by ssh, removed."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.hosts import stand_ins
from tests.hosts.engine import Engine
from tests.needs import require, unavailable
from tests.playbooks import REPOSITORY

CACHE = REPOSITORY / ".cache" / "molecule"
# As tests/hosts/create.yml has them.
PLACES = {"pci": "/sys/bus/pci/devices", "module": "/sys/module", "driver": "/proc/driver", "firmware": "/sys/firmware"}


@dataclass(frozen=True)
class Host:
    """`variables` are those that podman is run with, `inventory` is for Ansible, where it is called `host`."""

    container: str
    variables: Mapping[str, str]
    inventory: Path

    def run(self, *command: str, stdin: str = "") -> str:
        """In the environment of the container's own processes, which has nothing for CUDA."""
        done = subprocess.run(
            ["podman", "exec", "--interactive", self.container, *command],
            env=self.variables,
            input=stdin,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def put(self, path: str, content: str, *, mode: str = "0644") -> None:
        self.run("install", "-D", f"--mode={mode}", "/dev/stdin", path, stdin=content)

    def copy(self, source: Path, path: str) -> None:
        subprocess.run(["podman", "cp", source, f"{self.container}:{path}"], env=self.variables, check=True)


@contextmanager
def running(image: str, **stands_in: Any) -> Iterator[Host]:
    """A host of an image of tests/hosts/images.yml; `stands_in` are the testhost_ variables of a scenario."""
    require("openssh-client")
    engine = Engine(CACHE)
    tags, missing = engine.prepare([image])
    if missing:
        unavailable(f"{image}: {missing[image]}")
    with tempfile.TemporaryDirectory(prefix="host-") as name:
        directory = Path(name)
        stand_ins.write(directory / "stand-ins", stands_in)
        volume = f"--volume={directory / 'stand-ins'}:/srv/stand-ins:ro"
        started = subprocess.run(
            ["podman", "run", "--detach", "--systemd=always", volume, tags[image]],
            env=engine.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        container = started.stdout.strip()
        host = Host(container, engine.environment, directory / "inventory.yml")
        try:
            for folder in (directory / "stand-ins").iterdir():
                mount = ["mount", "--bind", f"/srv/stand-ins/{folder.name}", PLACES[folder.name]]
                subprocess.run(
                    ["podman", "exec", "--privileged", container, *mount], env=engine.environment, check=True
                )
            wait_for(lambda: "running" in host.run("sh", "-c", "systemctl is-system-running --wait || true"), "systemd")
            host.inventory.write_text(yaml.safe_dump({"all": {"hosts": {"host": _connection(host, directory)}}}))
            yield host
        finally:
            remove = ["podman", "rm", "--force", "--time=0", "--volumes", container]
            subprocess.run(remove, env=engine.environment, check=True)


def _connection(host: Host, directory: Path) -> dict[str, str]:
    key = directory / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    host.put("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_text(), mode="0600")
    proxy = f'ProxyCommand="podman exec -i {host.container} /usr/sbin/sshd -i"'
    return {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": f"-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o {proxy}",
    }


def wait_for(condition: Callable[[], bool], what: str, *, seconds: float = 130) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(1)
