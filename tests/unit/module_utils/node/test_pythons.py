"""The Pythons that are found on a node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.tensorflow_stack.node.pythons import find_pythons
from ansible.module_utils.tensorflow_stack.node.user import User

from tests import nodes


def test_python_rows(tmp_path: Path) -> None:
    pythons = nodes.read("broken_pythons", tmp_path)["pythons"]
    assert pythons[1] == {
        "version": "3.9.18",
        "minor": "3.9",
        "path": "/opt/pyenv/versions/3.9.18/bin/python3.9",
        "origin": "pyenv",
        "ensurepip": False,
        "distutils": True,
        "public": True,
    }
    assert [row["version"] for row in pythons] == [
        "3.8.18",
        "3.9.18",
        "3.10.13",
        "3.10.19",
        None,
        "3.12.1",
        "3.14.0rc2",
    ]


def test_a_python_that_is_left_out_has_its_reason(tmp_path: Path) -> None:
    unread = nodes.read("broken_pythons", tmp_path)["unread"]
    assert {row["fact"] for row in unread} == {"pythons"}
    assert sorted(row["reason"] for row in unread) == [
        "/opt/arm/bin/python3: built for aarch64, this node is x86_64",
        "/root/.pyenv/versions/3.6.15/bin/python3.6: no standard library in "
        "/root/.pyenv/versions/3.6.15/lib/python3.6 or /root/.pyenv/versions/3.6.15/lib64/python3.6",
        "/srv/tools/bin/python3.13: /opt/pyenv/versions/3.13.0t/bin/python3.13t is not named python3.N, "
        "as a standard build of CPython is",
        "/usr/bin/python3.7: link to /opt/removed/bin/python3.7, which is not there",
        "/usr/local/bin/python3.8: not an ELF file",
    ]


def test_find_pythons_is_what_the_record_says(tmp_path: Path) -> None:
    record = nodes.read("broken_pythons", tmp_path)
    pythons, unread = find_pythons(
        filesystem_root=str(tmp_path / "broken_pythons"),
        user=User("root", 0, "/root"),
        environ={"PATH": "/root/.pyenv/shims:/root/venv/bin:/srv/tools/bin:/usr/local/bin:/usr/bin"},
    )
    assert pythons == record["pythons"]
    assert unread == record["unread"]


def test_pyenv_and_uv_are_where_the_environment_says(tmp_path: Path) -> None:
    build = {"minor": "3.10", "machine": "x86_64"}
    places = ["/data/pyenv/versions/3.10.1", "/data/share/uv/python/cpython-3.10.2-linux-x86_64-gnu"]
    nodes.build({"elf": {"/bin/sh": "x86_64"}, "pythons": [{"prefix": place, **build} for place in places]}, tmp_path)
    environ = {"PYENV_ROOT": "/data/pyenv", "XDG_DATA_HOME": "/data/share", "PATH": "/nowhere"}
    arguments: dict[str, Any] = {"filesystem_root": str(tmp_path), "user": User("ada", 1000, "/home/ada")}
    pythons, _ = find_pythons(environ=environ, **arguments)
    assert [(row["version"], row["origin"]) for row in pythons] == [("3.10.1", "pyenv"), ("3.10.2", "uv")]
    assert find_pythons(environ={}, **arguments) == ([], [])


def test_python_3_7_has_its_abi_flag_in_the_name_of_its_headers(tmp_path: Path) -> None:
    tree = {
        "pythons": [{"prefix": "/usr", "minor": "3.7", "machine": "x86_64"}],
        "files": {"/usr/include/python3.7m/patchlevel.h": '#define PY_VERSION "3.7.3"\n'},
    }
    pythons, _ = find_pythons(filesystem_root=str(nodes.build(tree, tmp_path)))
    assert [row["version"] for row in pythons] == ["3.7.3"]


def test_a_python_that_may_not_be_executed_is_left_out(tmp_path: Path) -> None:
    nodes.build({"pythons": [{"prefix": "/usr", "minor": "3.9", "machine": "x86_64"}]}, tmp_path)
    (tmp_path / "usr/bin/python3.9").chmod(0o644)
    pythons, unread = find_pythons(filesystem_root=str(tmp_path))
    assert pythons == []
    assert {"fact": "pythons", "reason": "/usr/bin/python3: may not be executed by this user"} in unread


def test_a_venv_leads_to_the_interpreter_it_was_made_from(tmp_path: Path) -> None:
    tree = {
        "pythons": [{"prefix": "/srv/python", "minor": "3.9", "machine": "x86_64"}],
        "links": {"/srv/venv/bin/python3": "/srv/python/bin/python3.9"},
        "files": {"/srv/venv/pyvenv.cfg": "home = /srv/python/bin\n"},
    }
    root = str(nodes.build(tree, tmp_path))
    pythons, _ = find_pythons(filesystem_root=root, environ={"PATH": "/srv/venv/bin"})
    assert [(row["path"], row["origin"]) for row in pythons] == [("/srv/python/bin/python3.9", "path")]
