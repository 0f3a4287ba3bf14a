"""nvidia_packages on real dnf and rpm, on a root of Debian's that says it is Rocky 8; no package of RHEL is in it."""

from __future__ import annotations

from typing import Any

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


def rhel_driver(
    version: str, *, stream: str | None, branch: str = "535", kernel_modules: str = "kmod-nvidia-latest-dkms"
) -> dict[str, object]:
    wanted = ("nvidia-driver", "nvidia-driver-cuda", kernel_modules)
    packages = [{"name": name, "version": version} for name in wanted]
    belongs = ["kmod-nvidia*", "libnvidia-*", "nvidia-*"]
    wish = {**driver(version, branch=branch), "packages": packages, "belongs": belongs, "allow_downgrade": True}
    return {**wish, "stream": f"nvidia-driver:{stream}"} if stream else wish


def test_driver_at_one_version_up_and_down(node: Node) -> None:
    node.root.run("dnf", "-y", "module", "enable", "nvidia-driver:535-dkms")
    done = node.both(**rhel_driver("535.*", stream=None))
    assert set(node.rpms().values()) == {"535.309.01-1.el8"}, done
    assert done["version"] == "535.309.01" and {row["name"] for row in done["packages"]} == set(node.rpms())
    node.both(**rhel_driver("535.104.05-1.el8", stream=None))
    assert set(node.rpms().values()) == {"535.104.05-1.el8"}
    refused = node.both(**{**rhel_driver("535.54.03-1.el8", stream=None), "allow_downgrade": False})
    assert refused["refusals"][0]["reason"] == "downgrade"
    again = node.both(**rhel_driver("535.*", stream=None))
    assert not again["changed"] or node.rpms()["nvidia-driver"] == "535.104.05-1.el8"


LATEST, OPEN = "kmod-nvidia-latest-dkms", "kmod-nvidia-open-dkms"


def enabled(node: Node) -> str | None:
    """What dnf's own table says of the module, `[e]` being an enabled stream."""
    lines = node.root.run("dnf", "module", "list", "nvidia-driver").splitlines()
    return next((line.split()[1] for line in lines if line.startswith("nvidia-driver ") and "[e]" in line), None)


def of_stream(done: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [row for row in done["diff"] if row["before_header"] == "module nvidia-driver"]
    return [(row["before"], row["after"]) for row in rows]


def test_stream_is_enabled_with_its_packages(node: Node) -> None:
    wish = rhel_driver("580.159.04-1.el8", branch="580", stream="580-open", kernel_modules=OPEN)
    done = node.both(**wish)
    assert OPEN in node.rpms() and enabled(node) == "580-open", done
    assert of_stream(done) == [("", "stream=580-open\n")]
    again = node.both(**wish)
    assert not again["changed"] and again["diff"] == [] and again["drift"] == []
    newer = node.root.run("dnf", "--disableplugin=versionlock", "list", "--available", check=False)
    assert LATEST not in newer


def test_stream_is_switched_and_reset(node: Node) -> None:
    node.both(**rhel_driver("535.309.01-1.el8", stream="535-dkms"))
    assert enabled(node) == "535-dkms" and set(node.rpms().values()) == {"535.309.01-1.el8"}
    wish = rhel_driver("580.159.04-1.el8", branch="580", stream="580-open", kernel_modules=OPEN)
    done = node.both(**wish)
    assert enabled(node) == "580-open" and set(node.rpms().values()) == {"580.159.04-1.el8"}, done
    assert OPEN in node.rpms() and LATEST not in node.rpms()
    assert of_stream(done) == [("stream=535-dkms\n", "stream=580-open\n")]
    gone = node.both(component="driver", state="absent")
    assert node.rpms() == {} and enabled(node) is None, gone
    assert of_stream(gone) == [("stream=580-open\n", "")]
    assert not node.root.exists("/etc/tensorflow-gpu-stack/driver.json")


def test_stream_alone_is_enabled_where_the_packages_are_right(node: Node) -> None:
    wish = rhel_driver("535.309.01-1.el8", stream=None)
    node.both(**wish)
    node.root.run("dnf", "-y", "module", "reset", "nvidia-driver")
    before = node.rpms()
    done = node.both(**rhel_driver("535.309.01-1.el8", stream="535-dkms"))
    assert done["changed"] and not any(done["transaction"].values()), done
    assert node.rpms() == before and enabled(node) == "535-dkms"


def test_stream_that_somebody_else_changed_is_drift_and_repaired(node: Node) -> None:
    wish = rhel_driver("535.309.01-1.el8", stream="535-dkms")
    node.both(**wish)
    node.root.run("dnf", "-y", "module", "reset", "nvidia-driver")
    node.root.run("dnf", "-y", "module", "enable", "nvidia-driver:580-dkms")
    done = node.both(**wish)
    drift = {"name": "nvidia-driver", "problem": "other stream", "recorded": "535-dkms", "found": "580-dkms"}
    assert done["drift"] == [drift] and enabled(node) == "535-dkms"
    assert not node.both(**wish)["changed"]


def test_stream_that_was_enabled_before_stays_after_a_removal(node: Node) -> None:
    node.root.run("dnf", "-y", "module", "enable", "nvidia-driver:535-dkms")
    assert of_stream(node.both(**rhel_driver("535.309.01-1.el8", stream="535-dkms"))) == []
    node.both(component="driver", state="absent")
    assert node.rpms() == {} and enabled(node) == "535-dkms"


def test_stream_that_no_repository_has_is_refused(node: Node) -> None:
    refused = node.both(**rhel_driver("535.309.01-1.el8", stream="525-dkms"))
    assert refused["refusals"][0]["reason"] == "no_stream"
    assert "cannot enable the module stream nvidia-driver:525-dkms" in refused["msg"]
    assert "Their streams of nvidia-driver are: 470-dkms, 535-dkms, 550-dkms" in refused["msg"]
    assert node.rpms() == {} and enabled(node) is None


def test_stream_is_not_enabled_if_a_file_is_gone(node: Node) -> None:
    node.server.faults.append("404:*/kmod-nvidia-open-dkms-580*")
    failed = node(**rhel_driver("580.159.04-1.el8", branch="580", stream="580-open", kernel_modules=OPEN))
    assert failed["failed"] and "Nothing was changed" in failed["msg"], failed
    assert node.rpms() == {} and enabled(node) is None


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
