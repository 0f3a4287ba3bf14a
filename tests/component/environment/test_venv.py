"""Environments, built for real with small wheels: uv, links, locks and processes are the real ones."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import builds, changes, going_back, installing, venv
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import Done, record_in_manifest
from ansible.module_utils.tensorflow_stack.errors import BuildError, BusyError
from ansible.module_utils.tensorflow_stack.io import trust
from ansible.module_utils.tensorflow_stack.io.flock import exclusive_lock
from ansible.module_utils.tensorflow_stack.records import manifest
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests.needs import require
from tests.wheels import make_lock, make_tensorflow, make_wheel

NAME = "tensorflow-2.8.0"
MINOR = "%d.%d" % sys.version_info[:2]
PYTHON = os.path.realpath(sys.executable)


class Site:
    """A root with an index of wheels beside it."""

    def __init__(self, path: Path, uv: str) -> None:
        self.root = str(path / "root")
        self.wheels = path / "wheels"
        self.wheels.mkdir()
        self.uv = uv
        self.tensorflow = make_tensorflow(self.wheels, "2.8.0")
        self.numpy = make_wheel(self.wheels, "numpy", "1.23.5", {"numpy/__init__.py": "version = '1.23.5'\n"})

    def spec(self, *distributions, **values) -> EnvironmentSpec:
        lock = make_lock(*(distributions or (self.tensorflow, self.numpy)), release="2.8.0", python=MINOR)
        fields = {"name": NAME, "root": self.root, "release": "2.8.0", "flavour": "cpu", "python": PYTHON, "lock": lock}
        return EnvironmentSpec(**{**fields, **values})

    def installer(self) -> installing.Installer:
        return installing.Installer(
            uv=self.uv, index_url=self.wheels.as_uri(), cache=os.path.join(self.root, ".cache", "uv")
        )

    def apply(self, spec=None, **options) -> changes.EnvironmentOutcome:
        options = {"keep": 2, "lock_timeout": 0, **options}
        return venv.apply_present(spec or self.spec(), installer=self.installer, **options)

    @property
    def live(self) -> Path:
        return Path(self.root, NAME)

    @property
    def site_packages(self) -> Path:
        return self.live / "lib" / f"python{MINOR}" / "site-packages"

    def says(self) -> str:
        program = "import tensorflow, numpy; print(tensorflow.__version__, numpy.version)"
        return subprocess.check_output([self.live / "bin" / "python", "-c", program], text=True).strip()


@pytest.fixture
def site(tmp_path: Path, uv: str) -> Site:
    return Site(tmp_path, uv)


def test_build_is_complete_and_the_second_run_keeps_it(site: Site) -> None:
    planned = changes.plan_present(site.spec())
    outcome = site.apply()
    assert (planned.action, outcome.action) == ("build", "build")
    assert planned.bytes_to_fetch == outcome.bytes_to_fetch == site.tensorflow.bytes + site.numpy.bytes
    assert site.says() == "2.8.0 1.23.5"
    assert os.readlink(site.live) == f".builds/{outcome.build}"
    assert list(site.site_packages.glob("tensorflow/__pycache__/*.pyc")), "bytecode is there when the build goes live"

    def never() -> installing.Installer:
        raise AssertionError("an unchanged environment needs no installer")

    again = venv.apply_present(site.spec(), installer=never, keep=2, lock_timeout=0)
    assert (again.action, again.changed, again.build) == ("keep", False, outcome.build)


def test_an_environment_that_hides_gpus_is_another_one(site: Site) -> None:
    program = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('CUDA_DEVICE_ORDER'))"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
    seen = []
    for visible in (None, "0,2", "0,2", "1"):
        action = site.apply(site.spec(visible_gpus=visible)).action
        live = builds.live_build(site.root, NAME)
        assert live and live.record and live.record.get("visible_gpus") == visible
        said = subprocess.check_output([site.live / "bin" / "python", "-I", "-c", program], text=True, env=environ)
        seen.append((action, said.strip()))
    assert seen == [
        ("build", "None None"),
        ("build", "0,2 PCI_BUS_ID"),
        ("keep", "0,2 PCI_BUS_ID"),
        ("build", "1 PCI_BUS_ID"),
    ]


def _delete_file(site: Site) -> None:
    (site.site_packages / "numpy" / "__init__.py").unlink()


def _change_size(site: Site) -> None:
    path = site.site_packages / "numpy" / "__init__.py"
    # As an editor does, by a new file: the cache behind the hard link is not touched.
    path.rename(path.with_suffix(".old"))
    path.write_text("version = 'mine'\n\n")
    path.with_suffix(".old").unlink()


def _remove_package(site: Site) -> None:
    command = [site.uv, "pip", "uninstall", "--python", site.live / "bin" / "python", "numpy"]
    subprocess.run(command, check=True, capture_output=True)


def _remove_pyvenv_cfg(site: Site) -> None:
    (site.live / "pyvenv.cfg").unlink()


def _link_another_interpreter(site: Site) -> None:
    (site.live / "bin" / "python").unlink()
    (site.live / "bin" / "python").symlink_to("/bin/sh")


def _empty_a_record(site: Site) -> None:
    """So that the files which it named are asked for no more."""
    (site.site_packages / "numpy" / "__init__.py").unlink()
    record = site.site_packages / "numpy-1.23.5.dist-info" / "RECORD"
    record.unlink()
    record.write_text("")


def _garble_a_record(site: Site) -> None:
    record = site.site_packages / "numpy-1.23.5.dist-info" / "RECORD"
    record.unlink()
    record.write_bytes(b"numpy/__init__.py,md99=x,notanumber\n\xff\xfe")


def _link_to_another_file(site: Site) -> None:
    path = site.site_packages / "numpy" / "__init__.py"
    path.rename(Path(site.root).with_name("mine.py"))
    path.symlink_to(Path(site.root).with_name("mine.py"))


def _link_to_nothing(site: Site) -> None:
    path = site.site_packages / "numpy" / "__init__.py"
    path.unlink()
    path.symlink_to("nothing")


def _fifo(site: Site) -> None:
    path = site.site_packages / "numpy" / "__init__.py"
    path.unlink()
    os.mkfifo(path)


def _fifo_for_a_record(site: Site) -> None:
    path = site.site_packages / "numpy-1.23.5.dist-info" / "RECORD"
    path.unlink()
    os.mkfifo(path)


def _others_may_write(path: str) -> Callable[[Site], None]:
    def open_it(site: Site) -> None:
        os.chmod(site.site_packages / path, 0o777)

    open_it.__name__ = f"others_may_write({path})"
    return open_it


def _remove_interpreter(site: Site) -> None:
    (site.live / "bin" / "python").unlink()


@pytest.mark.parametrize(
    ("break_it", "seen"),
    [
        (_delete_file, "numpy: numpy/__init__.py is missing"),
        (_change_size, "numpy: numpy/__init__.py has 18 bytes, not 19"),
        (_remove_package, "numpy 1.23.5 is not installed"),
        (_remove_interpreter, "its interpreter"),
        (_remove_pyvenv_cfg, "pyvenv.cfg was changed"),
        (_link_another_interpreter, "bin/python was changed"),
        (_empty_a_record, "numpy: its RECORD was changed"),
        (_garble_a_record, "numpy: its RECORD was changed"),
        (_fifo_for_a_record, "numpy: its RECORD was changed"),
        (_fifo, "numpy: numpy/__init__.py is no longer a regular file"),
        (_link_to_another_file, "numpy: numpy/__init__.py is no longer a regular file"),
        (_link_to_nothing, "numpy: numpy/__init__.py is no longer a regular file"),
        (_others_may_write("numpy/__init__.py"), "numpy: numpy/__init__.py could be changed by others"),
        (_others_may_write("numpy"), "numpy: its directory "),
        (_others_may_write("."), "numpy: its directory "),
        (_others_may_write("../../../bin"), "/"),
        (_others_may_write("../../.."), "/"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_damage_is_seen_and_repaired_beside(site: Site, break_it, seen: str) -> None:
    first = site.apply()
    break_it(site)
    planned = changes.plan_present(site.spec())
    assert planned.action == "repair"
    assert any(text.startswith(seen) for _, text in planned.damage), planned.damage
    repaired = site.apply()
    assert (repaired.action, repaired.damage) == ("repair", planned.damage)
    assert repaired.build != first.build
    assert site.says() == "2.8.0 1.23.5"
    assert site.apply().action == "keep"


def _edit_in_place(path: Path, text: str) -> None:
    """As a debugging session does: uv's cache shares this file by a hard link and is changed with it."""
    assert path.stat().st_nlink > 1
    with path.open("r+") as stream:
        stream.write(text)
        stream.truncate()


