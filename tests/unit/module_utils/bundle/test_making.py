"""A bundle of small wheels and archives, made from plans as they are, without a playbook."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.archives.redist import fetch_manifest
from ansible.module_utils.tensorflow_stack.bundle import checking, making, pythons
from ansible.module_utils.tensorflow_stack.bundle.making import BundleOutcome, BundleWish
from ansible.module_utils.tensorflow_stack.bundle.needs import BundleNeed, find_files, needs_of_plan
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.io.downloads import Source
from ansible.module_utils.tensorflow_stack.records.lockfile import Lock, write_lock
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

from tests.archives import Shelf
from tests.conftest import REPOSITORY
from tests.index import serve
from tests.wheels import make_lock, make_tensorflow, make_wheel

TABLES = str(REPOSITORY / "roles/tensorflow_release/files/tables")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """An index, a server of archives, a lock, and a plan that takes from all of them; uv is not fetched."""
    (tmp_path / "wheels").mkdir()
    lock = make_lock(make_tensorflow(tmp_path / "wheels", "2.8.0"), release="2.8.0", python="3.10")
    write_lock(str(tmp_path / "lock.txt"), lock)
    tool = make_wheel(tmp_path / "wheels", "jinja2", "3.1.6", {"jinja2/__init__.py": ""})
    (tmp_path / "controller.txt").write_text(f"jinja2==3.1.6 \\\n    --hash=sha256:{tool.hashes[0]}\n")
    archives = Shelf(tmp_path / "nvidia").cuda(tmp_path / "prefix").archives
    monkeypatch.setattr(making, "_uv", lambda wish, tables: "/bin/false")
    monkeypatch.setattr(making, "need_of_controllers_uv", lambda tables: [])
    plan = {
        "release": "2.8.0",
        "flavour": "cuda",
        "uv": None,
        "python": {"minor": "3.10", "source": "found", "path": "/usr/bin/python3.10"},
        "lock": {"state": "ready", "path": str(tmp_path / "lock.txt"), "architecture": "x86_64"},
        "driver": {"source": "found"},
        "cuda": {
            "source": "redist",
            "url": (tmp_path / "nvidia").as_uri() + "/",
            "archives": [archive.row for archive in archives],
        },
        "cudnn": None,
        "repositories": [],
        "steps": [{"component": name, "action": "keep"} for name in ("cuda", "python", "environment")],
    }
    with serve(tmp_path / "wheels") as index:
        wish = BundleWish(
            directory=str(tmp_path / "bundle"),
            plans=(("node1", plan),),
            older=None,
            tables=TABLES,
            tools_lock=str(tmp_path / "controller.txt"),
            tools_pythons=("3.10", "3.12"),
            tools_directory=str(tmp_path / "tools"),
            index_url=index,
        )
        yield {"wish": wish, "plan": plan, "lock": lock, "archives": archives}


def make(site: dict[str, Any], *, check_mode: bool = False, **changes: Any) -> BundleOutcome:
    return making.make_bundle(dataclasses.replace(site["wish"], **changes), check_mode=check_mode)


def test_a_bundle_has_what_a_new_node_of_the_plan_needs(site: dict[str, Any], tmp_path: Path) -> None:
    """Although nothing has to be done on the node that was planned."""
    outcome = make(site)
    paths = {file.path for file in outcome.manifest.files if file.kind not in ("index", "sbom")}
    assert paths == {
        "wheels/tensorflow-2.8.0-py3-none-any.whl",
        "wheels/jinja2-3.1.6-py3-none-any.whl",
        *(f"redist/{archive.relative_path}" for archive in site["archives"]),
    }
    assert all((tmp_path / "bundle" / path).is_file() for path in paths)
    assert checking.find_damaged(checking.open_bundle(str(tmp_path / "bundle")), outcome.manifest.files) == []
    assert [plan.host for plan in outcome.manifest.plans] == ["node1"]
    sbom = json.loads((tmp_path / "bundle/sbom.cdx.json").read_text())
    assert {row["bom-ref"] for row in sbom["components"]} == paths


def test_files_of_one_run_are_those_that_plans_change(site: dict[str, Any], tmp_path: Path) -> None:
    """No tools of the controller and no bill of materials; what another run fetched is not among the paths."""
    make(site, for_one_run=True)
    steps = [{"component": "cuda", "action": "keep"}, {"component": "environment", "action": "install"}]
    outcome = make(site, for_one_run=True, plans=(("node1", {**site["plan"], "steps": steps}),), tools_lock=None)
    pages = [f"simple/tensorflow/index.{kind}" for kind in ("html", "json")]
    assert outcome.paths == (*pages, "wheels/tensorflow-2.8.0-py3-none-any.whl")
    assert all((tmp_path / "bundle" / path).is_file() for path in outcome.paths)
    assert not (tmp_path / "bundle/sbom.cdx.json").exists()


def test_nothing_is_written_again_if_nothing_changed(site: dict[str, Any], tmp_path: Path) -> None:
    assert make(site).changed
    before = (tmp_path / "bundle/manifest.json").stat().st_mtime_ns
    again = make(site)
    assert (again.changed, again.fetched_bytes) == (False, 0)
    assert (tmp_path / "bundle/manifest.json").stat().st_mtime_ns == before


def test_what_was_in_a_bundle_stays_in_it(site: dict[str, Any], tmp_path: Path) -> None:
    make(site)
    other = make_lock(make_tensorflow(tmp_path / "wheels", "2.9.3"), release="2.9.3", python="3.10")
    write_lock(str(tmp_path / "other.txt"), other)
    plan = {**site["plan"], "release": "2.9.3", "lock": {**site["plan"]["lock"], "path": str(tmp_path / "other.txt")}}
    merged = make(site, plans=(("node2", plan),))
    names = {file.path for file in merged.manifest.of_kind("wheel")}
    assert {"wheels/tensorflow-2.8.0-py3-none-any.whl", "wheels/tensorflow-2.9.3-py3-none-any.whl"} <= names
    page = (tmp_path / "bundle/simple/tensorflow/index.html").read_text()
    assert "tensorflow-2.8.0" in page
    assert "tensorflow-2.9.3" in page
    assert [row.host for row in merged.manifest.plans] == ["node1", "node2"]


def test_another_user_can_serve_it_whatever_the_umask(site: dict[str, Any], tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make(site)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "bundle").rglob("*") if path.is_dir()}
    assert modes == {0o755}
    files = [path for path in (tmp_path / "bundle").rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o755


def test_a_lock_that_check_mode_does_not_make_is_named(site: dict[str, Any]) -> None:
    plan = {**site["plan"], "lock": {**site["plan"]["lock"], "state": "missing", "path": "/nowhere/lock.txt"}}
    with pytest.raises(StackError, match="needs the lock /nowhere/lock.txt, which does not exist yet"):
        make(site, check_mode=True, plans=(("node1", plan),))


def test_check_mode_of_a_whole_bundle_is_no_change(site: dict[str, Any]) -> None:
    make(site)
    assert make(site, check_mode=True).changed is False


def test_an_older_bundle_spares_the_fetching(site: dict[str, Any], tmp_path: Path) -> None:
    make(site)
    measured = make(site, check_mode=True, directory=str(tmp_path / "newer"), older=str(tmp_path / "bundle"))
    assert "about 0 MB are fetched" in measured.size_line
    outcome = make(site, directory=str(tmp_path / "newer"), older=str(tmp_path / "bundle"))
    assert outcome.fetched_bytes == 0
    assert outcome.reused_bytes == sum(file.bytes for file in outcome.manifest.of_kind("wheel", "archive"))
    with pytest.raises(StackError, match="bundle_older is .*, which has no manifest.json"):
        make(site, older=str(tmp_path))


def test_check_mode_writes_nothing(site: dict[str, Any], tmp_path: Path) -> None:
    outcome = make(site, check_mode=True)
    assert outcome.changed
    assert outcome.size_line.startswith(f"Bundle in {tmp_path}/bundle: 4 files are needed, 0 of them are there already")
    assert not (tmp_path / "bundle").exists()


def test_a_file_that_its_server_changed_ends_the_run_and_the_rest_is_kept(site: dict[str, Any], tmp_path: Path) -> None:
    archive = tmp_path / "nvidia" / site["archives"][0].relative_path
    archive.write_bytes(b"x" * archive.stat().st_size)
    with pytest.raises(StackError, match="is not the pinned file"):
        make(site)
    assert not (tmp_path / "bundle/manifest.json").exists()
    assert (tmp_path / "bundle/wheels/tensorflow-2.8.0-py3-none-any.whl").exists()


def test_a_lock_that_is_on_the_node_alone_is_refused(site: dict[str, Any]) -> None:
    plan = {**site["plan"], "lock": {**site["plan"]["lock"], "state": "applied"}}
    with pytest.raises(StackError, match="The plan of node1 has its lock on the node alone"):
        make(site, plans=(("node1", plan),))


def test_a_build_of_python_is_fetched_and_checked_by_uv(
    site: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "20260101/cpython-3.10.1+20260101-x86_64-unknown-linux-gnu-install_only.tar.gz"
    archive = tmp_path / "mirror" / place
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"an interpreter")
    url = f"https://host.invalid/releases/download/{place}"
    monkeypatch.setattr(pythons, "find_python", lambda uv, need, downloads: ("3.10.1", url, place))
    checked: list[str] = []
    monkeypatch.setattr(pythons, "check_python", lambda uv, bundle, file, downloads: checked.append(file.path))
    outcome = make(site, pythons=("3.10",), python_mirror=(tmp_path / "mirror").as_uri())
    (python,) = outcome.manifest.of_kind("python")
    assert (python.path, python.version, checked) == (f"python/{place}", "3.10.1", [f"python/{place}"])
    need = BundleNeed("python", "cpython", "3.10", architecture="x86_64", component="python")
    assert find_files(outcome.manifest, [need]) == ([python], [])
    archive.unlink()
    assert make(site, pythons=("3.10",)).changed is False

    def refuse(*arguments: object) -> None:
        raise StackError("not the build that uv knows")

    monkeypatch.setattr(pythons, "check_python", refuse)
    archive.write_bytes(b"another")
    with pytest.raises(StackError, match="not the build that uv knows"):
        make(site, directory=str(tmp_path / "b2"), pythons=("3.10",), python_mirror=(tmp_path / "mirror").as_uri())
    assert not (tmp_path / "b2/python" / place).exists()


def test_what_a_plan_takes_from_a_bundle_is_compared(site: dict[str, Any], tmp_path: Path) -> None:
    make(site)
    plan = {**site["plan"], "steps": [{"component": name, "action": "install"} for name in ("cuda", "environment")]}

    def faults() -> list[dict[str, str]]:
        found: list[dict[str, str]] = checking.find_plan_faults(
            str(tmp_path / "bundle"), plan, site["lock"], signers=None, tools=str(tmp_path / "tools")
        )
        return found

    assert faults() == []
    archive = tmp_path / "bundle/redist" / site["archives"][0].relative_path
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    page = tmp_path / "bundle/simple/tensorflow/index.html"
    page.write_text(page.read_text().replace("2.8.0", "2.8.1"))
    found = " ".join(fault["found"] for fault in faults())
    assert f"redist/{site['archives'][0].relative_path} in the bundle" in found
    assert "simple/tensorflow/index.html in the bundle" in found


def test_what_is_kept_is_not_needed(site: dict[str, Any]) -> None:
    lock: Lock = site["lock"]
    assert needs_of_plan(site["plan"], lock, all_of_it=False) == []
    assert {need.kind for need in needs_of_plan(site["plan"], lock, all_of_it=True)} == {"wheel", "archive"}


def test_the_controllers_own_uv_is_in_it() -> None:
    row = load_tables(TABLES).uv(platform.machine())
    assert row is not None
    (need,) = making.need_of_controllers_uv(load_tables(TABLES))
    assert need.sha256s == (row.sha256,)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ada:secret@index.example/a/b.whl?token=1", "https://index.example/a/b.whl"),
        ("/mnt/wheels/b.whl", "file:///mnt/wheels/b.whl"),
    ],
)
def test_the_manifest_has_no_credentials(url: str, shown: str) -> None:
    assert making._shown(url) == shown
    assert Source(shown, name="index", settings="").shown == shown


def test_the_manifests_of_the_archives_are_in_it_as_published(site: dict[str, Any], tmp_path: Path) -> None:
    """And a node of a table installs by them."""
    archives = Shelf(tmp_path / "nvidia/cuda/redist").cuda(tmp_path / "prefix").archives
    rows = [{**one.row, "relative_path": f"cuda/redist/{one.relative_path}"} for one in archives]
    of_nvidia = {
        one.component: {"linux-x86_64": {"relative_path": one.relative_path, "sha256": one.sha256}} for one in archives
    }
    published = tmp_path / "nvidia/cuda/redist/redistrib_11.2.json"
    published.write_text(json.dumps({"release_date": "2026-11-27", **of_nvidia}))
    plans = (("node1", {**site["plan"], "cuda": {**site["plan"]["cuda"], "version": "11.2", "archives": rows}}),)
    outcome = make(site, plans=plans)
    file = outcome.manifest.by_path["redist/cuda/redist/redistrib_11.2.json"]
    assert (file.kind, file.source) == ("index", published.as_uri())
    assert make(site, plans=plans).changed is False
    source = Source((tmp_path / "bundle/redist/cuda/redist").as_uri(), name="", settings="")
    found = fetch_manifest(source, published.name, sha256=file.sha256, components=["cuda_cudart"], variant=None)
    assert [(one.component, one.sha256) for one in found] == [("cuda_cudart", archives[0].sha256)]
    of_nvidia["cuda_cudart"]["linux-x86_64"]["sha256"] = "0" * 64
    published.write_text(json.dumps(of_nvidia))
    with pytest.raises(
        StackError, match="redistrib_11.2.json has another sha256 of cuda/redist/cuda_cudart/.* than the table"
    ):
        make(site, plans=plans)
