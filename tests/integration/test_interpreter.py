"""Python from a mirror: the real uv, a real interpreter, and a double of the mirror with this machine's Python."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.bundle import pythons
from ansible.module_utils.tensorflow_stack.bundle.fetching import Shelf
from ansible.module_utils.tensorflow_stack.bundle.needs import BundleNeed
from ansible.module_utils.tensorflow_stack.environment import interpreter
from ansible.module_utils.tensorflow_stack.errors import BuildError, StackError

from tests.integration.test_additions import MINOR, RELEASE, Machine

pytestmark = pytest.mark.integration

VERSION = platform.python_version()
RELEASES = "https://github.com/astral-sh/python-build-standalone/releases/download"


@pytest.fixture
def mirror(tmp_path: Path) -> dict[str, str]:
    """A directory laid out like the releases of python-build-standalone, and the list that names its one archive."""
    archive = tmp_path / "mirror" / "20260101" / f"cpython-{VERSION}-install_only.tar.gz"
    archive.parent.mkdir(parents=True)
    library = Path(os.path.dirname(os.__file__))

    def without_ballast(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        ballast = {"test", "tests", "site-packages", "dist-packages", "__pycache__", "idlelib"}
        # A distribution's Python has links to its /etc, which such an archive has not.
        leads_out = member.issym() and os.path.isabs(member.linkname)
        return None if leads_out or ballast & set(member.name.split("/")) else member

    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(os.path.realpath(sys.executable), f"python/bin/python{MINOR}")
        tar.add(library, f"python/lib/python{MINOR}", filter=without_ballast)
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, f"python{MINOR}"
        tar.addfile(link)
    row = {
        "name": "cpython",
        "arch": {"family": platform.machine(), "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": sys.version_info[0],
        "minor": sys.version_info[1],
        "patch": sys.version_info[2],
        "prerelease": "",
        "url": f"{RELEASES}/20260101/{archive.name}",
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "variant": None,
        "build": "20260101",
    }
    downloads = tmp_path / "downloads.json"
    downloads.write_text(json.dumps({f"cpython-{VERSION}-linux-{platform.machine()}-gnu": row}))
    return {"mirror": (tmp_path / "mirror").as_uri(), "downloads": str(downloads)}


@pytest.fixture
def arguments(tmp_path: Path, uv: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("ansible.modules.tensorflow_interpreter.ensure_uv", lambda **_: uv)
    root = tmp_path / "root"
    directory = f"cpython-{MINOR}-linux-{platform.machine()}-gnu"
    path = root / ".pythons" / directory / "bin" / f"python{MINOR}"
    return {"path": str(path), "minor": MINOR, "source": "uv", "root": str(root)}


def test_fetched_from_a_mirror_in_four_runs(run_module, arguments: dict[str, Any], mirror: dict[str, str]) -> None:
    wish = {**arguments, **mirror}
    runs = [run_module("tensorflow_interpreter", check=check, **wish) for check in (True, False, True, False)]
    assert [run["changed"] for run in runs] == [True, True, False, False], runs
    said = subprocess.check_output(
        [arguments["path"], "-c", "import ssl, sys; print(sys.version.split()[0])"], text=True
    )
    assert said.strip() == VERSION
    library = Path(os.path.realpath(arguments["path"])).parents[1] / "lib" / f"python{MINOR}" / "os.py"
    with library.open("a") as stream:
        stream.write("# mine\n")
    edited = run_module("tensorflow_interpreter", **wish)
    assert f"is not as it was unpacked: lib/python{MINOR}/os.py changed" in edited["msg"]


def test_an_environment_on_a_fetched_interpreter_is_kept_by_the_next_run(
    tmp_path: Path, mirror: dict[str, str], uv: str
) -> None:
    """Of small wheels: this is about the interpreter."""
    if RELEASE is None:
        pytest.skip(f"no release of these tests has a wheel for Python {MINOR}")
    machine = Machine(tmp_path, uv)
    wish = {
        "tensorflow_version": RELEASE,
        "python_source": "uv",
        "python_mirror": mirror["mirror"],
        "python_downloads": mirror["downloads"],
    }
    checked = machine.play("workstation", "--check", **wish)
    assert (checked.code, checked.counts["changed"]) == (0, 2), checked.output
    run = machine.play("workstation", **wish)
    assert (run.code, run.counts["changed"]) == (0, 2), run.output
    assert run.report["plan"]["python"]["path"].startswith(str(machine.site.root / ".pythons"))
    again = machine.play("workstation", **wish)
    assert (again.code, again.counts["changed"]) == (0, 0), again.output


def test_damaged_archive_is_refused(run_module, arguments: dict[str, Any], mirror: dict[str, str]) -> None:
    listed = json.loads(Path(mirror["downloads"]).read_text())
    for row in listed.values():
        row["sha256"] = "0" * 64
    Path(mirror["downloads"]).write_text(json.dumps(listed))
    result = run_module("tensorflow_interpreter", **arguments, **mirror)
    assert result["failed"]
    assert f"Python {MINOR} could not be fetched from {mirror['mirror']}" in result["msg"]
    assert not os.path.exists(arguments["path"])


@pytest.mark.parametrize("is_pinned", [True, False])
def test_an_archive_that_is_not_pinned_is_removed(tmp_path: Path, arguments: dict[str, Any], is_pinned: bool) -> None:
    """By a uv that compares nothing."""
    path = Path(arguments["path"])
    program = tmp_path / "uv"
    starter = tmp_path / "starter"
    starter.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    starter.chmod(0o755)
    lines = [
        "#!/bin/sh",
        f"mkdir -p {path.parent}",
        f"cp {starter} {path}",
        'echo x > "$UV_PYTHON_CACHE_DIR/cpython.tar.gz"',
    ]
    program.write_text("\n".join([*lines, ""]))
    program.chmod(0o755)
    archives = {MINOR: hashlib.sha256(b"x\n" if is_pinned else b"y\n").hexdigest()}
    options = {"root": arguments["root"], "uv": str(program), "mirror": None, "downloads": None, "archives": archives}
    left = tmp_path / "root" / ".pythons" / ".archive-killed"
    left.mkdir(parents=True)
    if is_pinned:
        interpreter.fetch(str(path), MINOR, log=str(tmp_path / "log"), **options)
        assert path.exists() and (path.parents[2] / f".{path.parents[1].name}.json").exists()
    else:
        with pytest.raises(BuildError, match=r"is not the pinned one: cpython.tar.gz has [0-9a-f]{64}. It was removed"):
            interpreter.fetch(str(path), MINOR, log=str(tmp_path / "log"), **options)
        assert not path.parents[1].exists()
    assert not list((tmp_path / "root" / ".pythons").glob(".archive-*"))


def test_a_build_without_a_sha256_is_refused(run_module, arguments: dict[str, Any], mirror: dict[str, str]) -> None:
    listed = json.loads(Path(mirror["downloads"]).read_text())
    for row in listed.values():
        row["sha256"] = None
    Path(mirror["downloads"]).write_text(json.dumps(listed))
    result = run_module("tensorflow_interpreter", **arguments, **mirror)
    assert "has no sha256 of cpython-" in result["msg"] and "unset python_downloads" in result["msg"]
    assert not os.path.exists(arguments["path"])


def test_unreachable_mirror_says_how_to_provide_one(run_module, arguments: dict[str, Any], tmp_path: Path) -> None:
    result = run_module("tensorflow_interpreter", **arguments, mirror=(tmp_path / "nowhere").as_uri())
    assert result["failed"]
    assert f"Install it yourself: python{MINOR} where it is looked for" in result["msg"]
    assert "set python_mirror to a mirror of python-build-standalone" in result["msg"]


def test_nothing_is_put_into_a_root_that_others_may_write(run_module, arguments: dict[str, Any]) -> None:
    os.makedirs(arguments["root"])
    os.chmod(arguments["root"], 0o777)
    result = run_module("tensorflow_interpreter", **arguments)
    assert result["failed"]
    assert "could be changed by others" in result["msg"]
    assert os.listdir(arguments["root"]) == []


def test_a_package_that_brought_no_interpreter_is_seen(run_module, arguments: dict[str, Any]) -> None:
    result = run_module("tensorflow_interpreter", **{**arguments, "source": "distro"})
    assert result["failed"]
    assert "was planned at" in result["msg"]
    assert "none starts there. Install it, or set python_source to auto." in result["msg"]


def test_a_bundle_has_a_build_that_uv_takes_and_refuses_another_one(
    tmp_path: Path, run_module, arguments: dict[str, Any], mirror: dict[str, str], uv: str
) -> None:
    need = BundleNeed("python", "cpython", MINOR, architecture=platform.machine(), component="python")
    version, url, place = pythons.find_python(uv, need, mirror["downloads"])
    assert (version, url.rpartition("/")[2]) == (VERSION, place.rpartition("/")[2])
    (source,) = pythons.sources(url, place, mirror["mirror"], ())
    shelf = Shelf(str(tmp_path / "bundle"))
    shelf.fetch(f"python/{place}", source.shown, source)
    file = shelf.file_at(f"python/{place}", kind="python", name="cpython")
    file = dataclasses.replace(file, version=version)
    pythons.check_python(uv, shelf.directory, file, mirror["downloads"])
    # A directory by its path, as stack_bundle_url may be.
    wish = {**arguments, "mirror": str(tmp_path / "bundle/python"), "downloads": mirror["downloads"]}
    assert run_module("tensorflow_interpreter", **wish)["changed"]
    Path(shelf.path_of(file.path)).write_bytes(b"another")
    with pytest.raises(StackError, match="is not the build that uv knows"):
        pythons.check_python(uv, shelf.directory, file, mirror["downloads"])
