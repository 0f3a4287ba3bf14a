"""What is in a report, whatever of it could not be read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.issue import collect
from ansible.module_utils.tensorflow_stack.issue.collect import Known

NOBODY = Known([], [], [])


def written(tmp_path: Path, **options: Any) -> str:
    path = tmp_path / "reports" / "issue.md"
    every = {name: row.get("default") for name, row in collect.OPTIONS.items()}
    text = collect.write_report({**every, "path": str(path), "repository": str(tmp_path), **options}, "2.21.5")
    assert path.read_text() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return text


def test_every_part_is_redacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "jdoe"))
    secret = "PIP_PASSWORD=hunter2 of jdoe on gpu07"
    text = written(
        tmp_path,
        doctor={"lines": [f"doctor {secret}"]},
        node={"node": {"user": {"name": "jdoe", "home": "/data/jdoe"}, "unread": [f"node {secret}"]}},
        plan={"table": f"table {secret}", "plan": {"environment": "/data/jdoe/tf", "why": f"plan {secret}"}},
        info={"logs": {"jdoe.log": f"log {secret}"}, "users": ["jdoe"], "hosts": [], "homes": []},
        names=["gpu07"],
    )
    for part in ("doctor", "node", "table", "plan", "log"):
        assert f"{part} PIP_PASSWORD=<secret> of <user> on <host>" in text
    assert "~/tf" in text
    assert [word for word in ("hunter2", "jdoe", "gpu07") if word in text] == []
    assert '"ansible-core": "2.21.5"' in text


def test_what_failed_says_so_and_what_is_missing_is_left_out(tmp_path: Path) -> None:
    text = written(tmp_path, doctor={"msg": "There is no environment x."}, node={"skipped": True}, plan=None)
    assert "There is no environment x." in text
    assert "## Node" not in text
    assert '"toolkit": "not known"' in text


def test_a_key_that_loses_its_first_line_to_the_cut_is_no_text() -> None:
    lines = ["-----BEGIN PRIVATE KEY-----", *["hunter2" * 8] * 200, "-----END PRIVATE KEY-----", "after"]
    text = collect.report({}, {"a.log": "\n".join(lines)}, NOBODY)
    assert "hunter2" not in text
    assert "after" in text


def test_of_a_log_the_last_lines_are_shown_each_cut() -> None:
    text = collect.tail("\n".join([*(f"line {number}" for number in range(200)), "x" * 1000]))
    assert text.startswith("(121 lines before these)\nline 121\n")
    assert text.endswith(f"{'x' * 300}...")


def test_logs_of_a_root_that_somebody_else_may_write_are_not_read(tmp_path: Path) -> None:
    builds = tmp_path / ".builds"
    builds.mkdir()
    (builds / "a.log").write_text("of a build")
    (builds / "a.check").write_text("of a check")
    (builds / "link.log").symlink_to("/etc/passwd")
    logs = collect.kept_logs(str(tmp_path))
    assert {name: logs[name] for name in ("a.log", "a.check")} == {"a.log": "of a build", "a.check": "of a check"}
    assert "link.log" not in logs
    os.chmod(builds, 0o777)
    assert "a.log" not in collect.kept_logs(str(tmp_path))


def test_the_three_newest_logs_are_read(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"{number}.log"
        path.write_text(str(number))
        os.utime(path, (number, number))
    assert collect.ends_of([str(tmp_path / "*.log")]) == {"2.log": "2", "3.log": "3", "4.log": "4"}


def test_a_fence_in_a_log_does_not_end_it() -> None:
    assert "~~~~~~\n```\nx\n~~~~~~\n" in collect.report({"A": "```\nx"}, {}, NOBODY)


def test_names_of_another_machine_count_as_far_as_they_are_names() -> None:
    known = collect.known_together(Known(["a"], [], []), {"users": ["b", 7], "hosts": None})
    assert known == Known(["a", "b", "7"], [], [])
