"""What the doubles of NVIDIA's repositories are made from (tests/repositories), and the server's faults."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.repositories.contents import Contents, Package, fill
from tests.repositories.packages import RELATION, rpm_relation
from tests.repositories.redist import hostile_members
from tests.repositories.serve import parse_fault, serve


@pytest.fixture(scope="module")
def contents() -> Contents:
    return Contents.load()


def all_packages(contents: Contents) -> dict[str, list[Package]]:
    return {
        row.distribution: [package for name in row.sets for package in contents.packages(name, row.format)]
        for row in contents.repositories
    }


def test_an_entry_of_a_list_goes_where_its_value_is_empty() -> None:
    assert fill(["a (= <x>)", "b (= <y>)"], {"x": "1", "y": ""}) == ["a (= 1)"]
    assert fill({"<x>": {"<y>": "-<y>"}}, {"x": "1", "y": ""}) == {"1": {"": "-"}}


def test_a_word_that_no_row_has_is_an_error() -> None:
    with pytest.raises(KeyError, match="typo"):
        fill("<typo>", {"x": "1"})


def test_a_repository_has_each_name_and_version_once(contents: Contents) -> None:
    for distribution, packages in all_packages(contents).items():
        references = [package.reference for package in packages]
        assert len(references) == len(set(references)), distribution


def test_every_dependency_has_a_package_in_its_repository(contents: Contents) -> None:
    for distribution, packages in all_packages(contents).items():
        provided = {entry.split(" ")[0] for package in packages for entry in package.relations["provides"]}
        names = {package.name for package in packages} | provided
        for package in packages:
            for entry in package.relations["depends"]:
                needed = {match["name"] for part in entry.split(" | ") if (match := RELATION.fullmatch(part))}
                assert needed & names, f"{distribution} {package.reference}: {entry}"


def test_what_the_issue_asks_for_is_there(contents: Contents) -> None:
    for distribution, packages in all_packages(contents).items():
        names = {package.name for package in packages}
        assert {f"cuda-toolkit-{cuda}" for cuda in ("11-2", "11-8", "12-2", "12-5")} <= names, distribution
        branches = {package.values.get("branch") for package in packages}
        assert {"470", "535", "550", "580"} <= branches, distribution
        cudnn = {package.version.split("-")[0] for package in packages if package.name.startswith("libcudnn")}
        assert {"8.1.0.77", "8.6.0.163", "8.9.7.29", "9.3.0.75"} <= cudnn, distribution


def test_what_is_gone_is_in_no_repository(contents: Contents) -> None:
    there = {package.reference for packages in all_packages(contents).values() for package in packages}
    gone = {f"{row['name']}={row['version']}" for row in contents.data["gone"]}
    assert gone
    assert not gone & there


def test_invented_versions_only_come_when_asked_for(contents: Contents) -> None:
    for packages in all_packages(contents).values():
        assert all(package.newer or "999" not in package.version for package in packages)
        assert any(package.newer for package in packages)


@pytest.mark.parametrize(
    ("relation", "rpm"),
    [
        ("a", "a"),
        ("a (>= 1.2)", "a >= 1.2"),
        ("a (= 8.1.0.77-1+cuda11.2)", "a = 8.1.0.77-1.cuda11.2"),
        ("a (= 3:1) | b", "(a = 3:1 or b)"),
    ],
)
def test_relations_of_rpms(relation: str, rpm: str) -> None:
    assert rpm_relation(relation) == rpm


def test_hostile_archives_hold_what_a_careless_unpacker_would_follow(tmp_path: Path) -> None:
    """Otherwise a safe unpacker would not be seen to do anything."""
    members = hostile_members()
    assert any(".." in info.name.split("/") for info, _ in members["escape"])
    assert any(info.name.startswith("/") for info, _ in members["absolute"])
    assert members["setuid"][0][0].mode & 0o4000
    assert members["device"][0][0].ischr()
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    for info, body in members["symlink_out"]:
        info.name = info.name.replace("ROOT", "root")
        if info.issym():
            (inside / "root").mkdir()
            (inside / info.name).symlink_to(info.linkname)
        else:
            (inside / info.name).write_bytes(body)
    assert (tmp_path / "a" / "escaped").exists()


@pytest.mark.parametrize("rule", ["404", "40:*", "drop:*", "slow=x:*", "tamper=3:*", "explode:*", "200:*"])
def test_a_fault_that_is_no_rule_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(rule))):
        parse_fault(rule)


class TestServer:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "file").write_bytes(b"x" * 1000)
        (tmp_path / "folder" / "other").write_bytes(b"other")
        return tmp_path / "folder"

    @staticmethod
    def get(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def test_a_status_for_a_pattern_and_not_for_the_rest(self, folder: Path) -> None:
        with serve(folder, ["503:*/file"]) as server:
            with pytest.raises(urllib.error.HTTPError, match="503") as caught:
                self.get(f"{server.url}/file")
            caught.value.close()
            assert self.get(f"{server.url}/other") == b"other"
            assert server.requests == ["503 /file", "200 /other"]

    def test_dropped_in_the_middle(self, folder: Path) -> None:
        with serve(folder, ["drop=100:*"]) as server, pytest.raises(http.client.IncompleteRead) as caught:
            self.get(f"{server.url}/file")
        assert len(caught.value.partial) == 100

    def test_tampered_keeps_the_length(self, folder: Path) -> None:
        with serve(folder, ["tamper:*"]) as server:
            body = self.get(f"{server.url}/file")
        assert len(body) == 1000
        assert sum(byte != ord("x") for byte in body) == 1

    def test_slow(self, folder: Path) -> None:
        with serve(folder, ["slow=2000:*"]) as server:
            started = time.monotonic()
            assert self.get(f"{server.url}/file") == b"x" * 1000
            assert time.monotonic() - started >= 0.3

    def test_faults_come_and_go_by_the_file(self, folder: Path, tmp_path: Path) -> None:
        rules = tmp_path / "rules"
        with serve(folder, faults_file=rules) as server:
            assert self.get(f"{server.url}/other") == b"other"
            rules.write_text("404:*\n")
            with pytest.raises(urllib.error.HTTPError, match="404") as caught:
                self.get(f"{server.url}/other")
            caught.value.close()
            rules.unlink()
            assert self.get(f"{server.url}/other") == b"other"
