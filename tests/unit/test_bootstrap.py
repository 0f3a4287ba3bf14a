from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import bootstrap
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]

# Like uv as far as bootstrap needs it: notes what it was asked, makes a venv's interpreter.
FAKE_UV = """#!/bin/sh
echo "$PWD: $*" >> "{log}"
case "$1" in
  venv) rm -rf "$6"; mkdir -p "$6/bin"; ln -s "$5" "$6/bin/python" ;;
  pip) exit {pip_code} ;;
esac
"""


class Checkout:
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self._monkeypatch = monkeypatch
        (path / "requirements").mkdir(parents=True)
        for lock in ("controller.txt", "bundle.txt", "test.txt", "site.txt", "collection.txt", "oldest.txt"):
            (path / "requirements" / lock).write_text(f"# {lock}\n")
        monkeypatch.setattr(bootstrap, "REPOSITORY", str(path))
        monkeypatch.setattr(bootstrap, "TOOLS", str(path / ".tools"))
        monkeypatch.setattr(bootstrap, "REQUIREMENTS", str(path / "requirements"))
        monkeypatch.setattr(bootstrap, "choose_python", lambda wish, uv, mirror: sys.executable)
        self.uv_fails(0)

    def uv_fails(self, code: int) -> None:
        uv = self.path / "uv"
        uv.write_text(FAKE_UV.format(log=self.path / "asked.txt", pip_code=code))
        uv.chmod(0o755)
        self._monkeypatch.setattr(bootstrap, "bring_uv", lambda index=None: str(uv))

    def asked(self) -> list[str]:
        """What uv was asked since the last call."""
        log = self.path / "asked.txt"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.replace(str(self.path), "~") for line in lines]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.syspath_prepend(str(REPOSITORY / "module_utils"))
    return Checkout(tmp_path / "a checkout", monkeypatch)


def asked_for(directory: str, lock: str) -> list[str]:
    sync = "pip sync --quiet --require-hashes --only-binary :all: --compile-bytecode"
    return [
        f"~/requirements: venv --quiet --clear --python {sys.executable} ~/{directory}",
        f"~/requirements: {sync} --python ~/{directory} ~/requirements/{lock}",
    ]


def test_a_playbook_leaves_the_test_tools(checkout: Checkout) -> None:
    assert bootstrap.main(["--group", "test"]) == 0
    (checkout.path / ".venv" / "bin" / "pytest").touch()
    (checkout.path / "requirements" / "test.txt").write_text("# newer\n")
    checkout.asked()
    assert bootstrap.main([]) == 0
    assert checkout.asked() == asked_for(".venv", "test.txt")


@pytest.mark.parametrize(
    ("arguments", "directory", "lock"),
    [
        ([], ".venv", "controller.txt"),
        (["--group", "test"], ".venv", "test.txt"),
        (["--core", "oldest"], ".venv-oldest", "oldest.txt"),
    ],
)
def test_builds_once(checkout: Checkout, arguments: list[str], directory: str, lock: str) -> None:
    assert bootstrap.main(arguments) == 0
    assert checkout.asked() == asked_for(directory, lock)
    assert bootstrap.main(arguments) == 0
    assert checkout.asked() == []


def test_test_tools_are_enough_for_the_controller_and_not_the_other_way(checkout: Checkout) -> None:
    bootstrap.main([])
    bootstrap.main(["--group", "test"])
    assert len(checkout.asked()) == 4
    bootstrap.main([])
    assert checkout.asked() == []


