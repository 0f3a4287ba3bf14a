"""nvidia_packages on real apt, in private roots, against the double of NVIDIA's repository."""

from __future__ import annotations

import pytest

from tests import package_nodes
from tests.package_nodes import CUDA, MAINLY_ONE, MIDDLE, OLD, Node, cudnn, driver

pytestmark = pytest.mark.integration
# Fixtures, which pytest finds by their names here.
doubles, node, suite = package_nodes.doubles, package_nodes.node, package_nodes.suite

FORCE = ("--allow-change-held-packages", "--allow-downgrades")


@pytest.mark.parametrize("suite", MAINLY_ONE, indirect=True)
def test_up_down_and_the_same_in_one_transaction(node: Node) -> None:
    done = node.both(**cudnn(OLD, "libcudnn8-dev"))
    assert done["transaction"]["install"] == [f"libcudnn8-dev={OLD}", f"libcudnn8={OLD}"], done
    assert node.versions() == {"libcudnn8": OLD, "libcudnn8-dev": OLD}
    node.server.requests.clear()
    again = node.both(**cudnn(OLD, "libcudnn8-dev"))
    assert not again["changed"] and again["packages"] == done["packages"] and again["diff"] == []
    assert node.server.requests == []
    up = node.both(**cudnn(MIDDLE, "libcudnn8-dev"))
    assert up["transaction"]["upgrade"] == [f"libcudnn8-dev={MIDDLE}", f"libcudnn8={MIDDLE}"]
    assert node.versions() == {"libcudnn8": MIDDLE, "libcudnn8-dev": MIDDLE}
    down = node.both(**cudnn(OLD, "libcudnn8-dev"))
    assert down["transaction"]["downgrade"] == [f"libcudnn8-dev={OLD}", f"libcudnn8={OLD}"]
    assert node.versions() == {"libcudnn8": OLD, "libcudnn8-dev": OLD}
    assert node.record("cudnn")["version"] == "8.1.0.77" == down["version"]


@pytest.mark.parametrize("suite", MAINLY_ONE, indirect=True)
def test_driver_comes_out_at_one_version_although_its_dependencies_float(node: Node) -> None:
    done = node.both(**driver("535.*"))
    versions = node.versions()
    assert set(versions.values()) == {"535.309.01-1"}, versions
    assert {row["name"] for row in done["packages"]} == set(versions) >= {"libnvidia-ml1", "nvidia-modprobe"}
    assert done["version"] == "535.309.01"
    refused = node.both(**driver("535.104.05-1"))
    assert refused["failed"] and "nvidia_driver_allow_downgrade" in refused["msg"]
    assert [row["reason"] for row in refused["refusals"]] == ["downgrade"]
    down = node.both(**driver("535.104.05-1", allow_downgrade=True))
    assert set(node.versions().values()) == {"535.104.05-1"}
    assert len(down["transaction"]["downgrade"]) == len(versions)
    up = node.both(**driver("550.163.01-1", branch="550"))
    assert set(node.versions().values()) == {"550.163.01-1"} and not up["transaction"]["remove"]


def test_same_in_other_words_changes_nothing(node: Node) -> None:
    node.both(**driver("535.*"))
    before = node.record("driver")
    assert not node.both(**driver("535.309.01-1"))["changed"]
    assert node.record("driver") == before


def test_other_kernel_modules_take_the_place_of_those_there(node: Node) -> None:
    node.both(**driver("535.104.05-1"))
    wish = driver("535.309.01-1")
    wish["packages"][1]["name"] = "nvidia-kernel-open-dkms"
    done = node.both(**wish)
    assert done["transaction"]["remove"] == ["nvidia-kernel-dkms=535.104.05-1"], done
    assert set(node.versions().values()) == {"535.309.01-1"} and "nvidia-kernel-dkms" not in node.versions()


def test_partly_installed_at_another_version(node: Node) -> None:
    node.root.run("apt-get", "install", "-y", "libnvidia-ml1=535.54.03-1", "nvidia-alternative=535.54.03-1")
    done = node.both(**driver("535.309.01-1"))
    assert done["transaction"]["upgrade"] == ["libnvidia-ml1=535.309.01-1", "nvidia-alternative=535.309.01-1"]
    assert set(node.versions().values()) == {"535.309.01-1"}
    assert "libnvidia-ml1" not in node.record("driver")["newly_installed"]