EDITS = {"longer": "version = 'edited by hand'\n", "of the same size": "version = '6.66.6'\n"}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("case", ["removed and built again", "another environment", "repaired"])
def test_an_edit_in_place_does_not_come_back_from_the_cache(site: Site, edit: str, case: str) -> None:
    site.apply()
    _edit_in_place(site.site_packages / "numpy" / "__init__.py", EDITS[edit])
    if case == "another environment":
        assert site.apply(dataclasses.replace(site.spec(), name="other")).action == "build"
        site.live.unlink()
        site.live.symlink_to(os.readlink(Path(site.root, "other")))
    elif case == "repaired":
        assert site.apply().action == "repair"
    else:
        venv.apply_absent(site.root, NAME, lock_timeout=0)
        assert site.apply().action == "build"
    assert site.says() == "2.8.0 1.23.5"
    log = Path(site.root, ".builds", "other.log" if case == "another environment" else f"{NAME}.log").read_text()
    assert "Fetching numpy again: the cache was damaged" in log


def test_the_other_environment_that_was_edited_is_repaired_by_its_own_run(site: Site) -> None:
    other = dataclasses.replace(site.spec(), name="other")
    site.apply()
    site.apply(other)
    _edit_in_place(site.site_packages / "numpy" / "__init__.py", EDITS["of the same size"])
    damage = (("numpy", "numpy: the contents of numpy/__init__.py differ from what was installed"),)
    assert changes.plan_present(other).damage == damage
    assert [site.apply(spec).action for spec in (site.spec(), other)] == ["repair", "repair"]


