"""What a person put into an environment: kept while the lock is whole, and never lost without being named.

By real installs of small wheels, as in test_venv.py, whose site this is.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import builds, changes, installing, venv
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import Done, record_in_manifest
from ansible.module_utils.tensorflow_stack.errors import BuildError
from ansible.module_utils.tensorflow_stack.node.record import read_node
from ansible.module_utils.tensorflow_stack.records import manifest
from ansible.module_utils.tensorflow_stack.records.additions import Addition, listed, lost_additions, projects_of
from ansible.module_utils.tensorflow_stack.records.distributions import listing_digest
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests.component.environment.test_venv import NAME, Site, site  # noqa: F401  # the fixture
from tests.needs import require
from tests.wheels import make_wheel

STAY = r"would be built again.* and lose what somebody added to it: {}\. Nothing was changed\. .*tensorflow_additions"


@pytest.fixture
def applied(site: Site) -> Site:  # noqa: F811
    make_wheel(
        site.wheels,
        "scipy",
        "1.9.0",
        {
            "scipy/__init__.py": "",
            "scipy.libs/libblas.so": "elf",
            "scipy-1.9.0.data/scripts/scipy-tool": "#!python\n",
            "scipy-1.9.0.data/data/share/scipy/data.json": "{}",
        },
    )
    make_wheel(site.wheels, "numpy", "1.26.4", {"numpy/__init__.py": "version = '1.26.4'\n"})
    site.apply()
    return site


def uv_pip(site: Site, *arguments: str | Path) -> None:  # noqa: F811
    command = [site.uv, "pip", arguments[0], "--python", site.live / "bin" / "python"]
    if arguments[0] == "install":
        command += ["--no-index", "--find-links", site.wheels]
    subprocess.run([*command, *arguments[1:]], check=True, capture_output=True)


def pip(site: Site, *arguments: str | Path) -> None:  # noqa: F811
    """The environment's own, brought as people bring it; it writes other files into a .dist-info than uv does."""
    require("python3-venv")
    python = site.live / "bin" / "python"
    subprocess.run([python, "-m", "ensurepip"], check=True, capture_output=True)
    command = [python, "-m", "pip", "install", "--no-index", "--find-links", site.wheels]
    subprocess.run([*command, *arguments], check=True, capture_output=True)


def by_uv(site: Site) -> set[str]:  # noqa: F811
    uv_pip(site, "install", "scipy")
    assert (site.live / "share" / "scipy").is_dir() and (site.live / "bin" / "scipy-tool").exists()
    return {"scipy 1.9.0"}


def by_pip(site: Site) -> set[str]:  # noqa: F811
    pip(site, "scipy")
    (seed,) = site.site_packages.glob("pip-*.dist-info")
    others = {path.name for path in site.site_packages.glob("setuptools-*.dist-info")}
    return {"scipy 1.9.0", *(name[: -len(".dist-info")].replace("-", " ") for name in {seed.name, *others})}


def editable(site: Site) -> set[str]:  # noqa: F811
    """As a build backend leaves it: a .pth file, a finder beside it, and a RECORD that names both."""
    info = site.site_packages / "mine-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n")
    (info / "RECORD").write_text(
        "__editable__.mine-0.1.pth,,\n__editable___mine_finder.py,,\nmine-0.1.dist-info/RECORD,,\n"
    )
    (site.site_packages / "__editable__.mine-0.1.pth").write_text("\n")
    (site.site_packages / "__editable___mine_finder.py").write_text("\n")
    return {"mine 0.1"}


def a_pth_file(site: Site) -> set[str]:  # noqa: F811
    (site.site_packages / "mine.pth").write_text("/home/me/project\n")
    return {"mine.pth"}


def a_directory_and_a_module(site: Site) -> set[str]:  # noqa: F811
    (site.site_packages / "mine").mkdir()
    (site.site_packages / "mine" / "data.json").write_text("{}")
    (site.site_packages / "mine.py").write_text("")
    return {"mine", "mine.py"}


def a_program(site: Site) -> set[str]:  # noqa: F811
    (site.live / "bin" / "my-tool").write_text("#!/bin/sh\n")
    (site.live / "etc").mkdir()
    (site.live / "etc" / "my-tool.conf").write_text("")
    return {"bin/my-tool", "etc"}