def test_partly_installed_at_another_version_of_a_pattern(node: Node) -> None:
    node.root.run("apt-get", "install", "-y", "libcuda1=535.54.03-1", *[f"{name}=535.54.03-1" for name in NEEDED])
    wish = driver("535.*")
    wish["packages"] = [{"name": name, "version": "535.*"} for name in ("libcuda1", "nvidia-smi")]
    done = node.both(**wish)
    assert done["version"] == "535.54.03" and done["transaction"]["upgrade"] == [], done
    assert set(node.versions().values()) == {"535.54.03-1"} and "nvidia-smi" in node.versions()


NEEDED = ("nvidia-alternative", "libnvidia-ptxjitcompiler1")


def test_newer_candidate_changes_nothing_and_never_comes_in(node: Node) -> None:
    node.both(**cudnn("8.9.7.29-1+cuda12.2"))
    node.both(**driver("535.*"))
    node.use("newer")
    assert "999" in node.root.run("apt-cache", "madison", "libcudnn8")
    assert node.candidate("libcudnn8") == "8.9.7.29-1+cuda12.2"
    assert not node.both(**driver("535.*"))["changed"]
    node.root.run("apt-get", "dist-upgrade", "-y")
    assert set(node.versions().values()) == {"535.309.01-1", "8.9.7.29-1+cuda12.2"}
    node.use("gone")  # the pinned version has left the repository, and somebody removes the package
    node.root.run("dpkg", "--force-depends", "--remove", "libnvidia-ml1")
    assert node.candidate("libnvidia-ml1") == "(none)"


def test_unattended_upgrades_is_told_exactly_these(node: Node) -> None:
    node.both(**cudnn(OLD))
    node.both(**driver("535.*"))
    said = node.root.run("apt-config", "dump", "Unattended-Upgrade::Package-Blacklist")
    assert 'Unattended-Upgrade::Package-Blacklist:: "^libcudnn8$";' in said
    assert said.count("^libcudnn") == 1 and "^libnvidia-ml1$" in said


def test_what_is_there_at_another_version_is_taken_along(node: Node) -> None:
    node.root.run("apt-get", "install", "-y", f"libcudnn8-dev={MIDDLE}", f"libcudnn8={MIDDLE}")
    done = node.both(**cudnn(OLD))
    assert done["transaction"]["downgrade"] == [f"libcudnn8-dev={OLD}", f"libcudnn8={OLD}"], done
    assert node.versions() == {"libcudnn8": OLD, "libcudnn8-dev": OLD} and not node.both(**cudnn(OLD))["changed"]


def test_vanished_version_is_refused_with_those_there_are(node: Node) -> None:
    node.use("gone")
    refused = node.both(**cudnn(OLD))
    assert refused["failed"] and refused["refusals"][0]["reason"] == "vanished"
    assert f"libcudnn8 {OLD}" in refused["msg"] and MIDDLE in refused["msg"]
    assert not node.root.exists("/etc/tensorflow-gpu-stack")


def test_file_that_is_listed_and_gone_is_seen_before_anything_changes(node: Node) -> None:
    node.both(**cudnn(OLD))
    before = node.record("cudnn")
    failed = node(**cudnn("8.2.4.15-1+cuda11.4"))
    assert failed["failed"] and "404" in failed["msg"] and "Nothing was changed" in failed["msg"], failed
    assert node.versions() == {"libcudnn8": OLD} and node.record("cudnn") == before
    assert not node.both(**cudnn(OLD))["changed"]


def test_transitional_package_is_refused(node: Node) -> None:
    wish = driver("470.256.02-2", branch="470")
    wish["packages"] = [{"name": "cuda-drivers-470", "version": "470.256.02-2"}]
    refused = node.both(**wish)
    assert refused["refusals"][0]["reason"] == "transitional", refused
    assert "cuda-drivers-535" in refused["msg"]


def test_dependency_that_leaves_the_branch_is_refused(node: Node) -> None:
    node.use("gone")
    refused = node.both(**driver("535.104.05-1"))
    assert [row["reason"] for row in refused["refusals"]] == ["leaves_branch"]
    assert "needs nvidia-modprobe (>= 535), which leaves branch 535" in refused["msg"] and node.versions() == {}
    # An exact dependency of which the repository has other versions only.
    refused = node.both(**driver("550.163.01-1", branch="550"))
    assert [row["reason"] for row in refused["refusals"]] == ["vanished"]
    assert "needs libnvidia-ml1 (= 550.163.01-1)" in refused["msg"] and node.versions() == {}


