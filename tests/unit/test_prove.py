"""What scripts/prove.py chooses and writes; what it builds is seen by running it."""

from __future__ import annotations

from pathlib import Path

import prove
import pytest
import yaml
from packaging.version import Version


@pytest.fixture(scope="module")
def tables() -> prove.Tables:
    return prove.load_tables(str(prove.FILES / "tables"))


def test_all_is_every_release_the_last_patches_on_each_python_and_each_cuda(
    tables: prove.Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tables), "proofs", ())
    chosen = prove.choose(tables, "all", None, 1)
    assert len(chosen) == len(set(chosen))
    assert {target.release for target in chosen} == {row.version for row in tables.releases}
    cpu = {target[:2] for target in chosen if target.flavour == "cpu"}
    newest = {Version(row.version).release[:2]: row for row in tables.releases}
    assert cpu >= {(row.version, python) for row in newest.values() for python in row.pythons["x86_64"]}
    cuda = [tables.cuda_wheels_for(target.release) for target in chosen if target.flavour == "cuda"]
    every = {(row.cuda, row.cudnn) for row in tables.cuda_wheels}
    assert sorted((row.cuda, row.cudnn) for row in cuda if row) == sorted(every)


def test_what_is_proven_of_todays_lock_is_not_proven_again(
    tables: prove.Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tables), "proofs", ())
    first, second, *_ = prove.choose(tables, "all", None, 1)

    def proof(target: prove.Target, sha256: str) -> prove.Proof:
        return prove.Proof(*target[:3], sha256, "2026-11-26", (), ("prove",))

    monkeypatch.setattr(type(tables), "proofs", (proof(first, first.lock_sha256), proof(second, "0" * 64)))
    chosen = prove.choose(tables, "all", None, 1)
    assert first not in chosen and second in chosen


def test_a_proof_takes_the_place_of_the_one_before(
    tables: prove.Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "proofs.yml"
    path.write_text(prove.PROOFS.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(prove, "PROOFS", path)
    before = yaml.safe_load(path.read_text(encoding="utf-8"))
    target = prove.Target("2.13.1", "3.11", "cuda", "1" * 64)
    prove.record(target, ("libcudart.so.11.0",), tables.proofs, "2027-01-02")
    after = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert after["sources"] == before["sources"]
    (row,) = [row for row in after["rows"] if (row["release"], row["flavour"]) == ("2.13.1", "cuda")]
    assert (row["date"], row["libraries"]) == ("2027-01-02", ["libcudart.so.11.0"])
    others = [row for row in before["rows"] if (row["release"], row["flavour"]) != ("2.13.1", "cuda")]
    assert [other for other in after["rows"] if other != row] == others
