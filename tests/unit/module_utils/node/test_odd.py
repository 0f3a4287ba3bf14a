"""Whatever lies in the place of a file, whatever it is called and whatever it says: the rest of a node is read."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.node.record import read_node
from ansible.module_utils.tensorflow_stack.node.texts import natural_order
from ansible.module_utils.tensorflow_stack.node.user import User
from ansible.module_utils.tensorflow_stack.records import manifest
from ansible.module_utils.tensorflow_stack.records.build import read_record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import nodes

NODE = "a100_driver535"
BUILD = "/opt/tensorflow/.builds/tensorflow-2.10.1-9f86d081884c-1/build.json"
# Each file of a node that is read, and the fact that it is for; None where another file says the same.
READ: dict[str, str | None] = {
    "/etc/os-release": "os",
    "/proc/sys/kernel/osrelease": "kernel",
    "/proc/sys/kernel/random/boot_id": "boot_id",
    "/proc/driver/nvidia/version": "driver.kind",
    "/sys/module/nvidia/version": "driver.loaded",
    "/etc/ld.so.conf": "library directories",
    "/bin/sh": "architecture",
    "/usr/bin/python3.11": "pythons",
    "/usr/local/cuda-11.2/version.json": "cuda",
    "/etc/tensorflow-gpu-stack/driver.json": "managed",
    "/opt/tensorflow/manifest.json": "manifest",
    BUILD: "environments",
}


def read(root: Path, **arguments: Any) -> dict[str, Any]:
    """The record, in less than the time that anybody would wait, and as text that JSON can be sent as."""
    started = time.monotonic()
    environ = {"PATH": "/usr/bin", **arguments.pop("environ", {})}
    record = read_node(filesystem_root=str(root), user=User("root", 0, "/root"), environ=environ, **arguments)
    assert time.monotonic() - started < 10
    json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8")
    return record


def facts(record: dict[str, Any]) -> set[str]:
    return {row["fact"] for row in record["unread"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return nodes.materialise(NODE, tmp_path)


def place(root: Path, path: str) -> Path:
    """The path below the root with nothing there."""
    found = nodes._place(root, path)
    if found.exists() or found.is_symlink():
        found.unlink()
    return found


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        directory = os.open(path.parent, os.O_RDONLY)
        bound.bind(f"/proc/self/fd/{directory}/{path.name}")  # a path of its own may be too long
        os.close(directory)


def _huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(3 << 30)


ODD: dict[str, Callable[[Path], Any]] = {
    "fifo": os.mkfifo,
    "socket": _socket,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "directory": Path.mkdir,
    "loop": lambda path: path.symlink_to(path.name),
    "huge": _huge,
    "link to a fifo": lambda path: (os.mkfifo(f"{path}.fifo"), path.symlink_to(f"{path.name}.fifo")),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("path", READ)
def test_what_is_no_file_leaves_a_row_and_the_rest_is_read(root: Path, path: str, odd: str) -> None:
    if odd == "huge" and path in ("/bin/sh", "/usr/bin/python3.11"):
        pytest.skip("of a program only the head is read")
    target = place(root, path)
    if odd == "endless":
        # Links are followed below the node's root: the device lies there.
        device = nodes._place(root, "/dev/zero")
        if os.geteuid() != 0:
            pytest.skip("makes a device: run as root")
        os.mknod(device, 0o20666, os.makedev(1, 5))
    ODD[odd](target)
    record = read(root)
    assert READ[path] in facts(record), record["unread"]
    assert [row["pci_address"] for row in record["gpus"]] == ["0000:04:00.0"]
    assert ("tensorflow-2.10.1" in [row["name"] for row in record["environments"]]) == (path != BUILD)


# --- Names -----------------------------------------------------------------------------------------------

NAMES = [b"\xc2\xb2", b"6.1\xc2\xb2", "3.1٣".encode(), b"\xff\xfe", b"a\nb", b"3.10.0\n", b"cuda-11.2\xff", b"9" * 250]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize(
    "pattern",
    [
        "/opt/{}/bin/python3.10",
        "/lib/modules/{}/build",
        "/root/.pyenv/versions/{}/bin/python3.10",
        "/opt/cuda-{}/lib64/x",
    ]
    + ["/usr/bin/python3.{}", "/usr/local/{}/x", "/usr/lib/x86_64-linux-gnu/libcuda.so.{}", "/opt/tensorflow/{}"],
)
def test_odd_names_leave_the_rest_as_it_was(root: Path, pattern: str, name: bytes) -> None:
    before = read(root)
    above, _, below = pattern.rpartition("{}")[0].rpartition("/")
    directory = nodes._place(root, above + "/x").parent
    head, _, tail = pattern[len(above) + 1 :].partition("{}")
    path = os.fsencode(directory) + b"/" + head.encode() + name[:240] + tail.encode()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    record = read(root)
    for fact in ("gpus", "os", "driver", "environments", "cudnn", "managed"):
        assert record[fact] == before[fact]
    assert [row for row in record["pythons"] if row in before["pythons"]] == before["pythons"]


def test_a_link_to_what_is_no_text_is_left_out(root: Path) -> None:
    os.symlink(b"/usr/local/\xff", os.fsencode(root) + b"/usr/local/cuda-12.0")
    record = read(root)
    assert any(row["reason"].endswith("a link to what is not UTF-8") for row in record["unread"])
    assert [row["version"] for row in record["cuda"]] == ["11.2"]


def test_variables_that_are_no_text_are_said_as_far_as_possible(root: Path) -> None:
    record = read(root, environ={"PATH": "/usr/bin:/\udcff", "PYENV_ROOT": "/\udcfe\0", "XDG_DATA_HOME": "/\udcff"})
    assert [row["minor"] for row in record["pythons"]] == ["3.10", "3.11"]


def test_the_natural_order_takes_any_name() -> None:
    names = ["²", "3.10", "3.9", "3.٣", "3.", "", "7" * 5000, "03.9"]
    ordered = sorted(names, key=natural_order)
    assert ordered.index("3.9") < ordered.index("3.10") < ordered.index("7" * 5000)


# --- Texts -----------------------------------------------------------------------------------------------


def test_odd_paths_in_the_loaders_configuration(root: Path) -> None:
    place(root, "/etc/ld.so.conf").write_bytes(b"/usr/lib/a\0b\n/\xff\ninclude /etc/ld.so.conf.d/*.conf\n/good\n")
    for name, other in (("a", "b"), ("b", "a"), ("c", "?")):
        text = f"include /etc/ld.so.conf.d/{other}.conf\ninclude /etc/ld.so.conf.d/*\ninclude \0\n"
        nodes._place(root, f"/etc/ld.so.conf.d/{name}.conf").write_text(text)
    record = read(root)
    assert {"fact": "library directories", "reason": r"'/usr/lib/a\x00b': no path of UTF-8"} in record["unread"]
    assert record["driver"]["installed"] == "535.183.01"


DEEP = "[" * 100_000 + "]" * 100_000
JSONS = [
    ('{"a": %s}' % DEEP, "not JSON: "),
    ('{"a": %s1%s}' % ("[" * 60, "]" * 60), "not JSON: nested more than 40 deep"),
    ('{"a": NaN}', "not JSON: NaN is not of JSON"),
    ('{"a": 1e999}', "not JSON: 1e999 is too large a number"),
    ('{"a": %s}' % ("7" * 10_000), "not JSON: a number of 10000 digits"),
    (r'{"a": "\ud800"}', "not JSON: 'utf-8' codec can't encode"),
    ("[]", "JSON, but not an object"),
    ("", "not JSON: "),
]


@pytest.mark.parametrize("path", [path for path in READ if path.endswith(".json") and "cuda" not in path])
@pytest.mark.parametrize(("text", "reason"), JSONS, ids=lambda value: value[:20])
def test_odd_json_leaves_a_row(root: Path, path: str, text: str, reason: str) -> None:
    place(root, path).write_text(text)
    rows = [row["reason"] for row in read(root)["unread"] if row["fact"] == READ[path]]
    assert any(row.startswith(f"{path}: {reason}") for row in rows), rows


@pytest.mark.parametrize("text", [DEEP, '{"cuda": %s}' % DEEP, '{"cuda": {"version": "1.%s"}}' % ("1" * 5000), "[1]"])
def test_an_odd_version_file_of_cuda_leaves_a_row(root: Path, text: str) -> None:
    place(root, "/usr/local/cuda-11.2/version.json").write_text(text)
    assert {"fact": "cuda", "reason": "/usr/local/cuda-11.2/version.json: names no version of CUDA"} in read(root)[
        "unread"
    ]


WRONG: list[Any] = [None, 1, "x\0", [], [1], {}, {"x": 1}, {"version": "11.2"}, [{}], [{"name": 1}]]


@pytest.mark.parametrize("key", ["release", "flavour", "digest", "build", "python", "lock_sha256", "packages", "cuda"])
def test_a_build_record_with_another_type_leaves_a_row(root: Path, key: str) -> None:
    good = json.loads(nodes._place(root, BUILD).read_text())
    for value in WRONG:
        fits = isinstance(value, type(good[key])) and value not in ([1], {"x": 1}, {}, {"version": "11.2"})
        if fits or (key == "cuda" and value is None) or (key == "packages" and value in ({}, {"version": "11.2"})):
            continue
        nodes._place(root, BUILD).write_text(json.dumps({**good, key: value}))
        record = read(root)
        assert record["environments"] == [], (key, value)
        assert {"fact": "environments", "reason": f"{BUILD}: {key} is of another type"} in record["unread"]


@pytest.mark.parametrize(
    "content",
    [{}, {"source": None}, {"packages": [1]}, {"packages": 1}, {"version": "garbage²"}, {"version": 1}, {"asked": []}]
    + [{"asked": {"packages": 1}}, {"packages": [{"name": "x", "version": []}]}],
    ids=str,
)
@pytest.mark.parametrize("component", ["driver", "cuda", "cudnn"])
def test_what_this_toolkit_cannot_have_written_of_a_component_is_left_out(
    root: Path, component: str, content: dict[str, Any]
) -> None:
    path = f"/etc/tensorflow-gpu-stack/{component}.json"
    record = {"source": "distro", "version": "535.1", "packages": [{"name": "x", "version": "1"}]}
    nodes._place(root, path).write_text(json.dumps(record))
    assert list(read(root)["managed"]) == [component]
    nodes._place(root, path).write_text(json.dumps({**record, **content} if content else {}))
    read_again = read(root)
    assert read_again["managed"] == {}
    assert {"fact": "managed", "reason": f"{path}: not a record that this toolkit wrote"} in read_again["unread"]


MANIFESTS: list[dict[str, Any]] = [
    {"environments": {"a": {"check": []}}},
    {"environments": {"a": {"check": {"verdict": "ok"}}}},
    {"environments": {"a": {"builds": 1}}},
    {"environments": {"a": {"requirements": [1]}}},
    {"environments": {"a": {"requirements": {"a-1": []}}}},
    {"environments": {"a": {"release": 1}}},
    {"environments": {}, "current": []},
    {"environments": []},
]


@pytest.mark.parametrize("content", MANIFESTS, ids=str)
def test_a_manifest_of_other_types_is_a_row_here_and_a_message_elsewhere(root: Path, content: dict[str, Any]) -> None:
    path = nodes._place(root, "/opt/tensorflow/manifest.json")
    path.write_text(json.dumps({"schema": 1, **content}))
    record = read(root)
    assert record["manifest"] is None
    assert "manifest" in facts(record)
    with pytest.raises(StackError, match=r"Move it away and run the playbook again, which writes a new one"):
        manifest.read(str(path.parent))


@pytest.mark.parametrize("odd", ["fifo", "directory", "loop", "huge"])
def test_the_toolkits_own_readers_do_not_wait_either(tmp_path: Path, odd: str) -> None:
    for name in ("manifest.json", "build.json"):
        ODD[odd](tmp_path / name)
    assert read_record(str(tmp_path)) is None
    with pytest.raises(StackError, match=r"manifest\.json (is|cannot be read)"):
        manifest.read(str(tmp_path))


# --- Anything of it at once ------------------------------------------------------------------------------


def _tables(item: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = ("schema", "environments", "current", "check", "name", "python", "packages", "cuda", "version", "source")
    return st.dictionaries(st.sampled_from(keys) | st.text(max_size=5), item, max_size=6)


texts = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=5), lambda item: st.lists(item) | _tables(item)
    ).map(lambda value: json.dumps(value).encode()),
)
names = st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & {*name} and name not in (b".", b".."))


kinds = st.sampled_from(["fifo", "directory", "loop"])
places = st.sampled_from(["/opt", "/lib/modules", "/usr/bin", "/opt/tensorflow", "/usr/local"])


@pytest.fixture(scope="module")
def counter() -> Iterator[int]:
    return iter(range(sys.maxsize))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.dictionaries(st.sampled_from(sorted(READ)), texts | kinds, max_size=4),
    planted=st.lists(st.tuples(places, names), max_size=3),
)
def test_nothing_stops_the_reading(
    contents: dict[str, bytes | str], planted: list[tuple[str, bytes]], tmp_path: Path, counter: Iterator[int]
) -> None:
    root = nodes.materialise(NODE, tmp_path / str(next(counter)))
    for path, content in contents.items():
        target = place(root, path)
        ODD[content](target) if isinstance(content, str) else target.write_bytes(content)
    for directory, name in planted:
        path = os.path.join(os.fsencode(nodes._place(root, directory + "/x").parent), name)
        if not os.path.lexists(path):
            os.makedirs(path + b"/bin")
    record = read(root)
    assert [row["pci_address"] for row in record["gpus"]] == ["0000:04:00.0"]
