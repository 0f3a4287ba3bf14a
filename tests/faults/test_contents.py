"""What an environment runs is what its lock says, whatever of it somebody changed (docs/security.md)."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import marshal
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import changes, venv
from ansible.module_utils.tensorflow_stack.records.lockfile import Distribution

from tests.component.environment.test_venv import MINOR, NAME, Site, site  # noqa: F401  # the fixture
from tests.wheels import make_wheel

TAG = "cpython-" + MINOR.replace(".", "")
EVIL = "version = '6.66.6'\n"


@pytest.fixture
def built(site: Site) -> Site:  # noqa: F811
    site.apply()
    return site


def numpy(site: Site) -> Path:  # noqa: F811
    return site.site_packages / "numpy"


def bytecode(site: Site, level: str = "") -> Path:  # noqa: F811
    return numpy(site) / "__pycache__" / f"__init__.{TAG}{level}.pyc"


def compiled(site: Site, text: str, *, flags: int = 0) -> bytes:  # noqa: F811
    """Bytecode of another text, valid for the source that is installed."""
    status = (numpy(site) / "__init__.py").stat()
    stamp = b"".join(number.to_bytes(4, "little") for number in (flags, int(status.st_mtime), status.st_size))
    return importlib.util.MAGIC_NUMBER + stamp + marshal.dumps(compile(text, "x", "exec"))


def write_in_place(path: Path, data: bytes) -> None:
    """With its time and that of its directory as they were."""
    before = [(place, place.stat()) for place in (path.parent, path) if place.exists()]
    with path.open("r+b" if path.exists() else "xb") as stream:
        stream.write(data)
        stream.truncate()
    for place, status in reversed(before):
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))


# --- Bytecode ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "is_shared"), [(0, True), (1, False)], ids=["of the store", "never compared"])
def test_changed_bytecode_is_seen_by_hashes_and_does_not_come_back(built: Site, flags: int, is_shared: bool) -> None:
    if not is_shared:
        shutil.rmtree(Path(built.root, ".cache", "installed"))
    write_in_place(bytecode(built), compiled(built, EVIL, flags=flags))
    assert built.says() == "2.8.0 6.66.6"
    damage = changes.plan_present(built.spec(), hashes=True).damage
    name = bytecode(built).relative_to(built.site_packages)
    assert damage == (("numpy", f"numpy: {name} is not the bytecode of numpy/__init__.py"),)
    assert built.apply(hashes=True).action == "repair"
    assert built.says() == "2.8.0 1.23.5"


def test_what_is_no_bytecode_is_damage_and_no_traceback(built: Site) -> None:
    for data in (b"", compiled(built, EVIL)[:20], compiled(built, EVIL)[:16] + b"\xe3" * 40):
        write_in_place(bytecode(built), data)
        plan = changes.plan_present(built.spec(), hashes=True)
        # Python itself ignores what has no head, and compiles.
        assert plan.action == ("keep" if not data else "repair")
    write_in_place(bytecode(built), b"")
    # Of another level of optimisation, which only `python -O` runs.
    write_in_place(bytecode(built, ".opt-1"), compiled(built, EVIL))
    assert "opt-1.pyc is not the bytecode of numpy/__init__.py" in texts(built, hashes=True)


def test_bytecode_that_python_compiled_itself_is_kept(built: Site) -> None:
    shutil.rmtree(bytecode(built).parent)
    assert changes.plan_present(built.spec(), hashes=True).action == "keep"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([built.live / "bin" / "python", "-c", "import numpy"], check=True, env=environment)
    assert bytecode(built).exists()
    assert changes.plan_present(built.spec(), hashes=True).action == "keep"
    assert changes.plan_present(built.spec()).action == "keep"


# --- Kind and mode of what is there -------------------------------------------------------------------------


def link(path: Path, elsewhere: Path) -> None:
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def texts(site: Site, *, hashes: bool = False) -> str:  # noqa: F811
    return "\n".join(text for _, text in changes.plan_present(site.spec(), hashes=hashes).damage)


def test_modes_links_and_files_of_no_package_are_looked_at_in_each_run(built: Site, tmp_path: Path) -> None:
    for name in ("bin/activate", "lock.txt"):
        with (built.live / name).open("a") as stream:
            stream.write("# mine\n")
    bytecode(built).parent.chmod(0o777)
    link(built.site_packages / "tensorflow", tmp_path / "tensorflow")
    said = texts(built)
    assert "bin/activate was changed" in said and "lock.txt was changed" in said
    assert "numpy/__pycache__ could be changed by others" in said
    assert "tensorflow: its directory tensorflow is no longer one" in said


def test_directories_that_were_replaced_by_links_are_damage(built: Site, tmp_path: Path) -> None:
    link(bytecode(built).parent, tmp_path / "bytecode")
    assert "its directory numpy/__pycache__ is no longer one" in texts(built)
    link(built.site_packages, tmp_path / "packages")
    assert "site-packages is no longer a directory" in texts(built)


def test_the_mode_of_each_file_of_bytecode_is_compared_with_the_contents(built: Site) -> None:
    bytecode(built).chmod(0o666)
    assert f"{TAG}.pyc could be changed by others" in texts(built, hashes=True)


# --- What was added inside of a package -----------------------------------------------------------------------


def test_what_was_added_to_a_package_is_named(built: Site) -> None:
    for name in ("added.py", "libcudart.so.11.0", "plugins/added.py"):
        (numpy(built) / name).parent.mkdir(exist_ok=True)
        (numpy(built) / name).write_text("")
    outcome = built.apply()
    assert outcome.action == "keep"
    below = numpy(built).relative_to(built.live)
    shown = [f"{below}/{name}" for name in ("added.py", "libcudart.so.11.0", "plugins")]
    assert [addition.text for addition in outcome.additions] == shown


def test_what_hides_its_time_is_named_by_hashes(built: Site) -> None:
    write_in_place(numpy(built) / "added.py", b"")
    assert built.apply().additions == ()
    assert [addition.name.rpartition("/")[2] for addition in built.apply(hashes=True).additions] == ["added.py"]


def test_a_file_that_a_wheel_does_not_list_is_its_own_and_compared(site: Site) -> None:  # noqa: F811
    make_wheel(site.wheels, "odd", "1.0", {"odd/__init__.py": ""})
    (wheel,) = site.wheels.glob("odd-*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("odd/unlisted.py", "x = 1\n")
    data = wheel.read_bytes()
    odd = Distribution("odd", "1.0", (hashlib.sha256(data).hexdigest(),), len(data))
    spec = site.spec(site.tensorflow, site.numpy, odd)
    site.apply(spec)
    assert site.apply(spec, hashes=True).additions == ()
    write_in_place(site.site_packages / "odd" / "unlisted.py", b"x = 2\n")
    damage = [found.text for found in changes.plan_present(spec, hashes=True).damage]
    assert "odd/unlisted.py differ from what was installed" in damage[-1]


def test_a_build_of_an_earlier_version_is_compared_as_well(built: Site) -> None:
    """Its record has neither the lock nor scripts among what makes it a venv."""
    path = built.live / "build.json"
    record = json.loads(path.read_text())
    record["frame"] = {name: text for name, text in record["frame"].items() if name.startswith(("pyv", "bin/python"))}
    path.write_text(json.dumps(record))
    assert changes.plan_present(built.spec(), hashes=True).action == "keep"
    venv.apply_absent(built.root, NAME, lock_timeout=0)