@pytest.mark.parametrize("change", ["lock", "interpreter gone", "stamp cut short", "moved"])
def test_builds_again_after_a_change(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    bootstrap.main([])
    checkout.asked()
    venv = checkout.path / ".venv"
    if change == "lock":
        (checkout.path / "requirements" / "controller.txt").write_text("other\n")
    elif change == "interpreter gone":
        (venv / "bin" / "python").unlink()
    elif change == "stamp cut short":
        (venv / "stamp.json").write_text("{")
    else:
        moved = Checkout(tmp_path / "moved", monkeypatch)
        shutil.copytree(venv, moved.path / ".venv", symlinks=True)
        checkout = moved
    assert bootstrap.main([]) == 0
    assert checkout.asked() == asked_for(".venv", "controller.txt")


def test_failed_build_is_said_and_tried_again(checkout: Checkout, capfd: pytest.CaptureFixture[str]) -> None:
    checkout.uv_fails(2)
    assert bootstrap.main([]) == 1
    said = capfd.readouterr().err
    assert "bootstrap: 'uv pip sync' ended with 2" in said
    assert "UV_DEFAULT_INDEX" in said
    checkout.uv_fails(0)
    assert bootstrap.main([]) == 0
    assert (checkout.path / ".venv" / "stamp.json").exists()


def test_a_checkout_without_programs_is_told_so(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(command: list[str], **_: object) -> None:
        raise PermissionError(13, "Permission denied", command[0])

    monkeypatch.setattr(bootstrap.subprocess, "Popen", refuse)
    assert bootstrap.main([]) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("bootstrap: ")]
    assert "/uv: Permission denied. They need 200 MB, and a file system that is neither read-only nor" in line


def test_refreshes_every_lock_without_building(checkout: Checkout) -> None:
    assert bootstrap.main(["--lock"]) == 0
    options = "--quiet --upgrade --universal --generate-hashes --no-header --python-version 3.10"
    assert checkout.asked() == [
        f"~/requirements: pip compile {options} --output-file {name}.txt {name}.in"
        for name in ("controller", "test", "oldest", "bundle", "site", "collection", "execution_environment")
    ]
    assert not (checkout.path / ".venv").exists()


@pytest.mark.parametrize(
    ("given", "place"),
    [("https://bundle.example/", "https://bundle.example"), ("/mnt/a bundle", "file:///mnt/a%20bundle")],
)
def test_everything_comes_from_a_bundle(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, given: str, place: str
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(bootstrap, "bring_uv", lambda index: asked.append(index) or "uv")
    monkeypatch.setattr(bootstrap, "choose_python", lambda wish, uv, mirror: asked.append(mirror) or sys.executable)
    monkeypatch.setattr(bootstrap, "run", lambda command, index: asked.append(index))
    (checkout.path / ".venv").mkdir()
    assert bootstrap.main(["--bundle", given]) == 0
    assert asked == [f"{place}/simple", f"{place}/python", f"{place}/simple", f"{place}/simple"]


def test_tools_for_a_bundle_are_enough_for_other_playbooks(checkout: Checkout) -> None:
    assert bootstrap.main(["--group", "bundle"]) == 0
    assert checkout.asked() == asked_for(".venv", "bundle.txt")
    assert bootstrap.main([]) == 0
    assert checkout.asked() == []


def test_tools_of_the_site_are_beside_those_that_test(checkout: Checkout) -> None:
    pytest_of_tests = checkout.path / ".venv" / "bin" / "pytest"
    pytest_of_tests.parent.mkdir(parents=True)
    pytest_of_tests.touch()
    assert bootstrap.main(["--group", "site"]) == 0
    assert checkout.asked() == asked_for(".venv-site", "site.txt")
    assert pytest_of_tests.exists()


def test_pinned_uv_is_the_tables_row() -> None:
    rows = yaml.safe_load(Path(bootstrap.UV_TABLE).read_text())["rows"]
    assert sorted(row["architecture"] for row in rows) == ["aarch64", "x86_64"]
    for row in rows:
        wanted = {key: row[key] for key in ("version", "filename", "sha256", "bytes")}
        found = bootstrap.pinned_uv(row["architecture"])
        assert {key: found[key] for key in wanted} == wanted


def test_architecture_without_uv_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "module_utils"))
    from tensorflow_stack.errors import StackError

    with pytest.raises(StackError, match="no pinned uv for riscv64, only for aarch64, x86_64"):
        bootstrap.pinned_uv("riscv64")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A machine's interpreters, which of them start, and where its own path would be fetched to."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "module_utils"))
    from tensorflow_stack.environment import interpreter
    from tensorflow_stack.node import pythons

    here: dict[str, Any] = {"rows": [], "broken": [], "fetched": []}
    monkeypatch.setattr(bootstrap, "TOOLS", str(tmp_path))
    monkeypatch.setattr(pythons, "find_pythons", lambda **arguments: (here["rows"], []))
    monkeypatch.setattr(interpreter, "runs_as", lambda path, minor: path not in here["broken"])
    monkeypatch.setattr(interpreter, "fetch", lambda path, minor, **rest: here["fetched"].append((path, minor)))
    return here


