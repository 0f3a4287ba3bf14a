from __future__ import annotations

from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]


def test_nothing_to_lock(run_module: Any, tmp_path: Path) -> None:
    result = run_module(
        "tensorflow_lock",
        directory=str(tmp_path),
        tables=str(REPOSITORY / "roles/tensorflow_release/files/tables"),
        tools_directory=str(tmp_path),
    )
    assert result["failed"]
    assert result["msg"] == "There is nothing to lock. Set tensorflow_version or tensorflow_requirements."
