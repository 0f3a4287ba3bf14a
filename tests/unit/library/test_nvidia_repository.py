"""The module as a task calls it, on the apt of the tests of apt_repository."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.io.commands import Completed
from ansible.module_utils.tensorflow_stack.io.files import FileChanges
from ansible.module_utils.tensorflow_stack.repositories.common import Work

from tests.keys import FIRST, FIRST_KEY, SECOND_KEY

URL = "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/"
ROW = {
    "kind": "nvidia",
    "manager": "apt",
    "name": "nvidia-cuda-debian12",
    "url": URL,
    "key": "3bf863cc.pub",
    "fingerprints": [FIRST],
    "retired_fingerprints": [],
}
KEY = "etc/apt/keyrings/nvidia-cuda-debian12.asc"
# The same key as its owner might have signed it anew: the armour says something else, the fingerprint does not.
RENEWED_KEY = FIRST_KEY.replace(b"BLOCK-----\n\n", b"BLOCK-----\nComment: renewed\n\n", 1)


def ended(code: int, lines: list[str]) -> Completed:
    return Completed(code, "\n".join(lines))


class Node:
    """An apt that takes the index where the node's key file is one of `accepted`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.served = FIRST_KEY
        self.accepted = [FIRST_KEY]
        self.updates = 0
        (root / "etc/apt/sources.list.d").mkdir(parents=True)

    def run(self, argv: list[str]) -> Completed:
        packages, index = self.root / "x_Packages", self.root / "x_InRelease"
        if argv[1] == "update":
            self.updates += 1
            if (self.root / KEY).read_bytes() not in self.accepted:
                return ended(100, [f"W: GPG error: {URL.rstrip('/')}  InRelease: EXPKEYSIG"])
            packages.write_text("")
            index.write_text("")
        if not packages.exists():
            return ended(0, [])
        return ended(0, ["MetaKey: Packages", f"Filename: {packages}", f"Repo-URI: {URL}", "Release: ", ""])

    def fetch(self, _: object) -> bytes:
        return self.served


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node(tmp_path)
    monkeypatch.setattr("ansible.modules.nvidia_repository.FileChanges", lambda: FileChanges(str(tmp_path)))
    monkeypatch.setattr(
        "ansible.modules.nvidia_repository.Work",
        functools.partial(Work, run=node.run, fetch=node.fetch, root=str(tmp_path)),
    )
    return node


def test_four_runs(run_module, node: Node) -> None:
    arguments: dict[str, Any] = {"repositories": [ROW]}
    checked = run_module("nvidia_repository", check=True, diff=True, **arguments)
    assert node.updates == 0
    assert not (node.root / KEY).exists()
    real = run_module("nvidia_repository", diff=True, **arguments)
    checked_again = run_module("nvidia_repository", check=True, **arguments)
    real_again = run_module("nvidia_repository", **arguments)
    runs = [checked, real, checked_again, real_again]
    assert [run["changed"] for run in runs] == [True, True, False, False]
    assert [run["refreshed"] for run in runs] == [True, True, False, False]
    assert checked == {**real, "pending": True}
    assert [run["pending"] for run in runs] == [True, False, False, False]
    assert [row["after_header"] for row in real["diff"]] == [
        "/" + KEY,
        f"/etc/apt/sources.list.d/{ROW['name']}.sources",
    ]
    assert [sorted(set(run) ^ set(real)) for run in runs] == [[]] * 4, "the same keys in every path"
    assert node.updates == 1


def test_old_index_is_refreshed_without_a_change(run_module, node: Node) -> None:
    run_module("nvidia_repository", repositories=[ROW])
    again = run_module("nvidia_repository", repositories=[ROW], refresh_after=-1)
    assert (again["changed"], again["refreshed"], node.updates) == (False, True, 2)


def test_key_that_was_renewed_is_fetched_where_the_index_asks_for_it(run_module, node: Node) -> None:
    (node.root / KEY).parent.mkdir()
    (node.root / KEY).write_bytes(RENEWED_KEY)
    assert run_module("nvidia_repository", repositories=[ROW])["changed"]
    assert (node.root / KEY).read_bytes() == FIRST_KEY
    assert node.updates == 2


@pytest.mark.parametrize("served", [FIRST_KEY, SECOND_KEY], ids=["the same", "another"])
def test_index_signed_by_another_key(run_module, node: Node, served: bytes) -> None:
    """Once with the key that is there, and no second time: what is served now changes nothing, or is refused."""
    run_module("nvidia_repository", repositories=[ROW])
    node.served, node.accepted = served, [SECOND_KEY]
    result = run_module("nvidia_repository", repositories=[ROW], refresh_after=-1)
    assert result["failed"]
    assert "EXPKEYSIG" in result["msg"]
    assert node.updates == 2
    assert (node.root / KEY).read_bytes() == FIRST_KEY


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {name: value for name, value in ROW.items() if name != "key"},
            "kind is nvidia but all of the following are missing: key",
        ),
        ({"kind": "distribution"}, "kind is distribution but all of the following are missing: components"),
        ({**ROW, "fingerprints": ["3bf863cc"]}, "'3BF863CC' is no fingerprint"),
    ],
)
def test_rows_that_are_refused(run_module, node: Node, row: dict[str, Any], said: str) -> None:
    result = run_module("nvidia_repository", repositories=[row])
    assert result["failed"]
    assert said in result["msg"]
