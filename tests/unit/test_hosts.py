"""What decides which scenarios run, on which images, and whether check mode told the truth."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.tensorflow_stack.node.record import read_node

from tests.hosts import engine, run, stand_ins
from tests.hosts.run import Outcome, Scenario

# Says what it was asked, has the images of a file, and fails what is in another.
PODMAN = """#!/bin/sh
echo "${{CONTAINERS_CONF:+with settings: }}$*" >> {directory}/asked
case "$1 $2" in
  "image inspect") for tag; do :; done; grep -q "$tag" {directory}/images && cat {directory}/created || exit 125 ;;
  *) while read -r pattern; do
       case "${{CONTAINERS_CONF:+with settings: }}$*" in $pattern) echo "Error: no $1" >&2; exit 1 ;; esac
     done < {directory}/fails ;;
esac
"""


@pytest.fixture
def callback() -> ModuleType:
    path = engine.HERE / "callback_plugins" / "check_equals_run.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_scenario(repository: Path, place: str, group: dict[str, Any]) -> Path:
    directory = repository / place
    directory.mkdir(parents=True)
    (directory / "molecule.yml").write_text("---\n{}\n")
    (directory / "hosts.yml").write_text(yaml.safe_dump({"testhosts": group}))
    return directory


# --- Which run --------------------------------------------------------------------------------------


@pytest.fixture
def scenarios(tmp_path: Path) -> list[Scenario]:
    one = {"h": {"testhost_image": "debian-12"}}
    write_scenario(tmp_path, "roles/cudnn/molecule/default", {"vars": {"testhost_lane": "ci"}, "hosts": one})
    write_scenario(tmp_path, "roles/cudnn/molecule/held", {"hosts": one})
    write_scenario(tmp_path, "tests/molecule/classic", {"vars": {"testhost_lane": "slow"}, "hosts": one})
    return run.find_scenarios(tmp_path)


@pytest.mark.parametrize(
    ("names", "lane", "chosen"),
    [
        ([], "default", ["cudnn/default", "cudnn/held"]),
        ([], "ci", ["cudnn/default"]),
        ([], "slow", ["classic"]),
        (["classic", "cudnn/held"], "default", ["classic", "cudnn/held"]),
    ],
)
def test_lane_or_names_choose(scenarios: list[Scenario], names: list[str], lane: str, chosen: list[str]) -> None:
    assert [scenario.name for scenario in run.choose(scenarios, names=names, lane=lane)] == chosen


def test_unknown_scenario_is_refused_with_those_there_are(scenarios: list[Scenario]) -> None:
    with pytest.raises(SystemExit, match="No scenario cuda. There are: classic, cudnn/default, cudnn/held"):
        run.choose(scenarios, names=["cuda"], lane="default")


def test_variables_of_all_hosts_are_each_hosts(tmp_path: Path) -> None:
    group = {"vars": {"testhost_image": "debian-11"}, "hosts": {"a": None, "b": {"testhost_image": "el8-lookalike"}}}
    scenario = run.read_scenario(write_scenario(tmp_path, "roles/r/molecule/s", group))
    assert scenario.hosts["a"]["testhost_image"] == "debian-11"
    assert scenario.images == {"debian-11", "el8-lookalike"}


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({"hosts": {"a": {"testhost_image": "debian"}}}, "a: testhost_image is debian, not one of debian-11, "),
        ({"hosts": {"a": None}}, "a: testhost_image is None, not one of"),
        (
            {"vars": {"testhost_lane": "fast"}, "hosts": {"a": {"testhost_image": "debian-12"}}},
            "testhost_lane is fast, not one of ci, default, slow",
        ),
    ],
)
def test_wrong_hosts_are_a_problem_of_their_scenario(tmp_path: Path, group: dict[str, Any], said: str) -> None:
    scenario = run.read_scenario(write_scenario(tmp_path, "roles/r/molecule/s", group))
    assert said in scenario.problem and scenario.hosts == {}


@pytest.mark.parametrize("text", [None, "", "testhosts: []", "testhosts: {hosts: [a]}", "testhosts: {", "hosts: {}"])
def test_scenario_that_cannot_be_read_fails_and_the_others_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    one = {"h": {"testhost_image": "debian-12"}}
    write_scenario(tmp_path, "roles/cudnn/molecule/default", {"vars": {"testhost_lane": "ci"}, "hosts": one})
    broken = write_scenario(tmp_path, "roles/cudnn/molecule/broken", {}) / "hosts.yml"
    broken.unlink() if text is None else broken.write_text(text)
    monkeypatch.setattr(run, "REPOSITORY", tmp_path)
    monkeypatch.setattr(run.sys, "argv", ["run", "--lane", "ci"])
    monkeypatch.setattr(run.Engine, "__init__", lambda self, cache: None)
    monkeypatch.setattr(run.Engine, "prepare", lambda self, names: (dict.fromkeys(names, "tag"), {}))
    monkeypatch.setattr(run.Runner, "run", lambda self, scenario: Outcome(scenario.name, "ok", 1))
    assert run.main() == 1
    said = capsys.readouterr().out
    assert f"{broken} does not name the hosts" in said and "1 passed, 1 failed, 0 skipped" in said


def test_every_scenario_of_this_repository_can_be_read() -> None:
    found = run.find_scenarios(run.REPOSITORY)
    assert "hosts" in [scenario.name for scenario in found]
    assert [scenario.problem for scenario in found if scenario.problem] == []
    prefixes = [run.prefix_of(scenario) for scenario in found]
    assert len(set(prefixes)) == len(prefixes)


@pytest.mark.parametrize(
    ("states", "in_ci", "status"),
    [
        (["ok", "ok"], True, 0),
        (["ok", "FAILED"], False, 1),
        (["ok", "SKIPPED"], False, 0),
        (["ok", "SKIPPED"], True, 1),
        (["SKIPPED", "FAILED"], False, 1),
    ],
)
def test_a_skip_fails_where_it_is_ci(
    states: list[str], in_ci: bool, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "CACHE", tmp_path)
    for number in range(len(states)):
        (tmp_path / f"role-{number}.log").touch()
    outcomes = [Outcome(f"role/{number}", state, 1.0) for number, state in enumerate(states)]
    assert run.report(outcomes, in_ci=in_ci) == status


def test_report_counts_no_skip_as_passed_and_shows_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "CACHE", tmp_path)
    (tmp_path / "role-b.log").write_text("first\n" + "line\n" * run.TAIL_LINES)
    run.report([Outcome("a", "SKIPPED", 0, "no podman"), Outcome("role/b", "FAILED", 9)], in_ci=True)
    out = capsys.readouterr().out
    assert "0 passed, 1 failed, 1 skipped\nWith CI=true nothing may be skipped." in out
    assert "line" in out
    assert "first" not in out


def test_without_an_image_a_scenario_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["run", "hosts"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert run.main() == 1
    out = capsys.readouterr().out
    assert out.startswith("hosts ")
    assert "SKIPPED" in out
    assert "debian-12: missing: podman; as root: apt-get install podman" in out


# --- Images -----------------------------------------------------------------------------------------


class Machine:
    """A machine with a podman that does as told."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        directory.mkdir()
        self.engine = engine.Engine(directory / "cache")
        program = directory / "podman"
        program.write_text(PODMAN.format(directory=directory))
        program.chmod(0o755)
        self.is_like()
        monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
        monkeypatch.delenv("CONTAINERS_CONF", raising=False)
        # Neither a real mmdebstrap nor this machine's certificate authorities.
        monkeypatch.setattr(engine, "AUTHORITIES", directory / "none")
        monkeypatch.setattr(
            "shutil.which", lambda name: str(program) if name == "podman" else None if name == "mmdebstrap" else name
        )
        self.engine.environment = {"PATH": f"{directory}:/usr/bin:/bin"}

    def is_like(self, *, images: str = "", created: float = 0, fails: str = "") -> None:
        for name, text in (("images", images), ("created", f"{created:.0f}\n"), ("fails", fails)):
            (self._directory / name).write_text(text)

    @property
    def asked(self) -> list[str]:
        return (self._directory / "asked").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "machine", monkeypatch)