def test_held_by_somebody_else(node: Node) -> None:
    node.root.run("apt-get", "install", "-y", f"libcudnn8={MIDDLE}")
    node.root.run("apt-mark", "hold", "libcudnn8")
    refused = node.both(**cudnn(OLD))
    assert refused["refusals"][0]["reason"] == "held_by_others" and "apt-mark unhold libcudnn8" in refused["msg"]
    assert node.versions() == {"libcudnn8": MIDDLE}
    same = node.both(**cudnn(MIDDLE))
    assert same["held_by_others"] == ["libcudnn8"] and same["transaction"]["install"] == []
    node.both(component="cudnn", state="absent")
    assert node.versions() == {"libcudnn8": MIDDLE}  # it was there, and so was its hold


def test_something_else_that_would_be_removed_is_refused(node: Node) -> None:
    node.root.run("apt-get", "install", "-y", f"libcudnn8={MIDDLE}")
    node.root.write("/tmp/p/DEBIAN/control", CONTROL.format(name="their-app", depends=f"libcudnn8 (= {MIDDLE})"))
    node.root.run("dpkg-deb", "-b", "/tmp/p", "/tmp/their-app.deb")
    node.root.run("dpkg", "-i", "/tmp/their-app.deb")
    refused = node.both(**cudnn(OLD))
    assert refused["refusals"][0]["reason"] == "removes_others" and "their-app" in refused["msg"], refused


CONTROL = """Package: {name}
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@localhost>
Depends: {depends}
Description: test
"""


def test_drift_is_named_and_repaired(node: Node) -> None:
    wish = cudnn(OLD, "libcudnn8-dev")
    node.both(**wish)
    node.root.run("apt-mark", "unhold", "libcudnn8")
    node.root.run(
        "apt-get",
        "install",
        "-y",
        "--allow-change-held-packages",
        "--allow-downgrades",
        f"libcudnn8={MIDDLE}",
        f"libcudnn8-dev={MIDDLE}",
    )
    node.root.write("/etc/apt/preferences.d/tensorflow-gpu-stack-cudnn.pref", "")
    done = node.both(**wish)
    assert [(row["name"], row["problem"]) for row in done["drift"]] == [
        ("libcudnn8", "moved"),
        ("libcudnn8-dev", "moved"),
        ("/etc/apt/preferences.d/tensorflow-gpu-stack-cudnn.pref", "changed"),
    ]
    assert node.versions() == {"libcudnn8": OLD, "libcudnn8-dev": OLD}
    node.root.run("apt-mark", "unhold", "libcudnn8")
    done = node.both(**wish)
    assert [row["problem"] for row in done["drift"]] == ["not held"] and done["changed"]
    assert not node.both(**wish)["changed"]


@pytest.mark.parametrize("suite", MAINLY_ONE, indirect=True)
@pytest.mark.parametrize("lost", [("libcublas-11-8",), ("libcublas-11-8", "libcusolver-11-8")], ids=len)
def test_what_another_component_lost_by_force_comes_along(node: Node, lost: tuple[str, ...]) -> None:
    node.both(**CUDA)
    node.both(**cudnn(MIDDLE))
    before = node.versions()
    node.root.run("apt-get", "install", "-y", *FORCE, f"libcudnn8={OLD}")
    node.root.run("dpkg", "--force-depends", "--remove", *lost)
    seen = node(check=True, **CUDA)
    assert [(row["name"], row["problem"]) for row in seen["drift"]] == [(name, "missing") for name in lost]
    # apt changes nothing at all as long as anything that is installed lacks what it depends on.
    done = node.both(**cudnn(MIDDLE))
    assert done["transaction"]["upgrade"] == [f"libcudnn8={MIDDLE}"], done
    assert done["transaction"]["install"] == [f"{name}={before[name]}" for name in lost]
    assert [row["name"] for row in done["packages"]] == ["libcudnn8"]
    assert node.versions() == before
    assert not node.both(**CUDA)["changed"] and not node.both(**cudnn(MIDDLE))["changed"]


