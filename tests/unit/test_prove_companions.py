"""What scripts/prove_companions.py asks for and writes; what it builds is seen by running it."""

from __future__ import annotations

import ast
from pathlib import Path

import prove_companions
import pytest
import yaml
from prove_companions import CompanionProof


def test_a_proof_takes_the_place_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "companion_proofs.yml"
    path.write_text("---\nsources: {}\nrows:\n", encoding="utf-8")
    monkeypatch.setattr(prove_companions, "PROOFS", path)
    newer, older = (
        CompanionProof(release, "3.11", "tf2onnx", "1.16.1", digest * 64, "2026-11-26", ("prove",))
        for release, digest in (("2.15.1", "a"), ("2.8.4", "b"))
    )
    prove_companions.record(older._replace(version="1.13.0"), (newer, older))
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))["rows"]
    assert [(row["release"], row["version"]) for row in rows] == [("2.8.4", "1.13.0"), ("2.15.1", "1.16.1")]


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
