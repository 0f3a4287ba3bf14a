"""An image on a host with systemd, from the pack to a proven environment with a real TensorFlow; slow, 10 minutes.

The host is a container that may mount. Its kernel is that of this machine, so dm-verity is only used if that has it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.hosts.engine import Engine
from tests.hosts.run import CACHE

pytestmark = [pytest.mark.slow, pytest.mark.integration]

REPOSITORY = Path(__file__).resolve().parents[2]
RELEASE = "2.15.1"
NAME = f"tensorflow-{RELEASE}"


class Host:
    """A container with systemd that ssh reaches; `images` has the same path on both sides."""

    def __init__(self, path: Path, environment: dict[str, str], tag: str) -> None:
        self.path, self.images, self.name = path, path / "images", f"image-{uuid.uuid4().hex[:8]}"
        self._environment = environment
        self.images.mkdir()
        cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
        cache.mkdir(parents=True, exist_ok=True)
        for name in ("key", "site"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path / name], check=True)
        volumes = {self.images: str(self.images), REPOSITORY / ".tools": "/opt/tensorflow/.tools:ro"}
        volumes[cache] = "/opt/tensorflow/.cache/uv"
        options = [f"--volume={source}:{target}" for source, target in volumes.items()]
        self.podman("run", "--detach", "--privileged", "--systemd=always", f"--name={self.name}", *options, tag)
        self.let_in()
        self.inside(
            "apt-get update -qq && apt-get install -y -qq --no-install-recommends squashfs-tools cryptsetup-bin"
        )
        proxy = f'-o ProxyCommand="podman exec -i {self.name} /usr/sbin/sshd -i"'
        variables = {
            "ansible_host": self.name,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(path / "key"),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
            f"-o LogLevel=ERROR {proxy}",
        }
        (path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"image-host": variables}}}), encoding="utf-8")

    def podman(self, *arguments: str) -> str:
        command = ["podman", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def let_in(self) -> None:
        public = (self.path / "key.pub").read_text().strip()
        self.inside(f"umask 077; mkdir -p /root/.ssh; echo '{public}' > /root/.ssh/authorized_keys")
        self.inside("systemctl is-system-running --wait || true")

    def inside(self, script: str) -> str:
        return self.podman("exec", self.name, "sh", "-c", script).strip()

    def play(self, playbook: str, *options: str, **variables: Any) -> tuple[int, str]:
        command = [".venv/bin/ansible-playbook", "-i", str(self.path / "hosts.json"), f"playbooks/{playbook}.yml"]
        done = subprocess.run(
            [*command, "--diff", *options, "-e", json.dumps(variables)],
            cwd=REPOSITORY,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def works(self) -> bool:
        program = "import tensorflow; print(tensorflow.reduce_sum([1, 2]).numpy())"
        return self.inside(f"/opt/tensorflow/{NAME}/bin/python -c '{program}' 2>/dev/null") == "3"

    def mounts(self) -> Sequence[str]:
        return self.inside("grep ' squashfs ' /proc/mounts || true").splitlines()

    def state(self) -> str:
        """What a refused run must leave as it is."""
        return self.inside(
            "cd /opt/tensorflow; ls -l --time-style=+ . .builds | grep -v '[.]log'; ls .images; "
            "ls /etc/systemd/system; cat /proc/mounts"
        )


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    images.need()
    podman = Engine(CACHE)
    tags, missing = podman.prepare(["debian-12"])
    if missing:
        pytest.skip(missing["debian-12"])
    found = Host(tmp_path, podman.environment, tags["debian-12"])
    yield found
    found.podman("rm", "--force", "--time=0", "--volumes", found.name)


def changed(output: str) -> int:
    matched = re.search(r"changed=(\d+)", output)
    assert matched, output
    return int(matched[1])


def diff_of(output: str) -> list[str]:
    """Of the task that builds."""
    lines = output.partition("--- before: ")[2].partition("\nchanged:")[0].splitlines()
    assert lines, output
    return lines


def test_an_image_from_the_pack_to_its_removal(host: Host) -> None:
    code, output = host.play("workstation", tensorflow_version=RELEASE)
    assert code == 0, output
    plain = host.inside(f"readlink /opt/tensorflow/{NAME}")
    packed = {"image_directory": str(host.images), "image_signing_key": "/root/site"}
    host.podman("cp", str(host.path / "site"), f"{host.name}:/root/site")
    code, output = host.play("image", **packed)
    assert (code, changed(output)) == (0, 1), output
    code, output = host.play("image", **packed)
    assert (code, changed(output)) == (0, 0), output
    (image,) = host.images.glob("*.squashfs")

    signers, others = host.path / "signers", host.path / "others"
    public = (host.path / "site.pub").read_text().split()
    signers.write_text(f"stack@example.org {public[0]} {public[1]}\n")
    others.write_text(f"stack@example.org {' '.join((host.path / 'key.pub').read_text().split()[:2])}\n")
    wish = {"tensorflow_image": str(image), "stack_bundle_signers": str(signers)}
    before = host.state()
    refuse(host, before, "is not signed by a key in", **{**wish, "stack_bundle_signers": str(others)})
    flip_a_byte(image)
    refuse(host, before, "is not the pinned file", **wish)
    flip_a_byte(image)

    code, output = host.play("workstation", "--check", **wish)
    assert (code, changed(output), host.state()) == (0, 1, before), output
    planned = diff_of(output)
    code, output = host.play("workstation", **wish)
    assert (code, changed(output), diff_of(output)) == (0, 1, planned), output
    assert (len(host.mounts()), host.works()) == (1, True)
    code, output = host.play("workstation", **wish)
    assert (code, changed(output)) == (0, 0), output
    code, output = host.play("doctor")
    assert code == 0 and "healthy: /opt/tensorflow/" in output, output

    host.podman("restart", "--time=1", host.name)
    host.let_in()
    assert (len(host.mounts()), host.works()) == (1, True)

    code, output = host.play("add", tensorflow_packages="pandas")
    assert code != 0 and "which is a read-only image" in output, output
    code, output = host.play("rollback")
    assert (code, host.inside(f"readlink /opt/tensorflow/{NAME}"), host.works()) == (0, plain, True), output
    code, output = host.play("workstation", **wish)
    assert (code, changed(output), host.works()) == (0, 1, True), output

    # Somebody changes the file: systemd does not mount it again, and the next run fetches it.
    (unit,) = host.inside("systemctl list-units --plain --no-legend 'opt-tensorflow-.builds*.mount'").splitlines()
    unit = unit.split()[0]
    host.inside("cd /opt/tensorflow/.images; printf x | dd of=$(ls *.squashfs) bs=1 seek=5000 conv=notrunc 2>/dev/null")
    code, output = host.play("verify")
    assert code != 0 and "is not the one that was fetched" in output, output
    said = host.inside(f"systemctl stop '{unit}'; systemctl start '{unit}' 2>&1 || true")
    assert "dependency job" in said.lower(), said
    code, output = host.play("doctor")
    assert code != 0 and "1. image_changed: " in output and "2. image_not_mounted: " in output, output
    code, output = host.play("workstation", **wish)
    assert (code, len(host.mounts()), host.works()) == (0, 1, True), output
    code, output = host.play("verify")
    assert code == 0, output

    code, output = host.play("remove", tensorflow_environment=NAME)
    assert (code, host.mounts()) == (0, []), output
    assert host.inside("ls /opt/tensorflow/.images; find /etc/systemd/system -name 'opt-tensorflow*'") == ""


def refuse(host: Host, before: str, why: str, **wish: str) -> None:
    code, output = host.play("workstation", **wish)
    assert code != 0 and why in " ".join(output.split()), output
    assert host.state() == before


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(5000)
        byte = stream.read(1)
        stream.seek(5000)
        stream.write(bytes([byte[0] ^ 1]))
