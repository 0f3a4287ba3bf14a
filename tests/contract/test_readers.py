"""Every reader of a file or an answer, fed with what a disk, a person or a server may make of it.

A reader gives an answer or raises the project's own error, within seconds. CI tries a few of the same inputs each time;
READER_EXAMPLES=2000 tries as many others for each reader, and prints what fails in its shortest form.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import email.message
import hashlib
import io
import itertools
import json
import os
import shutil
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from ansible.module_utils.tensorflow_stack import variables
from ansible.module_utils.tensorflow_stack.archives import manifest as archives_manifest
from ansible.module_utils.tensorflow_stack.archives import prefix
from ansible.module_utils.tensorflow_stack.archives.unpacking import Tree
from ansible.module_utils.tensorflow_stack.bundle import checking as bundle_checking
from ansible.module_utils.tensorflow_stack.bundle import images as bundle_images
from ansible.module_utils.tensorflow_stack.bundle import manifest as bundle_manifest
from ansible.module_utils.tensorflow_stack.bundle import redist as bundle_redist
from ansible.module_utils.tensorflow_stack.bundle import wheels as bundle_wheels
from ansible.module_utils.tensorflow_stack.check import doctor, log_text, probe
from ansible.module_utils.tensorflow_stack.environment import (
    cache,
    damage,
    going_back,
    history_table,
    installed_files,
    interpreter,
    kernelspec,
    own_pythons,
    scripts,
    shared_packages,
    shared_store,
    venv,
)
from ansible.module_utils.tensorflow_stack.environment import images as mounted_images
from ansible.module_utils.tensorflow_stack.environment.builds import Build
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.fleet import drained, recorded
from ansible.module_utils.tensorflow_stack.health import main as health
from ansible.module_utils.tensorflow_stack.io import downloads, index, uv
from ansible.module_utils.tensorflow_stack.io.downloads import Source
from ansible.module_utils.tensorflow_stack.kernel import texts as kernel_texts
from ansible.module_utils.tensorflow_stack.locking.companions import bound_against
from ansible.module_utils.tensorflow_stack.locking.offers import Offers
from ansible.module_utils.tensorflow_stack.locking.sources import read_source
from ansible.module_utils.tensorflow_stack.locking.wheel_files import WheelFiles
from ansible.module_utils.tensorflow_stack.node.record import read_node
from ansible.module_utils.tensorflow_stack.node.user import User
from ansible.module_utils.tensorflow_stack.packages import cuda_links, debian, versionlock
from ansible.module_utils.tensorflow_stack.packages import record as packages_record
from ansible.module_utils.tensorflow_stack.planning import door, images
from ansible.module_utils.tensorflow_stack.records import build as build_record
from ansible.module_utils.tensorflow_stack.records import distributions, lockfile
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec
from ansible.module_utils.tensorflow_stack.records.lockfile import Distribution, Lock
from ansible.module_utils.tensorflow_stack.repositories import apt_sources, openpgp, yum_repos
from ansible.module_utils.tensorflow_stack.requirements.parse import read_requirements
from ansible.module_utils.tensorflow_stack.tables import load
from hypothesis import HealthCheck, given, settings

from tests import nodes
from tests.archives import library, pack
from tests.damaged import damaged

REPOSITORY = Path(__file__).resolve().parents[2]
STACK = REPOSITORY / "module_utils" / "tensorflow_stack"
DATA = REPOSITORY / "tests" / "data"
RELEASE_FILES = REPOSITORY / "roles" / "tensorflow_release" / "files"
EXAMPLES = int(os.environ.get("READER_EXAMPLES", "0"))
SECONDS = 10

NAME = "tensorflow-2.10.1"
BUILD = f"{NAME}-9f86d081884c-1"
POSITION = {"environment": NAME, "build": BUILD}
ENTRY = {
    "at": "2026-11-26T12:00:00Z",
    "action": "build",
    "by": "me@here",
    "environment": NAME,
    "before": None,
    "after": POSITION,
    "walked_back": False,
    "verdict": "ok",
}
CHECK = {"verdict": "ok", "reason": "Computed.", "evidence_sha256": "0" * 64, "checked_at": "2026-11-26T12:00:00Z"}
MANIFEST = {
    "schema": 1,
    "environments": {
        NAME: {
            "release": "2.10.1",
            "flavour": "cpu",
            "build": BUILD,
            "digest": "9f86d081884c" + "0" * 52,
            "python": {"minor": "3.10", "path": "/usr/bin/python3.10", "real_path": "/usr/bin/python3.10"},
            "lock_sha256": "0" * 64,
            "builds": [BUILD],
            "requirements": {BUILD: "/home/me/requirements.txt"},
            "asked": {BUILD: {"tensorflow_keep": 3}},
            "check": {**CHECK, "report": {"gpus": []}, "expected": {"gpu_count": 0, "gpu_addresses": []}},
        }
    },
    "current": NAME,
    "has_current_link": True,
    "history": [ENTRY],
}
RECORD_TEXT = b"demo/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\ndemo-1.dist-info/METADATA,,\n"
SHARED_INDEX = (
    b'{"contents": "0", "record": "0", "scripts": {"bin/demo": "0"}}\n/lib/python3.10/site-packages/demo\n'
    + b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 100644 0 1 1 __init__.py\nend\n"
)
METADATA = (
    b"Metadata-Version: 2.1\nName: demo\nVersion: 1\nRequires-Dist: numpy (>=1.20)\nRequires-Dist: x; extra == 'y'\n\n"
)
BUILD_RECORD = {
    "name": NAME,
    "release": "2.10.1",
    "flavour": "cpu",
    "digest": "9f86d081884c" + "0" * 52,
    "build": BUILD,
    "python": {"minor": "3.10", "path": "/usr/bin/python3.10", "real_path": "/usr/bin/python3.10"},
    "cuda": None,
    "cudnn": {"version": "8.6", "source": "wheels"},
    "lock_sha256": "0" * 64,
    "packages": {"demo": "1"},
    "site_packages": "lib/python3.10/site-packages",
    "links": {"lib/python3.10/site-packages/demo/x.so": "../y.so"},
    "frame": {"pyvenv.cfg": "sha256:"},
    "records": {"demo": "0" * 64},
    "top_level": ["demo", "demo-1.dist-info"],
    "contents": {"demo": "0" * 64},
    "outside": [],
    "added": [],
}
PACKAGES_RECORD = {
    "schema": 1,
    "component": "cuda",
    "source": "nvidia_repo",
    "version": "11.8.89",
    "branch": None,
    "packages": [{"name": "cuda-cudart-11-8", "version": "11.8.89-1"}],
    "newly_installed": ["cuda-cudart-11-8"],
    "held_before": [],
    "stream": None,
    "asked": {
        "packages": [{"name": "cuda", "version": None}],
        "name_patterns": ["cuda-*"],
        "branch": None,
        "stream": None,
    },
    "complete": True,
}
TREE = {"identity": "x", "files": {"lib/a": 3, "lib/b": "-> a"}, "version": "11.8", "archives": [{"component": "x"}]}
NVIDIA = {
    "release_date": "2022-10-03",
    "cuda_cudart": {
        "name": "CUDA Runtime",
        "version": "11.8.89",
        "linux-x86_64": {"relative_path": "cuda_cudart/x.tar.xz", "sha256": "0" * 64, "md5": "0", "size": "1234"},
    },
    "cudnn": {
        "version": "9",
        "linux-x86_64": {"cuda12": {"relative_path": "c/y.tar.xz", "sha256": "1" * 64, "size": "5"}},
    },
}
WHEEL = "demo-1-py3-none-any.whl"
PAGE = {
    "meta": {"api-version": "1.0"},
    "name": "demo",
    "files": [
        {
            "filename": WHEEL,
            "url": f"https://files.example/{WHEEL}",
            "hashes": {"sha256": "0" * 64},
            "requires-python": ">=3.7",
            "yanked": False,
            "upload-time": "2022-01-01T00:00:00Z",
            "size": 10,
        }
    ],
}
HTML = f'<!DOCTYPE html><a href="../{WHEEL}#sha256={"0" * 64}" data-requires-python="&gt;=3.7">{WHEEL}</a>'.encode()
FLEET = {
    "schema": 2,
    "written_at": "2026-11-26T12:00:00Z",
    "nodes": [{"host": "a", "state": "proven", "error": None, "environments": []}],
}
RAW_METADATA = {"metadata": {"tensorflow_gpu_stack": {"environment": "/x"}}, "display_name": "x"}


class Answers(urllib.request.OpenerDirector):
    """A server that gives the same answer to every request."""

    def __init__(self, body: bytes, content_type: str = "x/y", **headers: str) -> None:
        super().__init__()
        self._body, self._headers = body, email.message.Message()
        for name, value in {"Content-Type": content_type, **headers}.items():
            self._headers[name] = value

    def open(self, fullurl: Any, data: Any = None, timeout: Any = None) -> Any:
        answer = io.BytesIO(self._body)
        answer.headers, answer.geturl = self._headers, lambda: fullurl.full_url  # type: ignore[attr-defined]
        return answer


def source(opener: Any) -> Source:
    return Source("https://index.example/simple", name="package index", settings="x", opener=opener)


def write(path: Path, content: bytes | dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def fill_root(root: Path, build: Any = BUILD_RECORD, record: bytes = RECORD_TEXT, metadata: bytes = METADATA) -> Path:
    """A root with one environment; its build."""
    directory = root / ".builds" / BUILD
    site_packages = directory / "lib/python3.10/site-packages"
    (directory / "bin").mkdir(parents=True)
    (directory / "bin/python").symlink_to("/bin/sh")
    write(directory / "pyvenv.cfg", b"home = /usr/bin\nversion_info = 3.10.13\n")
    write(site_packages / "demo/__init__.py", b"")
    write(site_packages / "demo-1.dist-info/RECORD", record)
    write(site_packages / "demo-1.dist-info/METADATA", metadata)
    write(directory / "build.json", build)
    write(root / "manifest.json", MANIFEST)
    (root / NAME).symlink_to(f".builds/{BUILD}")
    (root / "current").symlink_to(NAME)
    return directory


def read_manifest(root: Path, text: bytes) -> None:
    fill_root(root)
    write(root / "manifest.json", text)
    assert health.find(str(root), "", time_limit=1)["verdict"]
    plan(root)
    history_table.tell_history(str(root))
    going_back.next_back(str(root))
    going_back.plan_previous(str(root))


def read_build(root: Path, text: bytes) -> None:
    look_at_build(root, fill_root(root, text))


def look_at_build(root: Path, directory: Path) -> None:
    build = Build(str(directory), build_record.read_record(str(directory)))
    damage.find_added(build, damage.compare_build(build, hashed=build.packages))
    cache.plan_prune(str(root))
    plan(root)
    with contextlib.suppress(StackError):
        going_back.plan_previous(str(root))


def read_installed_record(root: Path, text: bytes) -> None:
    directory = fill_root(root, record=text)
    site_packages = directory / "lib/python3.10/site-packages"
    look_at_build(root, directory)
    rows = distributions.read_rows(str(site_packages / "demo-1.dist-info/RECORD")) or []
    distributions.contents_digest(rows)
    distributions.listing_digest(distributions.sizes_in(rows))
    keep_and_link(root, directory)
    installed_files.correct_metadata_row(str(site_packages), "demo-1.dist-info")


def read_start_scripts(root: Path, text: bytes) -> None:
    directory = fill_root(root, record=text)
    write(directory / "bin/demo", f"#!{directory}/bin/python\n".encode())
    scripts.name_environment(str(directory), "lib/python3.10/site-packages", NAME)


def read_origin(root: Path, text: bytes) -> None:
    fill_root(root)
    path = write(root / "direct_url.json", text)
    distributions.read_origin(str(path.parent), [])


def read_metadata(root: Path, text: bytes) -> None:
    look_at_build(root, fill_root(root, metadata=text))
    bound_against("tensorflow-text", "2.8.0", text.decode("utf-8", "replace"), "2.8.0")


def read_venv_configuration(root: Path, text: bytes) -> None:
    directory = fill_root(root)
    write(directory / "pyvenv.cfg", text)
    shared_store.find_store(str(root / ".cache/uv"), str(directory))
    look_at_build(root, directory)


def read_list_of_pythons(root: Path, text: bytes) -> None:
    interpreter._checked_list(str(write(root / "pythons.json", text)), "3.10", str(root))


def read_note_of_python(root: Path, text: bytes) -> None:
    python = write(root / ".pythons/cpython-3.10.13/bin/python3.10", b"")
    write(root / ".pythons/.cpython-3.10.13.json", text)
    own_pythons.check_python(str(root), str(python))


def keep_and_link(root: Path, directory: Path, index: bytes | None = None) -> None:
    """The only package of a build; with an index instead of that which says what was kept."""
    store = shared_store.find_store(str(root / ".cache/uv"), str(directory))
    assert store
    lock = Lock("2.8.0", "3.10", "linux_x86_64", "cpu", (), (), "", "", (Distribution("demo", "1", ("0" * 64,), 1),))
    spec = EnvironmentSpec(NAME, str(root), "2.8.0", "cpu", "/usr/bin/python3", lock)
    below = "lib/python3.10/site-packages"
    shared_packages.keep_packages(store, spec, str(directory), below, without=(), loose=())
    if index is not None:
        write(Path(shared_store.entry_of(store, lock.distributions[0])) / "index", index)
    (root / "other").mkdir()
    assert shared_packages.link_packages(store, spec, str(root / "other"), below).keys() <= {"demo"}
    shared_packages.known_digests(store, str(directory / below), ["demo"])
    with shared_packages.while_unlinking(str(directory), {"demo": "1"}):
        pass


def read_shared_index(root: Path, text: bytes) -> None:
    keep_and_link(root, fill_root(root), text)


def read_lock(root: Path, text: bytes) -> None:
    directory = fill_root(root)
    path = write(directory / "lock.txt", text)
    cache.plan_prune(str(root))
    with contextlib.suppress(StackError):
        venv.lock_in_use(str(root), NAME)
    lockfile.read_lock(str(path))


def read_component(root: Path, text: bytes) -> None:
    write(root / "cuda.json", text)
    for record in packages_record.read_records(str(root)).values():
        assert record.text()
        assert record.held is not None
        assert record.versions is not None


def read_cuda_links(root: Path, text: bytes) -> None:
    links = cuda_links.CudaLinks()
    links._record = str(write(root / "links.json", text))
    links._read_record()


def read_tree(root: Path, text: bytes) -> None:
    write(root / prefix.TREE_RECORD, text)
    tree = prefix.read_tree(str(root))
    if tree:
        prefix.find_drift(str(root), tree)
    prefix.environments_using(str(root), [str(root)])


def read_nvidia_manifest(_: Path, text: bytes) -> None:
    for components, variant in (((), None), (["cuda_cudart"], None), (["cudnn"], "cuda12")):
        with contextlib.suppress(StackError):
            archives_manifest.read_manifest(
                text.decode("utf-8", "replace"),
                name="x",
                platform="linux-x86_64",
                components=components,
                variant=variant,
            )


def read_archive(root: Path, text: bytes) -> None:
    (root / "tree").mkdir()
    Tree(str(root / "tree")).unpack(str(write(root / "x.tar", text)), component="x", name="x.tar")


def read_page(content_type: str) -> Callable[[Path, bytes], None]:
    def read(_: Path, text: bytes) -> None:
        opener = Answers(text, content_type)
        for row in index.read_page(source(opener), "demo") or []:
            index.sha256_of(row)
        Offers("https://index.example/simple", "2026-11-22T00:00:00Z", opener).files("demo")
        Offers("https://index.example/simple", "2026-11-22T00:00:00Z", opener).files("demo")
        record = {"version": "1", "filename": WHEEL, "sha256": "0" * 64, "bytes": 10, "program_sha256": "0" * 64}
        uv.ensure_uv(directory=str(_), record=record, index_url="https://index.example/simple", opener=opener)

    return read


def read_headers(root: Path, text: bytes) -> None:
    """The text as each of the headers of an answer."""
    value = text.decode("latin-1").replace("\r", "").replace("\n", "")
    for name in ("Content-Length", "Content-Type", "Content-Range", "Location"):
        opener = Answers(HTML, **{name: value}) if name != "Content-Type" else Answers(HTML, value)
        with contextlib.suppress(StackError):
            index.read_page(source(opener), "demo")
        with contextlib.suppress(StackError):
            source(opener).save("https://files.example/x", str(root / "x"), what="x", sha256="0" * 64, size=10)
        WheelFiles(str(root / name), opener=opener)(
            {"demo": {"url": "https://files.example/x", "hashes": {"sha256": "0"}}}
        )


def read_wheel(root: Path, text: bytes) -> None:
    wheel = {"url": f"https://files.example/{WHEEL}", "hashes": {"sha256": "0" * 64}}
    files = WheelFiles(str(root / "a"), opener=Answers(text))
    files({"demo": wheel})
    files.metadata(wheel)
    record = {"version": "1", "filename": WHEEL, "sha256": "0" * 64, "bytes": len(text), "program_sha256": "0" * 64}
    with contextlib.suppress(StackError, OSError):  # its caller has one message for all of OSError
        uv._extract(str(write(root / "x.whl", text)), str(root / "uv"), name=record["filename"])


def read_kept_list(root: Path, text: bytes) -> None:
    write(root / f"{'0' * 64}.json.gz", text)
    write(root / f"{'0' * 64}.metadata", text)
    files = WheelFiles(str(root), opener=Answers(b""))
    wheel = {"url": f"https://files.example/{WHEEL}", "hashes": {"sha256": "0" * 64}}
    files({"demo": wheel})
    files.metadata(wheel)


def read_source_distribution(_: Path, text: bytes) -> None:
    archive = {"url": "https://files.example/x.tar.gz", "hashes": {"sha256": hashlib.sha256(text).hexdigest()}}
    found = read_source("demo", "1", archive, source(Answers(text)))
    assert found.metadata_row


def read_node_file(path: str) -> Callable[[Path, bytes], None]:
    def read(root: Path, text: bytes) -> None:
        tree = nodes.materialise("a100_driver535", root)
        place = nodes._place(tree, path)
        if place.is_symlink():
            place.unlink()
        place.write_bytes(text)
        record = read_node(filesystem_root=str(tree), user=User("root", 0, "/root"), environ={"PATH": "/usr/bin"})
        json.dumps(record, allow_nan=False).encode()
        plan_from(record)

    return read


load.preload_tables(str(RELEASE_FILES / "tables"))


def plan(root: Path) -> None:
    """What a plan makes of a root."""
    record = read_node(environments_root=str(root), user=User("root", 0, "/root"), environ={"PATH": "/nowhere"})
    plan_from(record)


_TABLES = {"tables_directory": str(RELEASE_FILES / "tables"), "shipped_locks": str(RELEASE_FILES / "locks")}


def plan_from(record: dict[str, Any]) -> None:
    """With a release, and as a run without one makes it again."""
    for release in ("2.10.1", ""):
        with contextlib.suppress(StackError):
            door.plan_for(
                release=release,
                requirements_path=None,
                node=copy.deepcopy(record),
                environment=None,
                policy={},
                locks="/nonexistent",
                today="2026-11-22",
                **_TABLES,
            )


def read_fleet_record(name: str) -> Callable[[Path, bytes], None]:
    def read(root: Path, text: bytes) -> None:
        write(root / name, text)
        recorded.recorded(str(root), ["a"], written_at="2026-11-27T00:00:00Z")

    return read


def read_drained(root: Path, text: bytes) -> None:
    write(root / "drained" / "a", text)
    drained.read_drained(str(root))


def read_kernelspec(root: Path, text: bytes) -> None:
    fill_root(root)
    write(root / "kernels" / NAME / "kernel.json", text)
    kernelspec.absent(str(root), NAME, str(root / "kernels"), check_mode=True)
    kernelspec.present(str(root), NAME, str(root / "kernels"), check_mode=True)


def read_requirements_file(name: str) -> Callable[[Path, bytes], None]:
    def read(root: Path, text: bytes) -> None:
        read_requirements(str(write(root / name, text)))

    return read


DIAGNOSES = yaml.safe_load((RELEASE_FILES / "tables" / "diagnoses.yml").read_text(encoding="utf-8"))["rows"]
LOG_LINES = yaml.safe_load((RELEASE_FILES / "tables" / "log_lines.yml").read_text(encoding="utf-8"))["rows"]


def read_log(root: Path, text: bytes) -> None:
    path = write(root / "x.log", text)
    doctor.describe(doctor.examine_log(DIAGNOSES[:40], LOG_LINES[:40], log_text.read_log(str(path))))


def read_text(reader: Callable[[str], Any]) -> Callable[[Path, bytes], None]:
    return lambda _, text: (reader(text.decode("utf-8", "replace")), reader(text.decode("utf-8", "surrogateescape")))[1]


def read_health_settings(root: Path, text: bytes) -> None:
    health.main([str(write(root / "settings.json", text))])


def a_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("demo/__init__.py", "")
        archive.writestr("demo-1.data/scripts/uv", "x")
        archive.writestr("demo-1.dist-info/METADATA", METADATA)
    return stream.getvalue()


def a_source() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, text in (
            ("demo-1/PKG-INFO", METADATA),
            ("demo-1/pyproject.toml", b"[build-system]\nrequires=['x']\n"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return stream.getvalue()


def an_archive(mode: str) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        return pack(Path(directory, "x.tar"), library("cuda_cudart", "cudart", "11.2.152"), mode).read_bytes()


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


BUNDLED = {"path": "wheels/a.whl", "sha256": "0" * 64, "bytes": 3, "kind": "wheel", "name": "a", "version": "1"}
PLANNED = {"host": "a", "release": "2.8.0", "flavour": "cpu", "python": "3.10", "architecture": "x86_64"}
BUNDLE = {"schema": 1, "made_at": "2026-11-26T12:00:00Z", "plans": [PLANNED], "files": [BUNDLED]}


def read_bundle(root: Path, text: bytes) -> None:
    bundle = bundle_checking.open_bundle(str(write(root / "bundle" / "manifest.json", text).parent))
    bundle_manifest.render_manifest(bundle.manifest)
    assert bundle.manifest.by_path.keys() >= {file.path for file in bundle.manifest.files}
    bundle_checking.find_damaged(bundle, bundle.manifest.files, tools=str(root / "tools"))


def read_bundle_record(root: Path, text: bytes) -> None:
    write(root / "bundle" / "manifest.json", BUNDLE)
    bundle = bundle_checking.open_bundle(str(root / "bundle"))
    write(root / "tools" / "bundles" / f"{bundle.sha256[:32]}.json", text)
    bundle_checking.find_damaged(bundle, bundle.manifest.files, tools=str(root / "tools"))


def read_published_manifest(_: Path, text: bytes) -> None:
    archive = {"relative_path": "cuda/redist/a.tar.xz", "sha256": "0" * 64}
    bundle_redist.check_manifest(text, "redistrib_11.2.json", [archive], "cuda/redist/")


def read_bundled_page(root: Path, text: bytes) -> None:
    bundle_wheels._rows_of(str(write(root / "index.json", text)))
    bundle_wheels.license_of(str(root / "index.json"))


HASHES = dict.fromkeys(("digest", "lock_sha256", "sha256", "verity_sha256", "root_hash"), "0" * 64)
IMAGE = {
    "schema": 1,
    "name": NAME,
    "root": "/opt/tensorflow",
    "release": "2.10.1",
    "flavour": "cpu",
    "minor": "3.10",
    "python": "/usr/bin/python3.10",
    "bytes": 4096,
    "verity_bytes": 4096,
    **HASHES,
}
NOTE = {key: IMAGE[key] for key in ("sha256", "bytes", "verity_sha256", "root_hash")}


def read_image(root: Path, text: bytes) -> None:
    path = write(root / "a.json", text).with_suffix(".squashfs")
    given = bundle_images.read_image(str(path), signers=None)
    assert images.read_image(given, {}).as_dict()["source"] == str(path)


def read_note_of_image(root: Path, text: bytes) -> None:
    directory = fill_root(root)
    write(root / ".images" / f"{BUILD}.json", text)
    look_at_build(root, directory)
    mounted_images.remove_unused(str(root))


class Reader(NamedTuple):
    """What is read, the files of module_utils that read it, and a good text of it."""

    name: str
    files: tuple[str, ...]
    text: bytes
    read: Callable[[Path, bytes], Any]
    examples: int = 12


_LOCK = next(iter(sorted((RELEASE_FILES / "locks" / "tensorflow-2.8.0").glob("*cpu.txt")))).read_bytes()
_PLACES = RELEASE_FILES / "tables"
READERS = (
    Reader("manifest of a bundle", ("bundle/manifest.py", "bundle/checking.py"), as_bytes(BUNDLE), read_bundle, 20),
    Reader("manifest of an image", ("records/image.py",), as_bytes(IMAGE), read_image, 20),
    Reader(
        "note of an image",
        ("records/image_note.py",),
        as_bytes({**NOTE, "protection": "compared", "complete": True}),
        read_note_of_image,
        20,
    ),
    Reader("published manifest of a bundle", ("bundle/redist.py",), as_bytes(NVIDIA), read_published_manifest),
    Reader("page of a bundle", ("bundle/wheels.py",), as_bytes(PAGE), read_bundled_page),
    Reader("wheel of a bundle", (), a_zip(), read_bundled_page),
    Reader("record of a bundle", (), as_bytes({"wheels/a.whl": {"place": "x", "marks": []}}), read_bundle_record),
    Reader("manifest.json", ("records/manifest.py",), as_bytes(MANIFEST), read_manifest, 30),
    Reader("build.json", ("records/build.py",), as_bytes(BUILD_RECORD), read_build, 30),
    Reader(
        "RECORD",
        ("records/distributions.py", "environment/installed_files.py", "records/additions.py"),
        RECORD_TEXT,
        read_installed_record,
    ),
    Reader("RECORD of a start script", ("environment/scripts.py",), RECORD_TEXT, read_start_scripts),
    Reader("METADATA", ("locking/companions.py",), METADATA, read_metadata),
    Reader("direct_url.json", (), as_bytes({"url": "file:///x", "dir_info": {"editable": True}}), read_origin),
    Reader(
        "pyvenv.cfg",
        ("environment/shared_store.py",),
        b"home = /usr/bin\nversion_info = 3.10.13\n",
        read_venv_configuration,
    ),
    Reader("index of a shared package", ("environment/shared_index.py",), SHARED_INDEX, read_shared_index),
    Reader(
        "list of Pythons",
        ("environment/interpreter.py",),
        as_bytes({"cpython-3.10": {"major": 3, "minor": 10, "sha256": "0" * 64}}),
        read_list_of_pythons,
    ),
    Reader(
        "note of a Python",
        ("environment/own_pythons.py",),
        as_bytes({"bin/python3.10": f"sha256:{hashlib.sha256(b'').hexdigest()}"}),
        read_note_of_python,
    ),
    Reader("lock", ("records/lockfile.py", "environment/cache.py", "environment/venv.py"), _LOCK, read_lock),
    Reader("record of packages", ("packages/record.py",), as_bytes(PACKAGES_RECORD), read_component, 20),
    Reader(
        "record of links",
        ("packages/cuda_links.py",),
        as_bytes({"links": {"/usr/local/cuda": ["a", "b"]}, "loader_files": ["x"]}),
        read_cuda_links,
    ),
    Reader("record of a prefix", ("archives/prefix.py",), as_bytes(TREE), read_tree, 20),
    Reader(
        "manifest of NVIDIA", ("archives/manifest.py", "archives/redist.py"), as_bytes(NVIDIA), read_nvidia_manifest, 20
    ),
    Reader("archive, xz", ("archives/unpacking.py",), an_archive("w:xz"), read_archive),
    Reader("archive, gz", (), an_archive("w:gz"), read_archive),
    Reader("archive", (), an_archive("w"), read_archive),
    Reader(
        "page of an index, JSON",
        ("locking/offers.py",),
        as_bytes(PAGE),
        read_page("application/vnd.pypi.simple.v1+json"),
        20,
    ),
    Reader("page of an index, HTML", (), HTML, read_page("text/html")),
    Reader("page of an index, another type", (), HTML, read_page("text/html; charset=²")),
    Reader("headers of an answer", (), b"text/html; charset=utf-8", read_headers),
    Reader("wheel", ("locking/wheel_files.py", "health/program.py"), a_zip(), read_wheel),
    Reader("kept list of a wheel", (), as_bytes({"demo/x.py": [1, 2]}), read_kept_list),
    Reader("source distribution", ("locking/sources.py",), a_source(), read_source_distribution),
    Reader(
        "os-release of a node",
        ("node/files.py", "node/texts.py"),
        b'ID=debian\nVERSION_ID="12"\n',
        read_node_file("/etc/os-release"),
        3,
    ),
    Reader(
        "version.json of a node",
        (),
        as_bytes({"cuda": {"version": "11.2.1"}}),
        read_node_file("/usr/local/cuda-11.2/version.json"),
        3,
    ),
    Reader(
        "record of a component of a node",
        (),
        as_bytes(PACKAGES_RECORD),
        read_node_file("/etc/tensorflow-gpu-stack/cuda.json"),
        3,
    ),
    Reader(
        "version of the driver of a node",
        ("node/environments.py",),
        b"535.183.01\n",
        read_node_file("/sys/module/nvidia/version"),
        3,
    ),
    Reader("fleet.json", ("fleet/recorded.py",), as_bytes(FLEET), read_fleet_record("fleet.json"), 20),
    Reader("record of a drained node", ("fleet/drained.py",), b"2026-11-26T12:00:00Z\n", read_drained),
    Reader("kernel.json", ("environment/kernelspec.py",), as_bytes(RAW_METADATA), read_kernelspec),
    Reader(
        "requirements.txt",
        ("requirements/formats.py",),
        b"tensorflow==2.8.0\nnumpy<2; python_version < '3.11'\n",
        read_requirements_file("requirements.txt"),
    ),
    Reader(
        "pyproject.toml",
        (),
        b"[project]\nname='x'\nversion='1'\ndependencies=['tensorflow==2.8.0']\n",
        read_requirements_file("pyproject.toml"),
    ),
    Reader(
        "environment.yml",
        (),
        b"dependencies:\n- python=3.10\n- pip:\n  - tensorflow==2.8.0\n",
        read_requirements_file("environment.yml"),
    ),
    Reader(
        "log",
        ("check/log_text.py", "check/log_unwrap.py", "check/kept_logs.py"),
        (DATA / "logs" / "46-nvml-mismatch-570-dmesg.log").read_bytes()[:3000],
        read_log,
        3,
    ),
    Reader(
        "records of the check",
        ("check/probe.py", "check/doctor.py"),
        b'{"stage": "import", "seconds": 1}\n',
        read_text(probe._parse_records),
    ),
    Reader(
        "settings of the health check",
        ("health/main.py",),
        as_bytes({"root": "/nonexistent", "environment": "", "time_limit": 1, "results": "/nonexistent/x"}),
        read_health_settings,
    ),
    Reader(
        "values on make's command line",
        ("variables.py",),
        b'["a", "b"]',
        read_text(lambda text: variables.parse("x", text, {"type": "list"})),
    ),
    Reader(
        "output of dpkg-query",
        ("packages/debian.py",),
        b"ii  amd64 libc6:amd64 2.36-9 \nPackage: x\nVersion: 1\nDepends: a (>= 1) | b\n\n",
        read_text(
            lambda text: (
                debian.parse_stanzas(text, native="amd64"),
                debian.parse_madison(text),
                debian.parse_simulation(text),
                debian.parse_depends(text),
            )
        ),
    ),
    Reader(
        "versions of Debian",
        (),
        b"1:2.36-9+deb12u1",
        read_text(
            lambda text: (debian.compare_versions(text, "1:2.36-9+deb12u1"), debian.compare_versions("1~rc1", text))
        ),
    ),
    Reader("versionlock.list", (), b"cuda-0:11.8-1.*\n!x\n", read_text(versionlock.read_locks)),
    Reader(
        "apt sources",
        ("repositories/apt.py",),
        b"deb [signed-by=/x] https://a.example/x /\nTypes: deb\nURIs: https://a\nSuites: x\n",
        read_text(
            lambda text: (apt_sources.read_entries("/a.list", text), apt_sources.read_entries("/a.sources", text))
        ),
    ),
    Reader(
        "yum repositories",
        ("repositories/dnf.py",),
        b"[cuda]\nname=x\nbaseurl=https://a.example/x\nenabled=1\n",
        read_text(lambda text: yum_repos.read_sections("/a.repo", text)),
    ),
    Reader(
        "key",
        ("repositories/openpgp.py",),
        (DATA / "keys" / "first.asc").read_bytes(),
        lambda _, text: openpgp.read_keys(text),
    ),
    Reader("keyring", (), (DATA / "keys" / "several.gpg").read_bytes(), lambda _, text: openpgp.read_keys(text)),
    Reader(
        "output of dkms and modinfo",
        (),
        b"nvidia/535.183.01, 6.1.0-28-amd64, x86_64: installed\nfilename: /x\nversion: 535\n",
        read_text(
            lambda text: (
                kernel_texts.parse_dkms_status(text),
                kernel_texts.parse_modinfo(text),
                kernel_texts.parse_dkms_conf(text),
                kernel_texts.parse_listing(text),
            )
        ),
    ),
)
# Files that parse and are in no row, with the reason.
ELSEWHERE = {
    "tables/load.py": "tables are of this toolkit, and each has a schema",
    "bundle/pythons.py": "what the pinned uv printed",
    "environment/compared_bytecode.py": "what a program of this toolkit printed",
    "locking/compile.py": "what the pinned uv wrote into a directory of its own a moment before",
}
PARSES = {"parse_object", "read_json", "json.loads", "json.load", "csv.reader", "tarfile.open", "zipfile.ZipFile"}
PARSES |= {"tomllib.loads", "tomllib.load", "yaml.load", "base64.b64decode", "gzip.open", "parse_rows"}


def test_every_file_that_parses_is_in_the_table() -> None:
    found = set()
    for path in STACK.rglob("*.py"):
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        }
        if calls & PARSES:
            found.add(path.relative_to(STACK).as_posix())
    named = {file for reader in READERS for file in reader.files}
    assert {name for name in found if not name.startswith(("io/", "check/child/"))} - named == set(ELSEWHERE)
    assert {name for name in named if not (STACK / name).exists()} == set()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    above, numbers = tmp_path_factory.mktemp("readers"), itertools.count()

    def make() -> Path:
        place = above / str(next(numbers))
        place.mkdir(mode=0o755)
        return place

    yield make
    shutil.rmtree(above)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_reader_reads_or_refuses(reader: Reader, places: Callable[[], Path]) -> None:
    @settings(
        max_examples=EXAMPLES or reader.examples,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(reader.text))
    def attempt(text: bytes) -> None:
        place, started = places(), time.monotonic()
        try:
            reader.read(place, text)
        except StackError:
            pass
        finally:
            shutil.rmtree(place)
        assert time.monotonic() - started < SECONDS

    # First that it reads what is good: otherwise it would refuse everything.
    with contextlib.suppress(StackError):  # a good text of which more would be needed
        reader.read(places(), reader.text)
    attempt()