def test_an_edit_that_hides_its_time_is_seen_by_hashes_alone(site: Site) -> None:
    site.apply()
    path = site.site_packages / "numpy" / "__init__.py"
    before = path.stat()
    _edit_in_place(path, EDITS["of the same size"])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changes.plan_present(site.spec()).action == "keep"
    damage = changes.plan_present(site.spec(), hashes=True).damage
    assert damage == (("numpy", "numpy: the contents of numpy/__init__.py differ from what was installed"),)
    site.apply(hashes=True)
    assert site.says() == "2.8.0 1.23.5"


def test_a_file_that_was_only_touched_is_kept(site: Site) -> None:
    site.apply()
    (site.site_packages / "numpy" / "__init__.py").touch()
    assert changes.plan_present(site.spec()).action == "keep"


def test_a_replaced_file_of_the_cache_is_not_built(site: Site) -> None:
    site.apply()
    venv.apply_absent(site.root, NAME, lock_timeout=0)
    (cached,) = Path(site.root, ".cache", "uv").glob("archive-*/*/numpy/__init__.py")
    cached.unlink()
    cached.write_text("version = 'EVIL!'\n\n")
    site.apply()
    assert site.says() == "2.8.0 1.23.5"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user: run as root")
@pytest.mark.parametrize("name", ["__init__.py", "added.py"])
def test_what_another_user_left_in_the_cache_is_not_built(site: Site, name: str) -> None:
    """While others could write there; the directories are closed again, what is in them is still theirs."""
    site.apply()
    venv.apply_absent(site.root, NAME, lock_timeout=0)
    shutil.rmtree(Path(site.root, ".cache", "installed"))
    (cached,) = Path(site.root, ".cache", "uv").glob("archive-*/*/numpy/__init__.py")
    text = cached.read_text()
    planted = cached.with_name(name)
    planted.unlink(missing_ok=True)
    planted.write_text(text)
    os.chown(planted, 65534, 65534)
    if name == "__init__.py":
        site.apply()
        assert (site.site_packages / "numpy" / name).stat().st_uid == 0
    else:
        with pytest.raises(BuildError, match=r"with .*/numpy/added.py, which .*65534.* has written to the cache"):
            site.apply()
        os.rename(Path(site.root, ".cache", "uv"), Path(site.root, ".cache", "uv.old"))
        site.apply()
    assert site.says() == "2.8.0 1.23.5"