@pytest.mark.parametrize("add", [by_uv, by_pip, editable, a_pth_file, a_directory_and_a_module, a_program])
def test_what_was_added_is_named_and_the_environment_kept(applied: Site, add: Callable[[Site], set[str]]) -> None:
    before = os.readlink(applied.live)
    expected = add(applied)
    for outcome in (changes.plan_present(applied.spec(), hashes=True), applied.apply()):
        assert (outcome.action, outcome.changed) == ("keep", False)
        assert {addition.text for addition in outcome.additions} == expected
    assert os.readlink(applied.live) == before


@pytest.mark.parametrize("leave", ["__pycache__", "~umpy-1.23.4.dist-info", "~umpy", ".nfs0001"])
def test_what_python_pip_and_file_systems_leave_is_nobodys(applied: Site, leave: str) -> None:
    (applied.site_packages / leave).mkdir()
    (applied.live / ".lock").write_text("")
    outcome = applied.apply()
    assert (outcome.action, outcome.additions) == ("keep", ())


def test_what_an_uninstall_leaves_is_nobodys_until_there_is_a_file(applied: Site) -> None:
    uv_pip(applied, "install", "scipy")
    uv_pip(applied, "uninstall", "scipy")
    left = applied.site_packages / "scipy.libs" / "__pycache__"
    left.mkdir(parents=True, exist_ok=True)
    (left / "x.cpython-310.pyc").write_text("")
    assert changes.plan_present(applied.spec()).additions == ()
    (left.parent / "notes.txt").write_text("mine")
    assert [addition.text for addition in changes.plan_present(applied.spec()).additions] == ["scipy.libs"]


def test_the_same_version_again_from_the_same_wheel_is_the_same(applied: Site) -> None:
    pip(applied, "--force-reinstall", "numpy==1.23.5")
    assert (applied.site_packages / "numpy-1.23.5.dist-info" / "REQUESTED").exists()
    outcome = applied.apply(hashes=True)
    assert (outcome.action, [a.name for a in outcome.additions if a.name == "numpy"]) == ("keep", [])


def with_another_version(site: Site) -> str:  # noqa: F811
    uv_pip(site, "install", "numpy==1.26.4")
    return r"numpy is 1\.26\.4, not 1\.23\.5"


def with_another_wheel_of_the_version(site: Site) -> str:  # noqa: F811
    mine = site.wheels.parent / "mine"
    mine.mkdir()
    make_wheel(mine, "numpy", "1.23.5", {"numpy/__init__.py": "version = 'patched'\n"})
    uv_pip(site, "install", "--reinstall", next(mine.iterdir()))
    return r"numpy 1\.23\.5 was installed again, but not from the lock"


@pytest.mark.parametrize("swap", [with_another_version, with_another_wheel_of_the_version])
def test_a_replaced_package_stops_the_run_and_is_repaired_when_that_is_said(
    applied: Site, swap: Callable[[Site], str]
) -> None:
    before = os.readlink(applied.live)
    found = swap(applied)
    for act in (lambda: changes.plan_present(applied.spec()), applied.apply):
        with pytest.raises(BuildError, match=STAY.format(found)):
            act()
    assert os.readlink(applied.live) == before
    repaired = applied.apply(drop_additions=True)
    assert (repaired.action, [addition.name for addition in repaired.dropped]) == ("repair", ["numpy"])
    assert applied.says() == "2.8.0 1.23.5"


def lose_a_file(site: Site) -> EnvironmentSpec:  # noqa: F811
    (site.site_packages / "numpy" / "__init__.py").unlink()
    return site.spec()


def take_another_lock(site: Site) -> EnvironmentSpec:  # noqa: F811
    newer = make_wheel(site.wheels, "numpy", "1.24.0", {"numpy/__init__.py": "version = '1.24.0'\n"})
    return site.spec(site.tensorflow, newer)


def take_another_cuda(site: Site) -> EnvironmentSpec:  # noqa: F811
    return site.spec(library_directories=("nvidia/*/lib",))


def remove_a_locked_package(site: Site) -> EnvironmentSpec:  # noqa: F811
    uv_pip(site, "uninstall", "numpy")
    return site.spec()


def spoil_the_record(site: Site) -> EnvironmentSpec:  # noqa: F811
    (site.live / "build.json").write_text("{")
    return site.spec()


