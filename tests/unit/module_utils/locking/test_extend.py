"""The lock of one environment that was added to: its base, the lines, and that no namesake takes a package's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import LockError, StackError
from ansible.module_utils.tensorflow_stack.locking import door, extend
from ansible.module_utils.tensorflow_stack.locking.added import Added, added_inputs_sha256, added_path, added_request
from ansible.module_utils.tensorflow_stack.locking.inputs import LockRequest, UnsatisfiableError, lock_inputs
from ansible.module_utils.tensorflow_stack.locking.resolver import LockOutcome
from ansible.module_utils.tensorflow_stack.locking.wheel_files import WheelFiles
from ansible.module_utils.tensorflow_stack.records.distributions import listing_digest
from ansible.module_utils.tensorflow_stack.records.lockfile import Distribution, parse_lock, render_lock, write_lock

from tests.unit.module_utils.locking.test_resolver import TABLES, request, users
from tests.wheels import make_lock

BASE = make_lock(
    Distribution("tensorflow", "2.8.0", ("0" * 64,), 1),
    Distribution("numpy", "1.26.4", ("1" * 64,), 1),
    release="2.8.0",
    python="3.10",
)
FILES = {"mine/__init__.py": (3, 7)}


def added(directory: Path, *lines: str, **fields: Any) -> Added:
    made = Added(lines=lines, pins=(), to="/opt/x", directory=str(directory), base=None, versions={}, listings={})
    return replace(made, **fields)


class Resolved:
    """Stands for the resolver: keeps what it was given, and gives what was asked for at version 1 unless told."""

    def __init__(self, **packages: str) -> None:
        self.packages = packages
        self.asked: list[tuple[list[str], list[str]]] = []
        self.preferences: Mapping[str, str] = {}

    def __call__(self, inputs: Any, **options: Any) -> Any:
        self.preferences = options["preferences"]
        lines = [line.text for line in inputs.requirements]
        self.asked.append((lines, [line.text for line in inputs.constraints if "added to" in line.where]))
        named = {line.project for line in inputs.requirements}
        packages = {
            **BASE.packages,
            **{name: v for name, v in self.packages.items() if name in named or name == "pandas"},
        }
        rows = [Distribution(name, version, ("2" * 64,), 1) for name, version in sorted(packages.items())]
        return replace(BASE, distributions=tuple(rows))


def extended(monkeypatch: pytest.MonkeyPatch, resolved: Resolved, what: Added, base: Any = BASE) -> Any:
    monkeypatch.setattr(extend, "resolve_lock", resolved)
    index = extend.PackageIndex(lambda: "uv", "2026-11-22T00:00:00Z", None, WheelFiles(what.directory))
    return extend.extend_lock(request(), base, what, TABLES, index, lambda error: error)


def test_what_it_is_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = Resolved(pandas="2.3.3")
    what = added(tmp_path, "pandas<3", versions={"pandas": "2.3.3", "numpy": "1.0"})
    outcome = extended(monkeypatch, resolved, what)
    assert outcome.path == added_path(str(tmp_path), BASE, ["pandas<3"])
    assert resolved.preferences == {"pandas": "2.3.3", **BASE.packages}, "the base's version of what both have"
    assert "pandas<3" in resolved.asked[0][0]
    lock = outcome.lock
    assert (lock.added, lock.requirements) == (("pandas<3",), BASE.requirements)
    assert lock.inputs_sha256 == added_inputs_sha256(BASE, ["pandas<3"])
    assert parse_lock(render_lock(lock), path="x") == lock
    assert "# added: pandas<3\n" in render_lock(lock)


def test_its_summary_and_difference_are_of_the_environment_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = added(tmp_path, "pandas", versions={**BASE.packages, "numpy": "1.26.3"})
    outcome = extended(monkeypatch, Resolved(pandas="2.3.3"), what)
    assert outcome.summary.endswith(".txt: + pandas==2.3.3, numpy 1.26.3 -> 1.26.4")
    write_lock(outcome.path, outcome.lock)
    assert extended(monkeypatch, Resolved(pandas="2.3.3"), what).state == "unchanged"
    Path(outcome.path).write_text("spoiled")
    assert extended(monkeypatch, Resolved(pandas="2.3.3"), what).state == "created"


def test_another_base_or_line_is_another_lock() -> None:
    other = replace(BASE, distributions=BASE.distributions[:1])
    newer = replace(BASE, inputs_sha256="1" * 64)
    found = [
        added_inputs_sha256(base, lines) for base in (BASE, other, newer) for lines in (["a"], ["a", "b"], ["a<2"])
    ]
    assert len({*found}) == len(found)
    assert added_inputs_sha256(BASE, ["a", "b"]) == added_inputs_sha256(BASE, ["b", "a"])


def test_pins_hold_and_what_does_not_come_by_itself_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = Resolved(pandas="2.3.3", pytz="2026.2")
    outcome = extended(monkeypatch, resolved, added(tmp_path, "pandas==2.3.3", pins=("pytz==2026.2",)))
    assert resolved.asked[0][1] == ["pytz==2026.2"]
    assert outcome.lock.added == ("pandas==2.3.3", "pytz==2026.2")
    assert outcome.lock.inputs_sha256 == added_inputs_sha256(BASE, outcome.lock.added)


def test_the_lines_are_among_those_of_the_file(tmp_path: Path) -> None:
    file = users(tmp_path, "scipy\n")
    made = added_request(request(requirements=file), added(tmp_path, "pandas<3", pins=("pytz==1",)))
    inputs = lock_inputs(made, TABLES)
    where = {line.text: line.where for line in (*inputs.requirements, *inputs.constraints)}
    assert where["scipy"] == f"{tmp_path}/requirements.txt:1"
    assert where["pandas<3"] == where["pytz==1"] == "added to /opt/x"
    assert [wish.project for wish in file.requirements] == ["scipy"], "the file's own are as they were"


# --- Origins -------------------------------------------------------------------------------------------


class Lists(WheelFiles):
    """By URL the list of files of a wheel."""

    lists: Mapping[str, Any] = {}

    def __call__(self, wheels: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        return {name: self.lists[wheel["url"]] for name, wheel in wheels.items() if wheel["url"] in self.lists}


def check(tmp_path: Path, newer: Mapping[str, Sequence[Mapping[str, Any]]], **lists: Any) -> extend.Origins:
    files = Lists(str(tmp_path))
    files.lists = lists
    listing = listing_digest({path: size for path, (size, _) in FILES.items()})
    origins = extend.Origins(added(tmp_path, "mine==0.1", listings={"mine": listing, "gone": listing}), files)
    origins({"mine": [{"url": "a"}], "numpy": [{"url": "n"}]}, {"mine": "0.1"}, lambda names: newer)
    return origins


def test_the_files_of_the_index_are_those_that_were_found(tmp_path: Path) -> None:
    assert check(tmp_path, {}, a={**FILES, "../bin/mine": (9, 9), "mine/x.pyc": (1, 1)}).notes == []


def test_a_wheel_for_a_newer_system_will_do(tmp_path: Path) -> None:
    assert check(tmp_path, {"mine": [{"url": "b"}]}, a={"mine.py": (1, 1)}, b=FILES).notes == []


@pytest.mark.parametrize("other", [{}, {"mine/__init__.py": (4, 7)}, {**FILES, "more.py": (1, 1)}])
def test_a_namesake_is_refused(tmp_path: Path, other: Any) -> None:
    with pytest.raises(UnsatisfiableError, match=r"mine 0\.1 in /opt/x did not come from this .*PACKAGES=mine==0\.1"):
        check(tmp_path, {"mine": [{"url": "b"}]}, a=other, b=other)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert check(tmp_path, {}).notes == ["It is unknown whether mine in /opt/x is that of the package index."]


# --- Messages ------------------------------------------------------------------------------------------


def test_a_refusal_says_what_to_set(tmp_path: Path) -> None:
    by_make = extend.explain_refusal(LockError("No network."), added(tmp_path, "pandas"))
    assert by_make.message == (
        "No network. A lock with pandas was to be made for /opt/x. Nothing was changed; make add REMOVE= takes out "
        "what was added before."
    )
    by_hand = extend.explain_refusal(
        LockError("pandas (added to /opt/x) clashes."), added(tmp_path, "pandas", listings={"pandas": "0"})
    )
    assert by_hand.message.startswith("pandas (added to /opt/x) clashes. Nothing was changed: uninstall")
    assert "tensorflow_additions to drop" in by_hand.message


def test_a_base_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="which the plan is based on, is gone. Run again."):
        extend.read_base(str(tmp_path / "gone.txt"))


def test_an_option_of_another_version_is_refused() -> None:
    with pytest.raises(StackError, match="added is not what tensorflow_stack_info returns"):
        extend.added_from({"lines": [], "pins": [], "more": 1})


def test_a_request_is_not_changed() -> None:
    asked = LockRequest("2.8.0", "3.10", "linux_x86_64", "cpu")
    assert added_request(asked, added(Path("/x"), "pandas")) != asked
    assert asked.requirements is None


def test_what_could_not_be_compared_is_a_warning_of_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base.txt"
    write_lock(str(base), BASE)
    outcome = LockOutcome(str(tmp_path / "x.txt"), BASE, None, ("It is unknown.",), before={})
    monkeypatch.setattr(door, "extend_lock", lambda *arguments: outcome)
    monkeypatch.setattr(door, "load_tables", lambda directory: TABLES)
    lists = {"pythons": ["3.10"], "architectures": ["x86_64"], "flavours": ["cpu"]}
    options = {**lists, "tools_directory": str(tmp_path), "directory": str(tmp_path), "release": "2.8.0", "tables": "t"}
    options.update(dict.fromkeys(("requirements", "cutoff", "index_url")), upgrade=False)
    options["added"] = added(tmp_path, "pandas", base=str(base)).as_dict()
    assert door.answer(options, check_mode=True)["warnings"] == ["It is unknown."]