def test_offline_an_edited_cache_is_a_message_that_says_what_helps(site: Site) -> None:
    index = site.wheels.parent / "simple"
    for distribution in (site.tensorflow, site.numpy):
        page = index / distribution.name / "index.html"
        page.parent.mkdir(parents=True)
        (wheel,) = site.wheels.glob(f"{distribution.name}-*.whl")
        page.write_text(f'<a href="{wheel.as_uri()}">{wheel.name}</a>')

    def apply(offline: bool) -> changes.EnvironmentOutcome:
        installer = dataclasses.replace(site.installer(), index_url=index.as_uri(), offline=offline)
        return venv.apply_present(site.spec(), installer=lambda: installer, keep=2, lock_timeout=0)

    apply(offline=False)
    _edit_in_place(site.site_packages / "numpy" / "__init__.py", EDITS["longer"])
    with pytest.raises(BuildError, match=r"cannot be built offline: files of numpy in the cache .*Unset tensorflow_o"):
        apply(offline=True)
    assert apply(offline=False).action == "repair"
    assert site.says() == "2.8.0 1.23.5"


def test_a_wheel_that_is_not_what_its_record_says_is_named(site: Site) -> None:
    text = {"odd/__init__.py": "x = 1\n"}
    wheel = make_wheel(site.wheels, "odd", "1.0", text, recorded={"odd/__init__.py": "x = 2\n"})
    with pytest.raises(
        BuildError, match=r"odd: the contents of odd/__init__.py differ .* The wheel itself is wrong.* of odd"
    ):
        site.apply(site.spec(site.tensorflow, site.numpy, wheel))
    assert builds.builds_of(site.root, NAME) == []


def test_a_wheel_whose_metadata_was_edited_after_its_record_was_made_is_built_and_kept(site: Site) -> None:
    # As TensorFlow 1.15.0 for cp37 is on the index.
    recorded = {"odd-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: odd\nVersion: 1.0\nLicense: any\n"}
    wheel = make_wheel(site.wheels, "odd", "1.0", {"odd/__init__.py": ""}, recorded=recorded)
    spec = site.spec(site.tensorflow, site.numpy, wheel)
    assert site.apply(spec).action == "build"
    assert site.apply(spec).action == "keep"
    with open(site.site_packages / "odd-1.0.dist-info/METADATA", "a", encoding="utf-8") as metadata:
        metadata.write("Requires-Dist: more\n")
    assert site.apply(spec).action == "repair"


def test_another_lock_is_built_beside_and_can_be_rolled_back(site: Site) -> None:
    first = site.apply()
    newer = make_wheel(site.wheels, "numpy", "1.24.0", {"numpy/__init__.py": "version = '1.24.0'\n"})
    second = site.apply(site.spec(site.tensorflow, newer))
    assert second.before is not None and second.before.name == first.build
    assert site.says() == "2.8.0 1.24.0"
    assert going_back.plan_previous(site.root, NAME).build == first.build
    assert venv.apply_previous(site.root, NAME, lock_timeout=0).after_packages["numpy"] == "1.23.5"
    assert site.says() == "2.8.0 1.23.5"
    # The build is there already: going forward again is a switch, not a build.
    assert site.apply(site.spec(site.tensorflow, newer)).action == "switch"
    assert site.says() == "2.8.0 1.24.0"


def test_rollback_refuses_when_there_is_nothing_to_go_back_to(site: Site) -> None:
    with pytest.raises(BuildError, match=r"There is no environment tensorflow-2\.8\.0 in .*: there are none"):
        going_back.plan_previous(site.root, NAME)
    first = site.apply()
    with pytest.raises(BuildError, match=f"has no build to roll back to that was in use before {first.build}"):
        going_back.plan_previous(site.root, NAME)
    newer = make_wheel(site.wheels, "numpy", "1.24.0", {"numpy/__init__.py": "version = '1.24.0'\n"})
    site.apply(site.spec(site.tensorflow, newer))
    Path(site.root, ".builds", str(first.build), "bin", "python").unlink()
    with pytest.raises(BuildError, match=rf"Not usable: {first.build} \(its interpreter"):
        going_back.plan_previous(site.root, NAME)


def test_keeps_as_many_builds_as_asked_for(site: Site) -> None:
    built = [site.apply().build]
    for minor in range(3):
        version = f"1.24.{minor}"
        numpy = make_wheel(site.wheels, "numpy", version, {"numpy/__init__.py": f"version = {version!r}\n"})
        planned = changes.plan_present(site.spec(site.tensorflow, numpy), keep=2)
        outcome = site.apply(site.spec(site.tensorflow, numpy), keep=2)
        assert planned.removed_builds == outcome.removed_builds
        built.append(outcome.build)
    assert outcome.removed_builds == (built[1],)
    assert [build.name for build in builds.builds_of(site.root, NAME)] == built[2:]


