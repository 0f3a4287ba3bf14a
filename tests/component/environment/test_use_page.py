"""Every piece of code of docs/use.md, tried with an environment at another path."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import installing, venv
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests.needs import require
from tests.wheels import make_lock, make_tensorflow

PAGE = Path(__file__).resolve().parents[3] / "docs" / "use.md"
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = "/opt/tensorflow/tensorflow-2.8.0"
# One that every user may start, if there is.
PYTHON = os.path.realpath("/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable)


@pytest.fixture(scope="module")
def environment(uv: str) -> Iterator[Path]:
    """In a directory that every user may enter, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory(prefix="use-") as directory:
        os.chmod(directory, 0o755)
        yield build(Path(directory), uv)


def build(path: Path, uv: str) -> Path:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    minor = subprocess.check_output([PYTHON, "-c", program], text=True).strip()
    wheels = path / "wheels"
    wheels.mkdir()
    lock = make_lock(make_tensorflow(wheels, "2.8.0"), release="2.8.0", python=minor)
    root = str(path / "root")
    spec = EnvironmentSpec("tensorflow-2.8.0", root, "2.8.0", "cpu", PYTHON, lock)
    installer = installing.Installer(uv=uv, index_url=wheels.as_uri(), cache=f"{root}/.cache/uv")
    venv.apply_present(spec, installer=lambda: installer, keep=2, lock_timeout=0)
    (path / "train.py").write_text("import tensorflow, sys; print(tensorflow.__version__, sys.executable)\n")
    return Path(spec.path)


def blocks(language: str, environment: Path) -> list[str]:
    """The page's blocks of that language, for this environment and its program."""
    program = str(environment.parents[1] / "train.py")
    found = [match["body"] for match in BLOCK.finditer(PAGE.read_text()) if match["language"] == language]
    return [body.replace(SHOWN, str(environment)).replace("/srv/train/train.py", program) for body in found]


def says(*command: str | Path, **options: object) -> str:
    """What a command writes that has next to nothing in its environment."""
    values = {"PATH": os.defpath, "HOME": "/nonexistent", **options.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.run(command, capture_output=True, text=True, env=values, check=True, **options).stdout


def test_no_block_is_left_out() -> None:
    languages = {match["language"] for match in BLOCK.finditer(PAGE.read_text())}
    assert languages == {"sh", "json", "envrc", "ini", "crontab"}


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_lines_for_a_shell(environment: Path, shell: str) -> None:
    assert says(shell, "-euc", blocks("sh", environment)[0]) == "2.8.0\n"


def test_the_line_for_another_user(environment: Path) -> None:
    require(root=True)
    says("sh", "-euc", blocks("sh", environment)[1])


def test_the_path_for_an_editor(environment: Path) -> None:
    (settings,) = map(json.loads, blocks("json", environment))
    assert says(settings["python.defaultInterpreterPath"], "-c", "import tensorflow; print('yes')") == "yes\n"


def test_the_file_for_direnv(environment: Path, tmp_path: Path) -> None:
    require("direnv")
    (tmp_path / ".envrc").write_text(*blocks("envrc", environment))
    home = {"HOME": str(tmp_path)}
    says("direnv", "allow", str(tmp_path), env=home)
    assert says("direnv", "exec", str(tmp_path), "python", "-c", "import tensorflow; print('yes')", env=home) == "yes\n"


def test_the_unit_for_systemd(environment: Path, tmp_path: Path) -> None:
    require("systemd")
    (unit,) = blocks("ini", environment)
    (tmp_path / "train.service").write_text(unit)
    subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / "train.service")], check=True)
    (command,) = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
    assert says(*command.split()) == f"2.8.0 {environment}/bin/python\n"


def test_the_line_for_cron(environment: Path, tmp_path: Path) -> None:
    (line,) = blocks("crontab", environment)
    command = line.split(None, 5)[5].replace("/tmp/train.log", str(tmp_path / "log"))
    # As cron does: by sh, with a PATH of its own and little else.
    subprocess.run(["env", "-i", "PATH=/usr/bin:/bin", "HOME=/", "SHELL=/bin/sh", "sh", "-c", command], check=True)
    assert (tmp_path / "log").read_text() == f"2.8.0 {environment}/bin/python\n"
