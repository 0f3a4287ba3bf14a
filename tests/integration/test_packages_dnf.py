"""nvidia_packages on real dnf and rpm, on a root of Debian's that says it is Rocky 8; no package of RHEL is in it."""

from __future__ import annotations

import pytest

from tests import package_nodes
from tests.package_nodes import CUDA, Node, cudnn, driver

pytestmark = [pytest.mark.integration, pytest.mark.parametrize("suite", ["el"], indirect=True)]
# Fixtures, which pytest finds by their names here.
doubles, node, suite = package_nodes.doubles, package_nodes.node, package_nodes.suite

OLD, MIDDLE = "8.1.0.77-1.cuda11.2", "8.6.0.163-1.cuda11.8"
LOCKS = "/etc/dnf/plugins/versionlock.list"


def test_up_down_and_the_same_in_one_transaction(node: Node) -> None:
    done = node.both(**cudnn(OLD, "libcudnn8-dev"))
    assert done["transaction"]["install"] == [f"libcudnn8-dev={OLD}", f"libcudnn8={OLD}"], done
    assert node.rpms() == {"libcudnn8": OLD, "libcudnn8-dev": OLD}
    node.server.requests.clear()
    again = node.both(**cudnn(OLD, "libcudnn8-dev"))
    assert not again["changed"] and again["packages"] == done["packages"] and node.server.requests == []
    up = node.both(**cudnn(MIDDLE, "libcudnn8-dev"))
    assert up["transaction"]["upgrade"] == [f"libcudnn8-dev={MIDDLE}", f"libcudnn8={MIDDLE}"], up
    down = node.both(**cudnn(OLD, "libcudnn8-dev"))
    assert down["transaction"]["downgrade"] == [f"libcudnn8-dev={OLD}", f"libcudnn8={OLD}"], down
    assert node.rpms() == {"libcudnn8": OLD, "libcudnn8-dev": OLD}
    refused = node.both(**{**cudnn("8.0*"), "allow_downgrade": False})
    assert refused["refusals"][0]["reason"] == "vanished" and MIDDLE in refused["msg"]


def rhel_driver(version: str, branch: str = "535") -> dict[str, object]:
    wanted = ("nvidia-driver", "nvidia-driver-cuda", "kmod-nvidia-latest-dkms")
    packages = [{"name": name, "version": version} for name in wanted]
    return {**driver(version, branch=branch), "packages": packages, "allow_downgrade": True}


def test_driver_at_one_version_up_and_down(node: Node) -> None:
    node.root.run("dnf", "-y", "module", "enable", "nvidia-driver:535-dkms")
    done = node.both(**rhel_driver("535.*"))
    assert set(node.rpms().values()) == {"535.309.01-1.el8"}, done
    assert done["version"] == "535.309.01" and {row["name"] for row in done["packages"]} == set(node.rpms())
    node.both(**rhel_driver("535.104.05-1.el8"))
    assert set(node.rpms().values()) == {"535.104.05-1.el8"}
    refused = node.both(**{**rhel_driver("535.54.03-1.el8"), "allow_downgrade": False})
    assert refused["refusals"][0]["reason"] == "downgrade"
    assert not node.both(**rhel_driver("535.*"))["changed"] or node.rpms()["nvidia-driver"] == "535.104.05-1.el8"


def test_held_by_versionlock_and_out_of_automatic_upgrades(node: Node) -> None:
    node.root.write(LOCKS, "vim-0:8.0-1.*\n")
    node.both(**cudnn(OLD))
    text = node.root.read(LOCKS)
    assert text.startswith("vim-0:8.0-1.*\n") and f"libcudnn8-0:{OLD}.*" in text
    assert "excludepkgs = libcudnn8\n" in node.root.read("/etc/dnf/automatic.conf")
    assert "Nothing to do" in node.root.run("dnf", "-y", "upgrade")
    assert node.rpms() == {"libcudnn8": OLD}
    node.use("newer")
    assert not node.both(**cudnn("8.*"))["transaction"]["upgrade"]
    gone = node.both(component="cudnn", state="absent")
    assert gone["transaction"]["remove"] == [f"libcudnn8={OLD}"] and node.rpms() == {}
    assert node.root.read(LOCKS) == "vim-0:8.0-1.*\n"
    assert "excludepkgs" not in node.root.read("/etc/dnf/automatic.conf")


