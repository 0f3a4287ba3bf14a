"""Package operations that are killed, fail or find the lock taken: named, healed by the next run, judged by state."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests import package_nodes
from tests.package_nodes import MAINLY_ONE, MIDDLE, OLD, Node, cudnn, driver

pytestmark = pytest.mark.integration
# Fixtures, which pytest finds by their names here.
doubles, node, suite = package_nodes.doubles, package_nodes.node, package_nodes.suite

BIG = {
    "component": "cuda",
    "source": "nvidia_repo",
    "packages": [{"name": "cuda-documentation-12-5", "version": None}],
    "belongs": ["cuda-*"],
}


def wait_for(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.002)


def kill_when(node: Node, condition: Callable[[], bool], **wish: Any) -> None:
    """As a power loss does: all processes of the node at once."""
    process = node.root.start_module("nvidia_packages", **wish)
    wait_for(condition)
    node.root.kill_all()
    process.communicate()


def slow_postinst(node: Node) -> Callable[[], bool]:
    node.root.write("/etc/repository-double/slow", "30")
    return lambda: "sleep" in node.root.commands()


def states(node: Node) -> dict[str, str]:
    text = node.root.run("dpkg-query", "-W", "-f", r"${Package} ${db:Status-Abbrev}\n")
    return {name: state for name, _, state in (line.partition(" ") for line in text.splitlines())}


@pytest.mark.parametrize("suite", MAINLY_ONE, indirect=True)
def test_killed_in_postinst_is_named_and_healed(node: Node) -> None:
    kill_when(node, slow_postinst(node), **cudnn(OLD))
    assert states(node)["libcudnn8"].strip() == "iF"
    (node.root.path / "etc/repository-double/slow").unlink()
    done = node.both(**cudnn(OLD))
    assert done["healed"] == ["libcudnn8"] and done["changed"]
    assert node.versions() == {"libcudnn8": OLD}
    assert not node.both(**cudnn(OLD))["changed"]
    # That the killed run brought it is known: it goes again.
    assert node.both(component="cudnn", state="absent")["transaction"]["remove"] == [f"libcudnn8={OLD}"]


@pytest.mark.parametrize("suite", MAINLY_ONE, indirect=True)
def test_killed_in_unpacking_is_named_and_installed_anew(node: Node) -> None:
    unpacking = node.root.path / "usr"
    kill_when(node, lambda: any(unpacking.rglob("*.dpkg-new")), **BIG)
    left = {name: state for name, state in states(node).items() if name == "cuda-documentation-12-5"}
    assert left["cuda-documentation-12-5"] == "iHR"
    assert node.root.run("dpkg", "--configure", "-a", check=False) is not None
    assert states(node)["cuda-documentation-12-5"] == "iHR"  # dpkg alone does not mend that
    done = node.both(**BIG)
    assert done["healed"] == ["cuda-documentation-12-5"]
    assert [text.partition("=")[0] for text in done["transaction"]["reinstall"]] == ["cuda-documentation-12-5"]
    assert states(node)["cuda-documentation-12-5"] == "hi "
    assert not list((node.root.path / "usr").rglob("*.dpkg-new"))


def test_mess_of_something_else_is_healed_as_well(node: Node) -> None:
    kill_when(node, lambda: any((node.root.path / "usr").rglob("*.dpkg-new")), **BIG)
    done = node.both(**cudnn(OLD))
    assert done["healed"] == ["cuda-documentation-12-5"]
    assert states(node)["cuda-documentation-12-5"] == "hi "  # the killed run recorded it
    assert node.versions()["libcudnn8"] == OLD


def test_failing_postinst_is_an_error_with_its_text_and_then_mended(node: Node) -> None:
    node.root.write("/etc/repository-double/dkms-fails", "")
    failed = node(**driver("535.309.01-1"))
    assert failed["failed"] and "nvidia-kernel-dkms 535.309.01-1 is half configured" in failed["msg"]
    assert "kernel headers for kernel 6.1.0-99-amd64 cannot be found" in failed["msg"], failed["msg"]
    again = node(**driver("535.309.01-1"))
    assert again["failed"] and "cannot be found" in again["msg"], again
    # Another version that does build takes its place.
    (node.root.path / "etc/repository-double/dkms-fails").unlink()
    done = node.both(**driver("535.104.05-1", allow_downgrade=True))
    assert "nvidia-kernel-dkms" in done["healed"]
    assert set(node.versions().values()) == {"535.104.05-1"}


@contextmanager
def held_lock(node: Node, path: str, seconds: float) -> Iterator[None]:
    program = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(float(sys.argv[2]))"
    )
    place = str(node.root.path) + path
    holder = subprocess.Popen([sys.executable, "-c", program, place, str(seconds)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        yield
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize("path", ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/cache/apt/archives/lock"])
def test_lock_that_is_held_is_waited_for(node: Node, path: str) -> None:
    with held_lock(node, path, 60):
        started = time.monotonic()
        failed = node.root.module("nvidia_packages", lock_timeout=2, **cudnn(OLD))
        assert failed["failed"] and path in failed["msg"] and "package_lock_timeout" in failed["msg"]
        assert "(python" in failed["msg"] and time.monotonic() - started >= 2, failed["msg"]
    with held_lock(node, path, 3):
        assert node.root.module("nvidia_packages", lock_timeout=60, **cudnn(OLD))["changed"]
    assert node.versions() == {"libcudnn8": OLD}


def test_lock_that_is_held_while_healing_is_waited_for(node: Node) -> None:
    kill_when(node, slow_postinst(node), **cudnn(OLD))
    (node.root.path / "etc/repository-double/slow").unlink()
    with held_lock(node, "/var/lib/dpkg/lock-frontend", 60):
        failed = node.root.module("nvidia_packages", lock_timeout=1, **cudnn(OLD))
        assert failed["failed"] and "/var/lib/dpkg/lock-frontend is held by process" in failed["msg"], failed
    assert node.both(**cudnn(OLD))["healed"] == ["libcudnn8"]


def test_killed_in_an_upgrade_goes_on_to_the_other_version(node: Node) -> None:
    node.both(**cudnn(OLD))
    kill_when(node, slow_postinst(node), **cudnn(MIDDLE))
    (node.root.path / "etc/repository-double/slow").unlink()
    done = node.both(**cudnn(OLD))
    assert done["healed"] == ["libcudnn8"] and done["transaction"]["downgrade"] == [f"libcudnn8={OLD}"]
    assert node.versions() == {"libcudnn8": OLD}


def test_no_link_that_somebody_placed_is_followed(node: Node) -> None:
    target = node.root.path / "etc" / "shadow-like"
    target.write_text("# theirs\n")
    pins = node.root.path / "etc/apt/preferences.d/tensorflow-gpu-stack-cudnn.pref"
    pins.symlink_to("/etc/shadow-like")
    assert node.both(**cudnn(OLD))["changed"]
    assert target.read_text() == "# theirs\n" and not pins.is_symlink() and pins.stat().st_mode & 0o777 == 0o644
    assert os.stat(pins).st_uid == 0