def test_image_is_built_on_the_one_of_the_registry(machine: Machine) -> None:
    tags, missing = machine.engine.prepare(["debian-13"])
    assert not missing
    assert tags["debian-13"].startswith("localhost/testhost-debian-13:")
    built = next(line for line in machine.asked if line.startswith("build"))
    assert "--build-arg=BASE=docker.io/library/debian:13 --target=debian" in built


def test_image_that_is_new_enough_is_taken(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    machine.is_like(images=tag_of("debian-12"), created=1_000_000 - engine.HOST_IMAGE_SECONDS + 10)
    assert machine.engine.prepare(["debian-12"])[0] == {"debian-12": tag_of("debian-12")}
    assert [line for line in machine.asked if line.startswith("build")] == []


def test_image_that_is_too_old_is_made_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    machine.is_like(images=tag_of("debian-12"), created=1_000_000 - engine.HOST_IMAGE_SECONDS - 10)
    machine.engine.prepare(["debian-12"])
    assert [line for line in machine.asked if line.startswith("build")] != []


def test_without_registry_the_base_that_was_made_before_is_taken(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    base = "localhost/testhost-base:bookworm"
    machine.is_like(images=base, created=1_000_000 - engine.BASE_IMAGE_SECONDS + 10, fails="pull*\n")
    machine.engine.prepare(["el8-lookalike"])
    built = next(line for line in machine.asked if line.startswith("build"))
    assert f"--build-arg=BASE={base} --target=el8-lookalike" in built


def test_without_registry_and_mmdebstrap_there_is_no_image(machine: Machine) -> None:
    machine.is_like(fails="pull*\n")
    tags, missing = machine.engine.prepare(["debian-11"])
    assert tags == {}
    assert missing["debian-11"].startswith(
        "docker.io/library/debian:11 cannot be pulled, and to make it of packages: missing: "
    )
    assert "apt-get install mmdebstrap" in missing["debian-11"]


def test_settings_are_used_only_where_no_container_starts_without(machine: Machine) -> None:
    machine.engine.prepare(["debian-12"])
    assert [line for line in machine.asked if line.startswith("with settings")] == []
    assert "CONTAINERS_CONF" not in machine.engine.environment


def test_settings_are_used_where_needed(machine: Machine) -> None:
    machine.is_like(fails="run*\n")
    machine.engine.prepare(["debian-12"])
    assert machine.engine.environment["CONTAINERS_CONF"] == str(engine.CONTAINERS_CONF)
    assert next(line for line in machine.asked if "build" in line).startswith("with settings: build")


def test_no_container_starts_at_all(machine: Machine) -> None:
    machine.is_like(fails="*run --rm*\n")
    said = machine.engine.prepare(["debian-12"])[1]["debian-12"]
    assert said == "no container starts: Error: no run; with containers.conf: Error: no run"


def test_failed_build_is_a_reason(machine: Machine) -> None:
    machine.is_like(fails="build*\n")
    assert machine.engine.prepare(["debian-12"])[1] == {"debian-12": "podman build of debian-12: Error: no build"}


def test_tag_depends_on_what_the_image_is_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: tag_of(name) for name in engine.known_images()}
    assert len(set(before.values())) == len(before)
    (tmp_path / "private.crt").write_text("a certificate")
    monkeypatch.setattr(engine, "AUTHORITIES", tmp_path)
    assert all(tag_of(name) != before[name] for name in before)


def tag_of(name: str) -> str:
    return f"localhost/testhost-{name}:{engine.digest(engine.known_images()[name])}"


# --- Stand-ins --------------------------------------------------------------------------------------


def node_with(tmp_path: Path, **variables: Any) -> dict[str, Any]:
    """What the toolkit reads where the stand-ins are mounted."""
    stand_ins.write(tmp_path / "stand-ins", variables)
    for folder, place in yaml.safe_load((engine.HERE / "create.yml").read_text())[0]["vars"]["places"].items():
        source, target = tmp_path / "stand-ins" / folder, tmp_path / "root" / place.lstrip("/")
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
    return read_node(filesystem_root=str(tmp_path / "root"))


def test_host_without_variables_has_no_gpu(tmp_path: Path) -> None:
    node = node_with(tmp_path)
    assert (node["gpus"], node["nvswitches"], node["driver"]["loaded"]) == ([], 0, None)
    assert not any(node["modules"].values())


@pytest.mark.parametrize("name", yaml.safe_load((engine.HERE / "pci.yml").read_text()))
def test_devices_are_read_as_they_are_named(tmp_path: Path, name: str) -> None:
    devices = yaml.safe_load((engine.HERE / "pci.yml").read_text())[name]
    node = node_with(tmp_path, testhost_pci=name)
    wanted = [(row["address"], row["device"]) for row in devices if row["class"].startswith("03")]
    assert [(gpu["pci_address"], gpu["device_id"]) for gpu in node["gpus"]] == wanted
    assert {gpu["bound_to"] for gpu in node["gpus"]} == {None}
    assert [row for row in node["unread"] if row["fact"] == "gpus"] == []


@pytest.mark.parametrize("kind", ["open", "proprietary"])
def test_loaded_driver(tmp_path: Path, kind: str) -> None:
    node = node_with(tmp_path, testhost_pci="t4", testhost_driver={"version": "535.309.01", "kind": kind})
    assert (node["driver"]["loaded"], node["driver"]["kind"]) == ("535.309.01", kind)
    assert node["gpus"][0]["bound_to"] == "nvidia"
    assert node["modules"]["nvidia"]


def test_nouveau_has_the_gpu(tmp_path: Path) -> None:
    node = node_with(tmp_path, testhost_pci="p100", testhost_modules=["nouveau"])
    assert node["gpus"][0]["bound_to"] == "nouveau"
    assert node["modules"]["nouveau"]


@pytest.mark.parametrize("state", [True, False])
def test_secure_boot(tmp_path: Path, state: bool) -> None:
    assert node_with(tmp_path, testhost_secure_boot=state)["secure_boot"] is state


def test_unknown_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="testhost_pci: v100 is not in tests/hosts/pci.yml, which has a100, t4"):
        stand_ins.write(tmp_path, {"testhost_pci": "v100"})


# --- Check mode against run -------------------------------------------------------------------------


def change(task: str, **result: Any) -> dict[str, Any]:
    return {"h": [{"task": task, "action": "nvidia_packages", "result": result}]}


def test_same_changes_are_no_difference(callback: ModuleType) -> None:
    assert callback.differences(change("t", version="1"), change("t", version="1")) == []


@pytest.mark.parametrize(
    "done",
    [{}, change("other", version="1"), change("t", version="2"), {"h": change("t", version="1")["h"] * 2}],
)
def test_other_changes_are_a_difference(callback: ModuleType, done: dict[str, Any]) -> None:
    said = change("t", version="1")
    assert callback.differences(said, done) != []
    assert callback.differences(done, said) != []


def test_of_own_modules_every_result_is_compared(callback: ModuleType) -> None:
    result = {"changed": True, "node": {"a": 1}, "invocation": {}, "_ansible_no_log": False}
    assert callback.compared("gpu_node_info", result) == {"changed": True, "node": {"a": 1}}
    assert callback.compared("ansible.builtin.apt", {"changed": True, "stdout": json.dumps({})}) == {}