@pytest.mark.parametrize(
    ("then", "lost"),
    [
        (lose_a_file, r"scipy 1\.9\.0"),
        (take_another_lock, r"scipy 1\.9\.0"),
        (take_another_cuda, r"scipy 1\.9\.0"),
        (remove_a_locked_package, r"scipy 1\.9\.0"),
        (spoil_the_record, r"whatever is in .*, whose build\.json cannot be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_build_that_would_lose_additions_stops_before_it_starts(
    applied: Site, then: Callable[[Site], EnvironmentSpec], lost: str
) -> None:
    by_uv(applied)
    spec = then(applied)
    before = os.readlink(applied.live), sorted(os.listdir(os.path.join(applied.root, ".builds")))

    def never() -> installing.Installer:
        raise AssertionError("nothing is fetched for a build that is not to be")

    for act in (
        lambda: changes.plan_present(spec),
        lambda: venv.apply_present(spec, installer=never, keep=2, lock_timeout=0),
    ):
        with pytest.raises(BuildError, match=STAY.format(lost)) as raised:
            act()
        assert len(raised.value.message.splitlines()) <= 5
    assert (os.readlink(applied.live), sorted(os.listdir(os.path.join(applied.root, ".builds")))) == before
    dropped = applied.apply(spec, drop_additions=True)
    assert dropped.action in ("build", "repair") and dropped.dropped


def test_damage_of_the_toolkits_own_is_named_beside_what_it_would_cost(applied: Site) -> None:
    by_uv(applied)
    with pytest.raises(BuildError, match=r"built again to repair it \(numpy: numpy/__init__\.py is missing\) and lose"):
        changes.plan_present(lose_a_file(applied))


def test_a_lock_that_has_what_was_added_loses_nothing(applied: Site) -> None:
    """The way out that the message names: put it into the requirements file."""
    by_uv(applied)
    scipy = make_wheel(applied.wheels, "scipy", "1.9.0", {"scipy/__init__.py": ""})
    outcome = applied.apply(applied.spec(applied.tensorflow, applied.numpy, scipy))
    assert (outcome.action, outcome.dropped) == ("build", ())


def test_a_build_with_additions_is_not_pruned_unless_that_is_said(applied: Site) -> None:
    by_uv(applied)
    theirs = builds.live_build(applied.root, NAME)
    assert theirs is not None
    specs = []
    for patch in range(3):
        numpy = make_wheel(
            applied.wheels, "numpy", f"1.24.{patch}", {"numpy/__init__.py": f"version = '1.24.{patch}'\n"}
        )
        specs.append(applied.spec(applied.tensorflow, numpy))
    applied.apply(specs[0], drop_additions=True)  # keep=2: it stays for rollback
    planned = changes.plan_present(specs[1])
    outcome = applied.apply(specs[1])
    assert planned.kept_builds == outcome.kept_builds == (theirs.name,)
    assert outcome.removed_builds == () and os.path.isdir(theirs.path)
    assert theirs.name in applied.apply(specs[2], drop_additions=True).removed_builds


def test_a_build_whose_additions_are_in_the_one_in_use_is_pruned_like_others(applied: Site) -> None:
    by_uv(applied)
    theirs = os.path.basename(os.readlink(applied.live))
    scipy = make_wheel(applied.wheels, "scipy", "1.9.0", {"scipy/__init__.py": ""})
    numpy = make_wheel(applied.wheels, "numpy", "1.24.0", {"numpy/__init__.py": "version = '1.24.0'\n"})
    assert applied.apply(applied.spec(applied.tensorflow, applied.numpy, scipy)).kept_builds == ()
    assert changes.plan_present(applied.spec(applied.tensorflow, numpy), drop_additions=False).kept_builds == (theirs,)
    carried = applied.spec(applied.tensorflow, numpy, scipy)
    assert changes.plan_present(carried).removed_builds == (theirs,)
    outcome = applied.apply(carried)
    assert (outcome.removed_builds, outcome.kept_builds) == ((theirs,), ())


def test_rollback_goes_to_a_build_with_additions_and_leaves_those_of_the_live_one(applied: Site) -> None:
    by_uv(applied)
    theirs = os.path.basename(os.readlink(applied.live))
    spec = take_another_lock(applied)
    applied.apply(spec, drop_additions=True)
    a_pth_file(applied)
    outcome = venv.apply_previous(applied.root, NAME, lock_timeout=0)
    assert outcome.build == theirs
    assert [addition.text for addition in outcome.additions] == ["scipy 1.9.0"]
    assert [addition.text for addition in outcome.dropped] == ["mine.pth"]
    # Back to the newer build is no build, and would lose scipy all the same.
    with pytest.raises(BuildError, match=STAY.format(r"scipy 1\.9\.0")):
        changes.plan_present(spec)
    a_pth_file(applied)
    (applied.site_packages / "mine.pth").unlink()
    assert applied.apply(spec, drop_additions=True).action == "switch"
    by_uv(applied)
    venv.apply_previous(applied.root, NAME, lock_timeout=0)
    switched = applied.apply(spec)
    assert (switched.action, switched.dropped) == ("switch", ()), "it has scipy, too"
    assert {addition.text for addition in switched.additions} == {"scipy 1.9.0", "mine.pth"}


def test_removal_says_what_goes_with_the_environment(applied: Site) -> None:
    by_uv(applied)
    for outcome in (changes.plan_absent(applied.root, NAME), venv.apply_absent(applied.root, NAME, lock_timeout=0)):
        assert [addition.text for addition in outcome.dropped] == ["scipy 1.9.0"]
    assert not os.path.lexists(applied.live)


def test_a_build_of_an_earlier_version_of_the_toolkit_is_kept(applied: Site) -> None:
    """Its build.json says neither what was beside site-packages nor what its wheels brought."""
    path = applied.live / "build.json"
    record = json.loads(path.read_text())
    del record["outside"], record["contents"]
    path.write_text(json.dumps(record))
    assert (applied.apply().action, applied.apply().additions) == ("keep", ())
    by_uv(applied)
    a_program(applied)
    assert [addition.text for addition in applied.apply().additions] == ["scipy 1.9.0"]


def test_files_that_are_no_files_stop_nothing(applied: Site) -> None:
    info = applied.site_packages / "odd-1.0.dist-info"
    info.mkdir()
    os.mkfifo(info / "RECORD")
    (info / "METADATA").symlink_to("/dev/zero")
    assert [addition.text for addition in applied.apply().additions] == ["odd 1.0"]


def test_odd_names_are_said_and_stop_nothing(applied: Site) -> None:
    (applied.site_packages / "red\x1b[31m\n.py").write_text("")
    with open(os.fsencode(applied.site_packages) + b"/latin-\xe9", "w"):
        pass
    assert [addition.text for addition in applied.apply().additions] == ["latin-\\xe9", "red\\x1b[31m\\n.py"]
    (row,) = read_node(environments_root=applied.root)["environments"]
    json.dumps(row, ensure_ascii=False).encode("utf-8")


def test_what_others_require_comes_last(applied: Site) -> None:
    for name, requires in (
        ("aaa", ""),
        ("ipykernel", "Requires-Dist: aaa>=1\nRequires-Dist: zzz; extra == 'test'\n"),
        ("zzz", ""),
    ):
        info = applied.site_packages / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n{requires}\nRequires-Dist: ipykernel\n")
    assert [addition.name for addition in applied.apply().additions] == ["ipykernel", "zzz", "aaa"]


@pytest.mark.parametrize(
    ("addition", "packages", "is_lost"),
    [
        (Addition("pandas", "2.3.3"), {"numpy": "1.23.5"}, True),
        (Addition("pandas", "2.3.3"), {"pandas": "2.0.0"}, False),
        (Addition("mine.pth"), {"mine-pth": "1"}, True),
        (Addition("numpy", "1.26.4", "1.23.5"), {"numpy": "1.26.4"}, False),
        (Addition("numpy", "1.26.4", "1.23.5"), {"numpy": "1.23.5"}, True),
        (Addition("numpy", "1.23.5", "1.23.5"), {"numpy": "1.23.5"}, True),
        # Of one from elsewhere the index may have a namesake.
        (Addition("pandas", "2.3.3", None, "file:///pandas"), {"pandas": "2.3.3"}, True),
    ],
)
def test_what_a_lock_would_lose(addition: Addition, packages: dict[str, str], is_lost: bool) -> None:
    assert lost_additions([addition], packages) == ([addition] if is_lost else [])
    assert lost_additions([addition], packages, [addition]) == []


@pytest.mark.parametrize(
    "addition",
    [
        Addition("Numpy", "1.23.5", "1.23.5"),
        Addition("numpy", "1.26.4", "1.23.5"),
        Addition("numpy", "1.26.4", None, "git+https://example.org/numpy"),
    ],
)
def test_what_was_decided_by_name_is_not_lost(addition: Addition) -> None:
    named = projects_of(["numpy>=1.20", "jupyter[all]"])
    assert named == {"numpy", "jupyter"}
    assert lost_additions([addition], {"numpy": "1.25.0"}, named=named) == []
    assert lost_additions([addition], {}, named=named) == [addition]


def install_by_hand(site: Site, name: str, requires: str = "", **notes: str) -> None:  # noqa: F811
    info = site.site_packages / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}")
    (info / "RECORD").write_text(f"{name}-1.0.dist-info/RECORD,,\n")
    for note, text in notes.items():
        (info / f"{note}.json").write_text(text)


@pytest.mark.parametrize(
    ("note", "origin"),
    [
        ('{"url": "file:///home/me/x.whl", "archive_info": {}}', "file:///home/me/x.whl"),
        ('{"url": "https://e.org/x", "vcs_info": {"vcs": "git", "commit_id": "0"}}', "git+https://e.org/x"),
        ('{"url": "file:///x", "dir_info": {"editable": true}}', "an editable install of file:///x"),
        ("[]", "a place that its direct_url.json does not say"),
        ("{", "a place that its direct_url.json does not say"),
        ('{"url": "x\\u001b[31m"}', "x\\x1b[31m"),
    ],
)
def test_where_an_addition_came_from(applied: Site, note: str, origin: str) -> None:
    install_by_hand(applied, "mine", direct_url=note)
    (addition,) = applied.apply().additions
    assert addition.origin == origin


def test_an_editable_install_without_a_note_is_one_too(applied: Site) -> None:
    editable(applied)
    (addition,) = applied.apply().additions
    assert addition.origin == "an editable install"


def test_what_comes_with_another_one_is_told_apart(applied: Site) -> None:
    install_by_hand(applied, "top", "Requires-Dist: below\nRequires-Dist: extra; extra == 'all'\n")
    install_by_hand(applied, "below")
    install_by_hand(applied, "extra")
    install_by_hand(applied, "one", "Requires-Dist: two\n")
    install_by_hand(applied, "two", "Requires-Dist: one\n")
    required = {addition.name: addition.is_required for addition in applied.apply().additions}
    assert required == {"top": False, "extra": False, "below": True, "one": False, "two": True}


def test_the_record_of_a_build_has_what_was_added_to_its_lock(applied: Site) -> None:
    spec = take_another_lock(applied)
    added = dataclasses.replace(spec, lock=dataclasses.replace(spec.lock, added=("pandas<3", "scipy==1.9.0")))
    assert added.digest != spec.digest
    applied.apply(added)
    (row,) = read_node(environments_root=applied.root)["environments"]
    assert row["added"] == ["pandas<3", "scipy==1.9.0"]


def test_a_build_of_an_earlier_version_of_the_toolkit_was_added_nothing_to(applied: Site) -> None:
    path = applied.live.resolve() / "build.json"
    record = json.loads(path.read_text())
    del record["added"]
    path.write_text(json.dumps(record))
    (row,) = read_node(environments_root=applied.root)["environments"]
    assert row["added"] == []
    assert applied.apply().action == "keep"


def test_a_long_list_is_cut_short() -> None:
    assert listed([Addition(f"p{n}", "1") for n in range(30)]).endswith("p7 1 and 22 more")


def test_the_node_record_names_what_was_added(applied: Site) -> None:
    live = os.path.basename(os.readlink(applied.live))
    record_in_manifest(applied.root, NAME, Done("build", None, requirements={live: "/home/me/mine.txt"}))
    (row,) = read_node(environments_root=applied.root)["environments"]
    assert (row["additions"], row["damage"], row["unfinished"]) == ([], [], [])
    assert row["requirements"] == {
        "lines": ["tensorflow==2.8.0"],
        "inputs_sha256": "0" * 64,
        "is_recorded": True,
        "path": "/home/me/mine.txt",
    }
    by_uv(applied)
    (row,) = read_node(environments_root=applied.root)["environments"]
    assert row["added"] == []
    (addition,) = row["additions"]
    files = {"scipy/__init__.py": 0, "scipy.libs/libblas.so": 3}
    assert addition == {
        "name": "scipy",
        "version": "1.9.0",
        "replaces": None,
        "origin": None,
        "listing": listing_digest(files),
        "is_required": False,
    }
    assert row["damage"] == []
    lose_a_file(applied)
    (row,) = read_node(environments_root=applied.root)["environments"]
    assert row["damage"]


def test_the_manifest_forgets_the_file_of_a_build_that_is_gone(applied: Site) -> None:
    first = os.path.basename(os.readlink(applied.live))
    record_in_manifest(applied.root, NAME, Done("build", None, requirements={first: "/home/me/mine.txt"}))
    second = applied.apply(take_another_lock(applied), keep=1)
    assert second.removed_builds == (first,)
    record_in_manifest(applied.root, NAME, Done("build", first, requirements={str(second.build): None}))
    assert manifest.read(applied.root)["environments"][NAME]["requirements"] == {second.build: None}
