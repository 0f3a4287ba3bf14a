"""What Python's own functions do not take, in what nodes, servers and people say: thousands of digits above all."""

from __future__ import annotations

import email.message
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.check import diagnose, verdicts
from ansible.module_utils.tensorflow_stack.environment.shared_store import find_store
from ansible.module_utils.tensorflow_stack.errors import RefusedError, StackError
from ansible.module_utils.tensorflow_stack.io import file_server, index, writing
from ansible.module_utils.tensorflow_stack.io.downloads import Answer, Source, _Kept
from ansible.module_utils.tensorflow_stack.locking.companions import bound_against
from ansible.module_utils.tensorflow_stack.locking.offers import Offers
from ansible.module_utils.tensorflow_stack.node import texts
from ansible.module_utils.tensorflow_stack.node.files import NodeFiles
from ansible.module_utils.tensorflow_stack.node.processes import find_users
from ansible.module_utils.tensorflow_stack.node.record import read_node
from ansible.module_utils.tensorflow_stack.node.user import User
from ansible.module_utils.tensorflow_stack.records import component, lockfile
from ansible.module_utils.tensorflow_stack.tables import releases
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

from tests import nodes

DIGITS = "9" * 5000
TABLES = str(Path(__file__).parents[3] / "roles" / "tensorflow_release" / "files" / "tables")
WHEEL = "demo-1-py3-none-any.whl"


@pytest.mark.parametrize("module_version", [DIGITS, f"535.{DIGITS}.01", f"{DIGITS}.1"])
def test_version_of_the_driver(tmp_path: Path, module_version: str) -> None:
    root = nodes.materialise("a100_driver535", tmp_path)
    (root / "sys/module/nvidia/version").write_text(f"{module_version}\n")
    record = read_node(filesystem_root=str(root), user=User("root", 0, "/root"), environ={"PATH": "/usr/bin"})
    assert {"fact": "driver.loaded", "reason": "/sys/module/nvidia/version: not a version"} in record["unread"]
    assert (record["driver"]["loaded"] or "").startswith("535.")


def test_other_versions_of_a_node() -> None:
    assert texts.parse_driver_version(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.{DIGITS}  Tue\n") is None
    header = f"#define CUDNN_MAJOR 8\n#define CUDNN_MINOR {DIGITS}\n#define CUDNN_PATCHLEVEL 0\n"
    assert texts.parse_cudnn_header(header) is None
    for one in component.COMPONENTS:
        assert component.is_record_of(one, {"source": "distro", "version": "535.1"})
        assert not component.is_record_of(one, {"source": "distro", "version": f"535.{DIGITS}"})


def test_job_that_a_process_says_it_is_of(tmp_path: Path) -> None:
    nodes.build({"links": {"/proc/12/fd/3": "/dev/nvidia0"}, "files": {}}, tmp_path)
    said = {"cmdline": "train\0", "environ": f"SLURM_JOB_ID={DIGITS}\0", "cgroup": "", "status": f"Uid:\t{DIGITS}\t0\n"}
    for name, text in said.items():
        (tmp_path / "proc/12" / name).write_text(text)
    found = find_users(NodeFiles(str(tmp_path)), gpu=True, environment=None)["gpu"]
    assert found == [{"pid": 12, "program": "train", "user": "an unknown user", "slurm_job": None}]


def test_versions_that_the_check_compares() -> None:
    assert diagnose._different(f"535.{DIGITS}", f"535.0{DIGITS}") == []
    assert diagnose._different("470.256.02", "470.256.2") == []
    assert diagnose._different("535.1", f"535.{DIGITS}") == ["535.1", f"535.{DIGITS}"]
    assert verdicts._integers(f"535.{DIGITS}") != verdicts._integers("535.1")


def test_python_of_an_environment(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text(f"version_info = 3.{DIGITS}.1\n")
    assert find_store(str(tmp_path / "cache"), str(tmp_path)) is None


def test_size_in_a_lock() -> None:
    with pytest.raises(StackError, match="not a line of a lock"):
        lockfile._parse_line(f"demo==1 --hash=sha256:{'0' * 64} # {DIGITS} bytes", path="x", number=1)


@pytest.mark.parametrize(
    "leftover",
    [pytest.param(".manifest.json.4294967299-x.new", id="a number of no process"), ".manifest.json.0²-x.new"],
)
def test_file_that_is_named_as_a_writer_names_what_it_leaves(tmp_path: Path, leftover: str) -> None:
    (tmp_path / leftover).touch()
    writing.remove_leftovers(str(tmp_path), "manifest.json")
    assert os.listdir(tmp_path) == [leftover]


def test_headers_of_a_server() -> None:
    headers = email.message.Message()
    headers["Content-Range"], headers["Content-Length"] = f"bytes 3-{DIGITS}/{DIGITS}", DIGITS
    answer: Any = SimpleNamespace(headers=headers, status=206, geturl=lambda: "https://x.example/x")
    kept = _Kept(None, None)
    kept._bytes = 3
    assert kept.start_of(answer) == 0
    source = Source("https://x.example", name="x", settings="x")
    source._open = lambda url, read, **named: read(answer)
    assert source.state_of("https://x.example/x", what="x") == {"bytes": None, "marks": ["", ""]}


def test_part_that_a_client_asks_for() -> None:
    assert file_server.parse_range(f"bytes={DIGITS}-", 10) is None
    assert file_server.parse_range("bytes=2-", 10) == (2, 10)


def test_pages_and_metadata_of_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"filename": WHEEL, "requires-python": f">={DIGITS}"}, {"filename": WHEEL.replace("-1-", f"-{DIGITS}-")}]
    monkeypatch.setattr("ansible.module_utils.tensorflow_stack.locking.offers.read_page", lambda *_: rows)
    offers = Offers("https://x.example", "2026-11-22T00:00:00Z")
    assert offers.files("demo") in (None, ())
    metadata = f"Name: tensorflow-text\nRequires-Dist: tensorflow<{DIGITS}; extra == 'tensorflow'\n\n"
    assert bound_against("tensorflow-text", "2.8.0", metadata, "2.8.0") is None


def test_page_that_pythons_parser_of_html_does_not_take() -> None:
    headers = email.message.Message()
    headers["Content-Type"] = "text/html"
    source = Source("https://x.example", name="package index", settings="x")
    with pytest.raises(StackError, match="no HTML"):
        index.rows_of(
            source, Answer(b"<a href=x><![" + b"[" * 9, headers, "https://x.example/demo/"), "The page of demo"
        )


@pytest.mark.parametrize("version", [DIGITS, f"2.{DIGITS}"])
def test_release_that_somebody_asks_for(version: str) -> None:
    tables = load_tables(TABLES)
    assert tables.release(version) is None
    with pytest.raises(RefusedError):
        releases.find_release(tables, version)
