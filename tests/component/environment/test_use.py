"""What uses an environment by its stable path goes on through a switch: shells, console scripts, what pip installs."""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import builds, cache, changes, damage, installing, venv
from ansible.module_utils.tensorflow_stack.io.uv import cached_wheels
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests.needs import require
from tests.wheels import make_lock, make_wheel

NAME = "tensorflow-2.8.0"
MINOR = "%d.%d" % sys.version_info[:2]
TOOL = "import sys, tool\n\ndef main():\n    print(tool.version, sys.executable)\n"
INSTALLERS = ["uv", "pip"]


def make_tool(wheels: Path, version: str, *, name: str = "tool") -> object:
    """A distribution with a console script that says its version and its interpreter."""
    body = TOOL.replace("tool", name)
    files = {
        f"{name}/__init__.py": f"version = {version!r}\n",
        f"{name}/cli.py": body,
        f"{name}-{version}.dist-info/entry_points.txt": f"[console_scripts]\n{name} = {name}.cli:main\n",
    }
    return make_wheel(wheels, name, version, files)


class Root:
    """A root in which builds of one environment differ by the version of a tool."""

    def __init__(self, path: Path, uv: str, installer: str) -> None:
        self.path = path / ("root of " + "somebody" * 12)
        self.live = self.path / NAME
        self.wheels = path / "wheels"
        self.wheels.mkdir()
        self.uv = uv
        self.tensorflow = make_wheel(
            self.wheels, "tensorflow", "2.8.0", {"tensorflow/__init__.py": "__version__ = '2.8.0'\n"}
        )
        self.is_by_uv = installer == "uv"
        self.specs: dict[str, EnvironmentSpec] = {}

    def spec(self, version: str) -> EnvironmentSpec:
        """The same one each time: a wheel that is made again has another hash."""
        if version not in self.specs:
            self.specs[version] = self._make_spec(version)
        return self.specs[version]

    def _make_spec(self, version: str) -> EnvironmentSpec:
        lock = make_lock(self.tensorflow, make_tool(self.wheels, version), release="2.8.0", python=MINOR)
        python = os.path.realpath(sys.executable)
        return EnvironmentSpec(NAME, str(self.path), "2.8.0", "cpu", python, lock)

    def build(self, version: str) -> str:
        outcome = venv.apply_present(self.spec(version), installer=self.installer, keep=2, lock_timeout=0)
        return str(outcome.build)

    def installer(self) -> installing.Installer:
        index = self.wheels.as_uri()
        if self.is_by_uv:
            return installing.Installer(uv=self.uv, index_url=index, cache=str(self.path / ".cache" / "uv"))
        return installing.Installer(uv=None, index_url=index)


@pytest.fixture(params=INSTALLERS)
def root(tmp_path: Path, uv: str, request: pytest.FixtureRequest) -> Root:
    if request.param == "pip":
        require("python3-venv")
    return Root(tmp_path, uv, request.param)


def said(*command: str | Path, **values: str) -> str:
    environment = {"PATH": os.defpath, "HOME": "/nonexistent", **values}
    return subprocess.check_output(list(command), text=True, env=environment, stderr=subprocess.STDOUT).strip()


# How a shell is started, and how it reads which script.
SHELLS = {
    "bash": ("bash", "source", "activate"),
    "sh": ("dash", ".", "activate"),
    "zsh": ("zsh", "source", "activate"),
    "fish": ("fish", "source", "activate.fish"),
    "csh": ("tcsh", "source", "activate.csh"),
}


def start_shell(root: Root, shell: str) -> subprocess.Popen[str]:
    """It says what is active, and the tool's words before and after a line that it is sent."""
    program, source, script = SHELLS[shell]
    lines = [
        f"{source} '{root.live}/bin/{script}'",
        "echo $VIRTUAL_ENV",
        "echo $VIRTUAL_ENV_PROMPT",
        "tool",
        "head -n 1",
        "tool",
    ]
    if shell == "csh":
        lines.insert(0, "set prompt")
    environment = {"PATH": os.defpath, "HOME": str(root.path), "TERM": "dumb"}
    # -f: without the files of this user, as the others do without a terminal.
    command = [program, *(["-f"] if shell == "csh" else []), "-c", "\n".join(lines)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=environment)