def test_a_build_in_use_is_not_removed(site: Site) -> None:
    old = site.apply()
    library = Path(site.root, ".builds", str(old.build), "lock.txt")
    program = f"""
import mmap
file = open({str(library)!r}, "r+b")
mapped = mmap.mmap(file.fileno(), 0)
print("ready", flush=True)
input()
"""
    user = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert user.stdout is not None and user.stdout.readline() == "ready\n"
        numpy = make_wheel(site.wheels, "numpy", "1.24.0", {"numpy/__init__.py": "version = '1.24.0'\n"})
        assert site.apply(site.spec(site.tensorflow, numpy), keep=1).removed_builds == ()
        with pytest.raises(BuildError, match=rf"in use by process {user.pid} \(python[0-9.]*\); nothing was removed"):
            venv.apply_absent(site.root, NAME, lock_timeout=0)
        assert site.says() == "2.8.0 1.24.0"
    finally:
        user.communicate("\n")


def test_remove_takes_all_builds_and_nothing_else(site: Site) -> None:
    other = dataclasses.replace(site.spec(), name="other")
    outcome = site.apply()
    site.apply(other)
    assert changes.plan_absent(site.root, NAME).removed_builds == (outcome.build,)
    assert venv.apply_absent(site.root, NAME, lock_timeout=0).removed_builds == (outcome.build,)
    assert not os.path.lexists(site.live)
    assert builds.builds_of(site.root, NAME) == []
    assert changes.plan_present(other).action == "keep"
    assert venv.apply_absent(site.root, NAME, lock_timeout=0).action == "keep"


def test_a_name_that_is_the_start_of_another_is_another_environment(site: Site) -> None:
    longer = dataclasses.replace(site.spec(), name=NAME + "-mine")
    site.apply()
    site.apply(longer)
    assert len(builds.builds_of(site.root, NAME)) == len(builds.builds_of(site.root, NAME + "-mine")) == 1


@pytest.mark.parametrize("as_link", [False, True], ids=["directory", "link"])
def test_what_the_toolkit_did_not_make_is_left_alone(site: Site, as_link: bool, tmp_path: Path) -> None:
    os.makedirs(site.root)
    if as_link:
        site.live.symlink_to(tmp_path)
    else:
        site.live.mkdir()
    with pytest.raises(BuildError, match="this toolkit did not make|not made by this toolkit"):
        site.apply()
    assert site.live.exists()


def test_failed_import_leaves_the_live_environment(site: Site) -> None:
    site.apply()
    broken = make_tensorflow(
        site.wheels, "2.8.0.post1", "raise TypeError('Descriptors cannot not be created directly.')"
    )
    with pytest.raises(BuildError, match=r"`import tensorflow` fails in it: TypeError: Descriptors cannot not be"):
        site.apply(site.spec(broken, site.numpy))
    assert site.says() == "2.8.0 1.23.5"
    assert len(builds.builds_of(site.root, NAME)) == 1


def test_wrong_hash_is_refused_and_nothing_is_left(site: Site) -> None:
    forged = dataclasses.replace(site.numpy, hashes=("0" * 64,))
    with pytest.raises(BuildError, match="(?i)hash mismatch"):
        site.apply(site.spec(site.tensorflow, forged))
    assert not os.path.lexists(site.live)
    assert builds.builds_of(site.root, NAME) == []


def test_leftovers_of_killed_runs_are_swept(site: Site) -> None:
    leftover = Path(site.root, ".builds", f"{NAME}-{'a' * 12}-7")
    leftover.mkdir(parents=True)
    outcome = site.apply()
    assert not leftover.exists()
    assert builds.live_build(site.root, NAME).name == outcome.build


def test_leftovers_are_swept_by_a_run_that_changes_nothing_but_not_from_under_another(site: Site) -> None:
    site.apply()
    leftover = Path(site.root, ".builds", f"{NAME}-{'a' * 12}-7")
    leftover.mkdir()
    with exclusive_lock(os.path.join(site.root, ".locks", NAME), what="a run that builds"):
        assert site.apply().action == "keep"
        assert leftover.exists()
    assert site.apply().action == "keep"
    assert not leftover.exists()