def rows_of(*minors: str) -> list[dict[str, str]]:
    return [{"minor": minor, "version": f"{minor}.1", "path": f"/usr/bin/python{minor}"} for minor in minors]


@pytest.mark.parametrize(
    ("wish", "minors", "broken", "expected"),
    [
        pytest.param(bootstrap.CONTROLLER, ["3.9", "3.10", "3.13"], [], "3.13", id="newest"),
        pytest.param(bootstrap.CONTROLLER, ["3.11", "3.12"], ["3.12"], "3.11", id="newest that starts"),
        pytest.param(bootstrap.CONTROLLER, ["3.10", "3.99"], [], "3.10", id="none that is too new"),
        pytest.param(bootstrap.OLDEST, ["3.12", "3.13"], [], "3.12", id="oldest core"),
    ],
)
def test_newest_suitable_interpreter_is_taken(
    machine: dict[str, Any], wish: bootstrap.Wish, minors: list[str], broken: list[str], expected: str
) -> None:
    machine["rows"] = rows_of(*minors)
    machine["broken"] = [f"/usr/bin/python{minor}" for minor in broken]
    assert bootstrap.choose_python(wish, "uv") == f"/usr/bin/python{expected}"
    assert machine["fetched"] == []


def test_interpreter_is_fetched_where_none_fits(machine: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    machine["rows"] = rows_of("3.8", "3.9")
    python = bootstrap.choose_python(bootstrap.CONTROLLER, "uv")
    assert machine["fetched"] == [(python, bootstrap.FETCHED_PYTHON)]
    assert python.startswith(bootstrap.TOOLS)
    said = capsys.readouterr().err
    assert "No Python 3.10 to 3.14 found (3.8.1 (/usr/bin/python3.8), 3.9.1 (/usr/bin/python3.9))" in said


def test_fetch_that_fails_says_what_to_set(machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow_stack.environment import interpreter
    from tensorflow_stack.errors import BuildError, StackError

    def fail(*arguments: Any, **rest: Any) -> None:
        raise BuildError("Python 3.12 could not be fetched.")

    monkeypatch.setattr(interpreter, "fetch", fail)
    with pytest.raises(StackError, match=r"could not be fetched\. .*UV_PYTHON_INSTALL_MIRROR"):
        bootstrap.choose_python(bootstrap.CONTROLLER, "uv")


def test_locks_pin_by_hash_and_name_no_index() -> None:
    for wish in (bootstrap.CONTROLLER, bootstrap.TEST, bootstrap.OLDEST):
        text = (REPOSITORY / "requirements" / wish.lock).read_text()
        entries = text.replace("\\\n", " ").splitlines()
        pins = [line for line in entries if line and not line.lstrip().startswith("#")]
        assert [line for line in pins if line.startswith("ansible-core==")]
        assert [line for line in pins if "==" not in line or "--hash=sha256:" not in line] == []
        assert "://" not in text


def test_test_tools_hold_the_controllers_at_the_same_versions() -> None:
    def pins(lock: str) -> set[str]:
        lines = (REPOSITORY / "requirements" / lock).read_text().splitlines()
        return {line.split()[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}

    assert pins("controller.txt") - pins("test.txt") == set()


def test_a_slow_installation_says_that_it_is_at_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "module_utils"))
    monkeypatch.setattr(bootstrap, "PROGRESS_SECONDS", 0)
    with subprocess.Popen(["sleep", "1.5"]) as process:
        assert bootstrap.wait_for(process) == 0
    assert capsys.readouterr().err == "[tools, 1 s] at work\n"