def test_locked_by_somebody_else(node: Node) -> None:
    node.root.write(LOCKS, f"libcudnn8-0:{MIDDLE}.*\n")
    refused = node.both(**cudnn(OLD))
    assert refused["refusals"][0]["reason"] == "held_by_others" and "versionlock delete libcudnn8" in refused["msg"]
    same = node.both(**cudnn(MIDDLE))
    assert node.rpms() == {"libcudnn8": MIDDLE} and not same.get("failed")


def test_drift_is_named_and_repaired(node: Node) -> None:
    node.both(**cudnn(OLD))
    node.root.run("dnf", "-y", "--disableplugin=versionlock", "install", f"libcudnn8-{MIDDLE}")
    node.root.write(LOCKS, "")
    done = node.both(**cudnn(OLD))
    assert [(row["name"], row["problem"]) for row in done["drift"]] == [("libcudnn8", "moved"), (LOCKS, "changed")]
    assert node.rpms() == {"libcudnn8": OLD} and not node.both(**cudnn(OLD))["changed"]


def test_what_another_component_lost_by_force_is_no_hindrance(node: Node) -> None:
    node.both(**CUDA)
    node.both(**cudnn(MIDDLE))
    before = node.rpms()
    node.root.run("dnf", "-y", "--disableplugin=versionlock", "install", f"libcudnn8-{OLD}")
    node.root.run("rpm", "--erase", "--nodeps", "libcublas-11-8")
    node.both(**cudnn(MIDDLE))
    done = node.both(**CUDA)
    assert node.rpms() == before, done
    assert not node.both(**cudnn(MIDDLE))["changed"] and not node.both(**CUDA)["changed"]


def test_installed_twice_after_a_killed_transaction_is_healed(node: Node) -> None:
    node.both(**cudnn(OLD))
    rpm = f"/srv/libcudnn8-{MIDDLE}.x86_64.rpm"
    source = package_nodes.file_of(node, rpm.rpartition("/")[2])
    (node.root.path / rpm.lstrip("/")).write_bytes(source.read_bytes())
    node.root.run("rpm", "-i", "--force", "--nodeps", "--nosignature", rpm)
    assert len(node.rpms()["libcudnn8"].split()) == 2
    done = node.both(**cudnn(OLD))
    assert done["healed"] == ["libcudnn8"] and node.rpms() == {"libcudnn8": OLD}, done


def test_what_is_there_at_another_version_is_taken_along(node: Node) -> None:
    node.root.run("dnf", "-y", "--disableplugin=local", "install", f"libcudnn8-dev-{MIDDLE}")
    done = node.both(**cudnn(OLD))
    assert done["transaction"]["downgrade"] == [f"libcudnn8-dev={OLD}", f"libcudnn8={OLD}"], done
    assert node.rpms() == {"libcudnn8": OLD, "libcudnn8-dev": OLD} and not node.both(**cudnn(OLD))["changed"]


def test_vanished_version_and_file(node: Node) -> None:
    refused = node.both(**cudnn("8.3.3.40-1.cuda11.5"))
    assert refused["refusals"][0]["reason"] == "vanished"
    node.server.faults.append("404:*/libcudnn8-8.6*")
    failed = node(**cudnn(MIDDLE))
    assert failed["failed"] and "Nothing was changed" in failed["msg"], failed
    assert node.rpms() == {} and not node.root.exists("/etc/tensorflow-gpu-stack")