def test_the_second_run_waits_and_then_says_who_holds_the_lock(site: Site) -> None:
    with exclusive_lock(os.path.join(site.root, ".locks", NAME), what="the first run"):
        started = time.monotonic()
        with pytest.raises(BusyError, match=rf"is in use by process {os.getpid()} \(.*\) since .*; waited 0\.5 s"):
            site.apply(lock_timeout=0.5)
        assert time.monotonic() - started >= 0.5
    assert site.apply().action == "build"


def test_the_program_of_a_running_process_is_not_removed(site: Site) -> None:
    site.apply()
    user = subprocess.Popen([site.live / "bin" / "python", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(BuildError, match=f"is in use by process {user.pid}"):
            venv.apply_absent(site.root, NAME, lock_timeout=0)
    finally:
        user.communicate(b"\n")


def _file_in_its_place(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(site.root).write_text("a file")


def _without_programs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "is_noexec", lambda path: path == site.root)


def _writable_for_all(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs(site.root)
    os.chmod(site.root, 0o777)


def _writable_for_a_group(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_is_own_group", lambda *_: False)
    os.makedirs(site.root)
    os.chmod(site.root, 0o775)


def _of_another_user(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs(site.root)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    if os.stat(site.root).st_uid == 0:
        os.chown(site.root, 65534, 65534)


def _below_a_directory_of_others(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chmod(os.path.dirname(site.root), 0o777)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_file_in_its_place, r"The environments' root .* cannot be written: .* is no directory\. Set tensorflow_root"),
        (
            _without_programs,
            r"root .* is on a file system that is mounted noexec, .* Set tensorflow_root to a directory",
        ),
        (_writable_for_all, r"could be changed by others \(owner \d+, mode 0777\)"),
        (_writable_for_a_group, r"could be changed by others \(owner \d+, mode 0775\)"),
        (_of_another_user, r"could be changed by others \(owner \d+, mode 07\d\d\)"),
        (
            _below_a_directory_of_others,
            r"others \(owner \d+, mode 0777\), which is part of the path to .*root: an environment",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_root_is_refused_by_plan_and_run_alike(
    site: Site, monkeypatch: pytest.MonkeyPatch, spoil: Callable[..., None], message: str
) -> None:
    spoil(site, monkeypatch)
    for act in (lambda: changes.plan_present(site.spec()), site.apply):
        with pytest.raises(BuildError, match=message):
            act()
    assert not os.path.exists(os.path.join(site.root, ".builds"))


@pytest.mark.parametrize("own", [".builds", ".cache", ".cache/uv", ".locks"])
def test_an_own_directory_that_others_may_write_is_refused_by_each_run(site: Site, own: str) -> None:
    site.apply()
    os.chmod(os.path.join(site.root, own), 0o777)
    acts = [
        lambda: changes.plan_present(site.spec()),
        site.apply,
        lambda: venv.apply_previous(site.root, NAME, lock_timeout=0),
        lambda: venv.apply_absent(site.root, NAME, lock_timeout=0),
    ]
    for act in acts:
        with pytest.raises(BuildError, match=rf"/root/{own} could be changed by others .* chmod go-w "):
            act()
    assert site.says() == "2.8.0 1.23.5"


def test_a_relative_root_is_refused(site: Site) -> None:
    with pytest.raises(BuildError, match=r"root is 'environments'\. Set tensorflow_root to an absolute path"):
        site.apply(dataclasses.replace(site.spec(), root="environments"))


def test_disk_too_small_is_refused_by_plan_and_run_alike(site: Site) -> None:
    spec = site.spec(dataclasses.replace(site.tensorflow, bytes=10**15), site.numpy)
    for act in (lambda: changes.plan_present(spec), lambda: site.apply(spec)):
        with pytest.raises(
            BuildError, match=r"needs about [0-9,]+ MiB below .*, [0-9,]+ MiB are free.*Nothing was cha"
        ):
            act()
    assert builds.builds_of(site.root, NAME) == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x\n", "manifest.json", "python"])
def test_bad_names_are_refused(site: Site, name: str) -> None:
    with pytest.raises(BuildError, match="is no name for an environment"):
        site.apply(dataclasses.replace(site.spec(), name=name))


def test_libraries_are_linked_where_the_loader_looks(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "cuda" / "lib64"
    outside.mkdir(parents=True)
    (outside / "libcudart.so.11.0").write_bytes(b"")
    nvidia = make_wheel(site.wheels, "nvidia-cublas", "11.0", {"nvidia/cublas/lib/libcublas.so.11": "elf"})
    spec = site.spec(site.tensorflow, site.numpy, nvidia, library_directories=(str(outside), "nvidia/*/lib"))
    site.apply(spec)
    assert os.readlink(site.site_packages / "tensorflow" / "libcudart.so.11.0") == str(outside / "libcudart.so.11.0")
    assert os.readlink(site.site_packages / "tensorflow" / "libcublas.so.11") == "../nvidia/cublas/lib/libcublas.so.11"
    # Where TensorFlow 2.20 and 2.21 look, which do not look beside themselves.
    wheel = site.site_packages / "nvidia" / "cuda_runtime" / "lib"
    assert os.readlink(wheel / "libcudart.so.11.0") == str(outside / "libcudart.so.11.0")
    assert os.readlink(wheel / "libcublas.so.11") == "../../cublas/lib/libcublas.so.11"
    (outside / "libcudart.so.11.0").unlink()
    link = f"lib/python{MINOR}/site-packages/tensorflow/libcudart.so.11.0"
    texts = [damage.text for damage in changes.plan_present(spec).damage]
    assert f"the library {outside}/libcudart.so.11.0 behind {link} is gone" in texts


def test_cudnn_of_a_wheel_is_linked_before_one_of_the_node(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "cuda" / "lib64"
    outside.mkdir(parents=True)
    for name in ("libcublas.so.11", "libcudnn.so.8"):
        (outside / name).write_bytes(b"")
    cudnn = make_wheel(site.wheels, "nvidia-cudnn-cu11", "8.6.0", {"nvidia/cudnn/lib/libcudnn.so.8": "elf"})
    site.apply(site.spec(site.tensorflow, cudnn, library_directories=(str(outside), "nvidia/cudnn/lib")))
    beside = site.site_packages / "tensorflow"
    assert os.readlink(beside / "libcudnn.so.8") == "../nvidia/cudnn/lib/libcudnn.so.8"
    assert os.readlink(beside / "libcublas.so.11") == str(outside / "libcublas.so.11")


LIBDEVICE = "nvvm/libdevice/libdevice.10.bc"


@pytest.mark.parametrize("below", [LIBDEVICE, f"lib/cuda/{LIBDEVICE}"], ids=["nvidia", "debian"])
def test_what_xla_compiles_with_is_linked_where_it_looks(site: Site, tmp_path: Path, below: str) -> None:
    prefix = tmp_path / "usr"
    for name in ("bin/ptxas", below):
        (prefix / name).parent.mkdir(parents=True)
        (prefix / name).write_bytes(b"")
    spec = site.spec(site.tensorflow, cuda={"version": "12.4", "source": "distro", "prefix": str(prefix)})
    site.apply(spec)
    place = site.site_packages / "nvidia" / "cuda_nvcc"
    assert os.readlink(place / "bin" / "ptxas") == str(prefix / "bin" / "ptxas")
    assert os.readlink(place / LIBDEVICE) == str(prefix / below)
    (prefix / below).unlink()
    (damage,) = changes.plan_present(spec).damage
    assert damage.text.startswith(f"the library {prefix / below} behind ")


def test_what_xla_compiles_with_is_found_beside_the_libraries(site: Site, tmp_path: Path) -> None:
    for name in ("lib64/libcudart.so.12", "bin/ptxas"):
        (tmp_path / "cuda" / name).parent.mkdir(parents=True)
        (tmp_path / "cuda" / name).write_bytes(b"")
    site.apply(site.spec(site.tensorflow, library_directories=(str(tmp_path / "cuda" / "lib64"),)))
    assert os.readlink(site.site_packages / "nvidia/cuda_nvcc/bin/ptxas") == str(tmp_path / "cuda/bin/ptxas")


def test_the_wheel_of_the_compiler_is_left_as_it_is(site: Site, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ptxas").write_bytes(b"")
    nvcc = make_wheel(site.wheels, "nvidia-cuda-nvcc-cu12", "12.5.82", {f"nvidia/cuda_nvcc/{LIBDEVICE}": "bitcode"})
    site.apply(site.spec(site.tensorflow, nvcc, cuda={"version": "12.5", "source": "redist", "prefix": str(tmp_path)}))
    assert not (site.site_packages / "nvidia" / "cuda_nvcc" / "bin").exists()


def started_with(python: Path, flags: str | None) -> str:
    """XLA_FLAGS in a Python of the environment that was started with these."""
    environment = {} if flags is None else {"XLA_FLAGS": flags}
    program = "import os; print(os.environ.get('XLA_FLAGS', 'none'))"
    done = subprocess.run([python, "-I", "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_release_that_looks_nowhere_in_the_environment_is_told(site: Site) -> None:
    nvcc = make_wheel(site.wheels, "nvidia-cuda-nvcc-cu11", "11.8.89", {f"nvidia/cuda_nvcc/{LIBDEVICE}": "bitcode"})
    site.apply(site.spec(site.tensorflow, nvcc))
    python = site.live / "bin" / "python"
    # By the build's own path: programs that run stay with their build when the environment is switched.
    ours = f"--xla_gpu_cuda_data_dir='{os.path.realpath(site.site_packages)}/nvidia/cuda_nvcc'"
    assert started_with(python, None) == ours
    assert started_with(python, "--xla_dump_to=/tmp/x") == f"{ours} --xla_dump_to=/tmp/x"
    assert started_with(python, ours) == ours
    for theirs in ("--xla_gpu_cuda_data_dir=/opt/cuda", "/etc/xla-flags"):
        assert started_with(python, theirs) == theirs
    assert changes.plan_present(site.spec(site.tensorflow, nvcc)).action == "keep"
    (site.site_packages / "tensorflow_gpu_stack_xla.pth").write_text("import os\n")
    (damage,) = changes.plan_present(site.spec(site.tensorflow, nvcc)).damage
    assert damage.text.endswith("tensorflow_gpu_stack_xla.pth was changed")


def test_a_release_that_looks_by_itself_is_told_nothing(site: Site) -> None:
    nvcc = make_wheel(site.wheels, "nvidia-cuda-nvcc-cu12", "12.5.82", {f"nvidia/cuda_nvcc/{LIBDEVICE}": "bitcode"})
    site.apply(dataclasses.replace(site.spec(site.tensorflow, nvcc), release="2.18.1"))
    assert started_with(site.live / "bin" / "python", None) == "none"


def test_the_driver_keeps_all_kernels_that_it_compiles(site: Site) -> None:
    """Older drivers keep 256 MiB, which all kernels of a release may exceed."""

    def limit(environment: dict[str, str]) -> str:
        command = [site.live / "bin" / "python", "-I", "-c", "import os; print(os.environ.get('CUDA_CACHE_MAXSIZE'))"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    site.apply(site.spec(site.tensorflow))
    assert limit({}) == "None"
    spec = dataclasses.replace(site.spec(site.tensorflow, library_directories=("/opt/cuda/lib64",)), flavour="cuda")
    site.apply(spec)
    assert limit({}) == str(4 << 30)
    assert limit({"CUDA_CACHE_MAXSIZE": "1000"}) == "1000"
    assert changes.plan_present(spec).action == "keep"


def test_pip_fallback_gives_the_same_packages(site: Site) -> None:
    require("python3-venv")

    def pip() -> installing.Installer:
        return installing.Installer(uv=None, index_url=site.wheels.as_uri())

    venv.apply_present(site.spec(), installer=pip, keep=2, lock_timeout=0)
    assert site.says() == "2.8.0 1.23.5"
    installed = sorted(path.name for path in site.site_packages.glob("*.dist-info"))
    assert installed == ["numpy-1.23.5.dist-info", "tensorflow-2.8.0.dist-info"]
    forged = dataclasses.replace(site.numpy, hashes=("0" * 64,))
    with pytest.raises(BuildError, match="(?i)hash"):
        venv.apply_present(site.spec(site.tensorflow, forged), installer=pip, keep=2, lock_timeout=0)
    assert site.says() == "2.8.0 1.23.5"


def test_manifest_follows_the_disk(site: Site) -> None:
    outcome = site.apply()
    assert record_in_manifest(site.root, NAME, Done("build", None))
    assert not record_in_manifest(site.root, NAME, Done("keep", outcome.build))
    content = manifest.read(site.root)
    assert content["current"] == NAME
    assert content["environments"][NAME]["build"] == outcome.build
    venv.apply_absent(site.root, NAME, lock_timeout=0)
    record_in_manifest(site.root, NAME, Done("remove", outcome.build))
    assert manifest.read(site.root)["environments"] == {}
