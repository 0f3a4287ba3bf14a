"""What scripts/prove_companions.py asks for and writes; what it builds is seen by running it."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import prove_companions
import pytest
import yaml
from prove_companions import CompanionProof


def test_a_proof_takes_the_place_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(prove_companions.TABLES, tmp_path / "tables")
    path = tmp_path / "tables" / "companion_proofs.yml"
    head = path.read_text(encoding="utf-8").partition("rows:")[0]
    first = "release: '1.15.5', python: '3.7', project: tf2onnx, version: '1.1', lock_sha256: " + "b" * 64
    path.write_text(f"{head}rows:\n  - {{{first}, date: '2026-11-26', source: [prove]}}\n", encoding="utf-8")
    monkeypatch.setattr(prove_companions, "TABLES", tmp_path / "tables")
    monkeypatch.setattr(prove_companions, "PROOFS", path)

    def rows() -> list[tuple[str, str, str]]:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))["rows"]
        return [(row["release"], row["python"], row["version"]) for row in found[1:]]

    for release, python, version in (("2.15.1", "3.11", "1.16"), ("2.8.4", "3.10", "1.13"), ("2.15.1", "3.10", "1.17")):
        proof = CompanionProof(release, python, "tf2onnx", version, "a" * 64, "2026-11-26", ("prove",))
        prove_companions.record(release, "tf2onnx", proof)
    assert rows() == [("2.8.4", "3.10", "1.13"), ("2.15.1", "3.10", "1.17")]
    prove_companions.record("2.8.4", "tf2onnx", None)
    assert rows() == [("2.15.1", "3.10", "1.17")]


def test_every_row_is_of_a_companion_that_can_be_used_again() -> None:
    rows = prove_companions.load_tables(str(prove_companions.TABLES)).companion_proofs
    assert {row.project for row in rows} <= set(prove_companions.PROJECTS)


def test_every_companion_has_a_use() -> None:
    tree = ast.parse(Path(prove_companions.__file__).with_name("companion_uses.py").read_text(encoding="utf-8"))
    uses = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert uses == {"use_" + project.replace("-", "_") for project in prove_companions.PROJECTS}


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        (
            "tensorflow.errors_impl.NotFoundError: x.so: undefined symbol\n  warnings.warn(\n",
            "tensorflow.errors_impl.NotFoundError: x.so: undefined symbol",
        ),
        ("Warning\n  warnings.warn(\n", "ended with -11"),
    ],
)
def test_what_is_told_of_a_failure_is_its_exception(errors: str, told: str) -> None:
    assert prove_companions.fault_of(errors, -11) == told