def test_what_was_lost_by_force_and_is_not_wanted_stays_away(node: Node) -> None:
    node.both(**driver("535.104.05-1"))
    node.root.run("dpkg", "--force-depends", "--remove", "nvidia-kernel-dkms")
    wish = driver("535.104.05-1")
    wish["packages"][1]["name"] = "nvidia-kernel-open-dkms"
    assert "nvidia-kernel-open-dkms=535.104.05-1" in node.both(**wish)["transaction"]["install"]
    assert "nvidia-kernel-dkms" not in node.versions()


def test_what_was_lost_by_force_and_is_nowhere_is_named(node: Node) -> None:
    node.both(**CUDA)
    path = "/etc/tensorflow-gpu-stack/cuda.json"
    node.root.write(path, node.root.read(path).replace("11.11.3.6-1", "11.11.3.5-1"))
    node.root.run("dpkg", "--force-depends", "--remove", "libcublas-11-8")
    refused = node.both(**cudnn(MIDDLE))
    assert [row["reason"] for row in refused["refusals"]] == ["unsolvable"], refused
    assert "'11.11.3.5-1' for 'libcublas-11-8' was not found" in refused["msg"]


def test_absent_is_refused_where_apt_does_nothing(node: Node) -> None:
    node.both(**CUDA)
    node.both(**cudnn(MIDDLE))
    node.root.run("dpkg", "--force-depends", "--remove", "libcublas-11-8")
    refused = node(component="cudnn", state="absent")
    assert "libcusolver-11-8 : Depends: libcublas-11-8" in refused["msg"], refused
    assert node.versions()["libcudnn8"] == MIDDLE and node.record("cudnn")
    node.both(**CUDA)
    assert node.both(component="cudnn", state="absent")["transaction"]["remove"] == [f"libcudnn8={MIDDLE}"]


def test_pattern_is_kept_at_what_was_recorded(node: Node) -> None:
    node.both(**driver("535.104.05-1"))
    wish = driver("535.*")
    assert node.both(**wish)["version"] == "535.104.05"
    assert set(node.versions().values()) == {"535.104.05-1"}


def test_two_components_share_a_package(node: Node) -> None:
    cuda = {
        "component": "cuda",
        "source": "nvidia_repo",
        "packages": [{"name": "cuda-libraries-12-2", "version": None}],
        "belongs": ["cuda-*", "lib*-12-2"],
    }
    node.both(**cuda)
    cublas = {**cudnn("8.9.7.29-1+cuda12.2"), "belongs": ["libcudnn*", "libcublas-*"]}
    cublas["packages"].append({"name": "libcublas-12-2", "version": None})
    node.both(**cublas)
    for wish in (cuda, cublas, cuda):
        assert not node.both(**wish)["changed"]
    node.both(component="cudnn", state="absent")
    assert "libcublas-12-2" in node.versions() and "libcudnn8" not in node.versions()
    assert not node.both(**cuda)["changed"]


def test_absent_removes_what_was_installed_for_it_and_nobody_needs(node: Node) -> None:
    before = node.root.run("dpkg-query", "-W", "-f", r"${Package} ${Version} ${db:Status-Abbrev}\n")
    node.both(**cudnn(OLD, "libcudnn8-dev"))
    done = node.both(component="cudnn", state="absent")
    assert done["transaction"]["remove"] == [f"libcudnn8-dev={OLD}", f"libcudnn8={OLD}"]
    assert node.root.run("dpkg-query", "-W", "-f", r"${Package} ${Version} ${db:Status-Abbrev}\n") == before
    assert not node.both(component="cudnn", state="absent")["changed"]
    left = node.root.run("find", "/etc", "-name", "*tensorflow-gpu-stack*", "-type", "f")
    assert left == ""


def test_absent_leaves_what_somebody_needs(node: Node) -> None:
    node.both(**cudnn(OLD))
    node.root.write("/tmp/p/DEBIAN/control", CONTROL.format(name="their-app", depends="libcudnn8"))
    node.root.run("dpkg-deb", "-b", "/tmp/p", "/tmp/their-app.deb")
    node.root.run("dpkg", "-i", "/tmp/their-app.deb")
    done = node.both(component="cudnn", state="absent")
    assert done["transaction"]["remove"] == []
    assert node.versions() == {"libcudnn8": f"ii {OLD}"}