def test_shells_and_console_scripts_have_the_path_of_the_environment_and_follow_a_switch(root: Root) -> None:
    require("fish", "tcsh", "zsh")
    first = root.build("1.0")
    opened = [start_shell(root, shell) for shell in SHELLS]
    for shell in opened:
        assert shell.stdout
        before = [shell.stdout.readline().rstrip("\n") for _ in range(3)]
        # The scripts of an older Python's venv say the prompt with its brackets.
        assert [before[0], before[1].strip("() "), before[2]] == [str(root.live), NAME, f"1.0 {root.live}/bin/python"]
    root.build("2.0")
    for shell in opened:
        after, _ = shell.communicate("go on\n")
        assert (shell.returncode, after) == (0, f"go on\n2.0 {root.live}/bin/python\n")
    for build in builds.builds_of(str(root.path), NAME):
        assert damage.find_damage(build, hashed=build.packages) == [], "RECORDs say what is in the scripts"
        assert damage.find_added(build) == []
    scripts = [path for path in (root.path / ".builds" / first / "bin").iterdir() if not path.is_symlink()]
    assert [path.name for path in scripts if first.encode() in path.read_bytes()] == []
    venv.apply_previous(str(root.path), NAME, lock_timeout=0)
    assert said(root.live / "bin" / "tool") == f"1.0 {root.live}/bin/python"


def test_what_the_cache_has_is_not_to_be_fetched(tmp_path: Path, uv: str) -> None:
    root = Root(tmp_path, uv, "uv")
    whole = changes.plan_present(root.spec("1.0")).bytes_to_fetch
    root.build("1.0")
    venv.apply_absent(str(root.path), NAME, lock_timeout=0)
    assert changes.plan_present(root.spec("1.0")).bytes_to_fetch == 0
    assert 0 < changes.plan_present(root.spec("2.0")).bytes_to_fetch < whole


def test_pruning_leaves_what_a_repair_needs(tmp_path: Path, uv: str) -> None:
    root = Root(tmp_path, uv, "uv")
    where = str(root.path)
    root.build("1.0")
    root.build("2.0")
    assert cache.find_superfluous(where) == (), "one is in use, to the other one can roll back"
    root.build("3.0")
    outcome = cache.prune(where, uv)
    assert [(wheel.name, wheel.version) for wheel in outcome.wheels] == [("tool", "1.0")]
    assert outcome.freed_bytes > 0
    stored = [entry.name.rpartition("-")[0] for entry in root.path.glob(".cache/installed/*/*")]
    assert [Path(entry).name.rpartition("-")[0] for entry in outcome.packages] == ["tool-1.0"]
    assert sorted(stored) == ["tensorflow-2.8.0", "tool-2.0", "tool-3.0"]
    assert {place.what.partition(",")[0] for place in outcome.places} == {
        "wheels and installed packages that no build shares",
        "a build",
        "all",
    }
    again = cache.prune(where, uv)
    assert (again.wheels, again.freed_bytes) == ((), 0)
    # A run that was killed before uv pruned is completed by the next one.
    root.build("4.0")
    for path in (path for wheel in cache.find_superfluous(where) for path in wheel.paths):
        os.unlink(path)
    resumed = cache.prune(where, uv)
    assert resumed.wheels == () and resumed.freed_bytes > 0
    held = cached_wheels(f"{where}/.cache/uv", MINOR)
    assert held == {("tensorflow", "2.8.0"), ("tool", "3.0"), ("tool", "4.0")}, "the wheels of both builds"


def by_uv(root: Root) -> list[str]:
    return [root.uv, "pip", "install", "--quiet", "--offline", "--no-index", "--python", str(root.live)]


def by_uv_in_a_shell(root: Root) -> list[str]:
    return ["sh", "-c", '. "$0"/bin/activate; shift; exec "$@"', str(root.live), "", *by_uv(root)[:-2]]


def by_pip(root: Root) -> list[str]:
    # As `<environment>/bin/python -m pip` does; the environment of this test has none of its own.
    (wheel,) = Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")
    return [str(root.live / "bin" / "python"), f"{wheel}/pip", "install", "--quiet", "--no-index", "--no-deps"]


@pytest.mark.parametrize("install", [by_uv, by_uv_in_a_shell, by_pip])
def test_a_script_that_somebody_installs_runs_by_the_stable_path(
    tmp_path: Path, uv: str, install: Callable[[Root], list[str]]
) -> None:
    root = Root(tmp_path, uv, "uv")
    build = root.build("1.0")
    make_tool(root.wheels, "3.0", name="extra")
    subprocess.run([*install(root), "--find-links", str(root.wheels), "extra"], check=True)
    assert said(root.live / "bin" / "extra") == f"3.0 {root.live}/bin/python"
    assert build not in (root.live / "bin" / "extra").read_text()
    (live,) = (found for found in builds.builds_of(str(root.path), NAME) if found.name == build)
    added = damage.find_added(live, damage.compare_build(live))
    assert [(addition.name, addition.version) for addition in added] == [("extra", "3.0")]
