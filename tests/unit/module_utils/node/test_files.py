"""Links and names of a node's file system, followed under its root."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.node.files import NodeFiles

from tests import nodes


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/absolute", "/usr/lib/target"),
        ("/etc/relative/below", "/usr/lib/below"),
        ("/usr/lib/../../../../etc//./name", "/etc/name"),
        ("/etc/absent/name", "/srv/absent/name"),
        ("/etc/top", "/"),
    ],
)
def test_links_are_followed_under_the_root(path: str, expected: str, tmp_path: Path) -> None:
    links = {
        "/etc/absolute": "/usr/lib/target",
        "/etc/relative": "../usr/lib",
        "/etc/absent": "/srv/absent",
        "/etc/top": "../../..",
    }
    nodes.build({"links": links}, tmp_path)
    assert NodeFiles(str(tmp_path)).resolve(path) == expected


def test_a_loop_of_links_is_an_error_and_for_a_reader_a_row(tmp_path: Path) -> None:
    nodes.build({"links": {"/a": "b", "/b": "a"}}, tmp_path)
    files = NodeFiles(str(tmp_path))
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        files.resolve("/a")
    assert files.text("/a", "fact") is None
    assert not files.exists("/a", "fact")
    assert files.unread == [{"fact": "fact", "reason": "/a: Too many levels of symbolic links"}]


def test_what_is_absent_leaves_no_row(tmp_path: Path) -> None:
    nodes.build({"files": {"/file": ""}}, tmp_path)
    files = NodeFiles(str(tmp_path))
    assert files.text("/none", "fact") is None
    assert files.data("/file/below", "fact", 100) is None
    assert files.names("/none", "fact") == []
    assert not files.is_dir("/none", "fact")
    assert files.unread == []


def test_glob_is_in_natural_order_and_sees_no_hidden_name(tmp_path: Path) -> None:
    paths = ("/opt/cuda-9.0/bin/x", "/opt/cuda-10.1/bin/x", "/opt/cuda-10.2/lib/x", "/opt/.cuda-8.0/bin/x")
    nodes.build({"files": dict.fromkeys(paths, "")}, tmp_path)
    assert NodeFiles(str(tmp_path)).glob("/opt/*/bin", "fact") == ["/opt/cuda-9.0/bin", "/opt/cuda-10.1/bin"]
