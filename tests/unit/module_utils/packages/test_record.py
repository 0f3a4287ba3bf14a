from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.packages.apt import render_preferences, render_unattended
from ansible.module_utils.tensorflow_stack.packages.closure import (
    Installed,
    Package,
    Plan,
    Request,
    Transaction,
    Wanted,
)
from ansible.module_utils.tensorflow_stack.packages.dnf import (
    _allows,
    _lock,
    _locks,
    _with_block,
    _without_block,
    render_automatic,
)
from ansible.module_utils.tensorflow_stack.packages.record import (
    Record,
    asked_of,
    find_drift,
    make_record,
    moved_along,
    read_records,
)
from ansible.module_utils.tensorflow_stack.records.component import record_path

REQUEST = Request("cudnn", "nvidia_repo", (Wanted("libcudnn8", "8.1.*"),), ("libcudnn*", "libcublas*"))
CUDNN = Package("libcudnn8", "8.1.0.77-1+cuda11.2", "amd64")
CUBLAS = Package("libcublas-11-2", "11.4.1.1043-1", "amd64")
RECORD = Record(
    "cudnn", "nvidia_repo", "8.1.0.77", asked_of(REQUEST), (CUBLAS, CUDNN), ("libcudnn8",), ("libcublas-11-2",)
)


def installed(package: Package, *, version: str = "", held: bool = True) -> Installed:
    return Installed(package.name, version or package.version, "amd64", held=held)


def test_record_is_read_back(tmp_path: Path) -> None:
    Path(record_path("cudnn", str(tmp_path))).write_text(RECORD.text())
    assert read_records(str(tmp_path)) == {"cudnn": RECORD}


def test_record_of_archives_is_of_another_kind(tmp_path: Path) -> None:
    text = json.dumps({"schema": 1, "component": "cuda", "source": "redist", "archives": []})
    Path(record_path("cuda", str(tmp_path))).write_text(text)
    assert read_records(str(tmp_path)) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not a record"),
        ("[]", "is not a record"),
        ('{"schema": 1, "packages": [{"nam": 1}]}', "is not a record"),
        ('{"schema": 2, "packages": []}', "newer version of this toolkit"),
    ],
)
def test_record_that_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    Path(record_path("cuda", str(tmp_path))).write_text(text)
    with pytest.raises(StackError, match=said) as caught:
        read_records(str(tmp_path))
    assert record_path("cuda", str(tmp_path)) in caught.value.message


def test_record_knows_what_was_brought_and_what_was_held_before() -> None:
    plan = Plan((CUBLAS, CUDNN), Transaction(install={"libcudnn8": CUDNN.version}))
    state = {"libcublas-11-2": installed(CUBLAS)}
    assert make_record(REQUEST, plan, before=None, state=state, others=["libcublas-11-2", "vim"]) == RECORD


def test_what_an_earlier_closure_brought_stays_known() -> None:
    old = replace(RECORD, brought=("libcudnn7", "libcudnn6", "libcudnn5"))
    state = {name: Installed(name, "7", "amd64", held=True) for name in ("libcudnn7", "libcudnn6")}
    plan = Plan((CUDNN,), Transaction(install={"libcudnn8": CUDNN.version}, remove={"libcudnn6": "7"}))
    assert make_record(REQUEST, plan, before=old, state=state, others=[]).brought == ("libcudnn7", "libcudnn8")


def test_own_holds_are_never_those_of_others() -> None:
    state = {package.name: installed(package) for package in RECORD.packages}
    record = make_record(REQUEST, Plan(RECORD.packages, Transaction()), before=RECORD, state=state, others=state)
    assert record == RECORD


def test_shared_package_that_moves_moves_in_the_other_record() -> None:
    assert moved_along(RECORD, {"libcublas-11-2": "12"}).versions == {**RECORD.versions, "libcublas-11-2": "12"}
    assert moved_along(RECORD, {"libcufft-11-2": "12"}) == RECORD


def test_drift() -> None:
    state = {package.name: installed(package) for package in RECORD.packages}
    assert find_drift(RECORD, state, {"/etc/pins": ("a", "a")}) == []
    state["libcudnn8"] = installed(CUDNN, version="8.6-1", held=False)
    del state["libcublas-11-2"]
    rows = find_drift(RECORD, state, {"/etc/pins": ("a", "b"), "/etc/other": (None, "b")})
    assert [(row["name"], row["problem"], row["found"]) for row in rows] == [
        ("libcublas-11-2", "missing", None),
        ("libcudnn8", "moved", "8.6-1"),
        ("/etc/other", "missing", None),
        ("/etc/pins", "changed", None),
    ]
    state["libcudnn8"] = installed(CUDNN, held=False)
    assert find_drift(RECORD, state, {})[1]["problem"] == "not held"


def test_what_does_not_belong_is_recorded_and_free_to_move() -> None:
    headers = Package("linux-headers-6.1.0-56-amd64", "6.1.176-1", "amd64")
    record = replace(RECORD, packages=(*RECORD.packages, headers))
    state = {package.name: installed(package) for package in RECORD.packages}
    state[headers.name] = installed(headers, version="6.1.180-1", held=False)
    assert headers.name not in record.held
    assert find_drift(record, state, {}) == []
    del state[headers.name]
    assert [row["problem"] for row in find_drift(record, state, {})] == ["missing"]


def test_pins_name_one_version_and_keep_all_others_out() -> None:
    text = render_preferences(replace(RECORD, packages=(CUDNN,)))
    assert text.split("\n\n", 1)[1] == (
        "Package: libcudnn8\nPin: version 8.1.0.77-1+cuda11.2\nPin-Priority: 1001\n\n"
        "Package: libcudnn8\nPin: version *\nPin-Priority: -1\n"
    )


def test_unattended_upgrades_leaves_exactly_these_of_all_components() -> None:
    packages = (Package("libcuda1:i386", "1", "i386"), Package("libstdc++6.1", "1", "amd64"))
    driver = replace(RECORD, asked={"belongs": ["libcuda1", "libstdc*"]}, packages=packages)
    text = render_unattended([RECORD, driver])
    assert text is not None
    assert [line.strip() for line in text.splitlines() if line.startswith("  ")] == [
        '"^libcublas-11-2$";',
        '"^libcuda1$";',
        '"^libcudnn8$";',
        r'"^libstdc\+\+6\.1$";',
    ]
    assert render_unattended([]) is None


def test_lines_of_versionlock() -> None:
    assert _lock("libcudnn8", "8.1.0.77-1.cuda11.2") == "libcudnn8-0:8.1.0.77-1.cuda11.2.*"
    assert _lock("libcuda:i686", "3:535.309.01-1.el8") == "libcuda-3:535.309.01-1.el8.i686"


@pytest.mark.parametrize(
    ("line", "locks", "allows"),
    [
        ("libcudnn8-0:8.1.0.77-1.cuda11.2.*", True, True),
        ("libcudnn8-8.1.0.77-1.cuda11.2.*", True, True),
        ("libcudnn8-0:8.6.0.163-1.cuda11.8.*", True, False),
        ("libcudnn8-8.1.*", True, True),
        ("libcudnn8", True, True),
        ("!libcudnn8-0:8.1.0.77-1.cuda11.2.*", True, False),
        ("!libcudnn8-0:8.6.0.163-1.cuda11.8.*", True, True),
        ("libcudnn8-dev-0:8.6.0.163-1.cuda11.8.*", False, False),
        ("libcudnn*", True, True),
    ],
)
def test_lock_of_somebody_else(line: str, locks: bool, allows: bool) -> None:
    assert _locks(line, "libcudnn8") is locks
    if locks:
        assert _allows(line, "libcudnn8", "8.1.0.77-1.cuda11.2") is allows


def test_block_stays_where_it_stands() -> None:
    first = _with_block("vim-0:8-1.*", ["a"])
    assert first.startswith("vim-0:8-1.*\n#") and "\na\n" in first
    appended = first + "emacs-0:1-1.*\n"
    second = _with_block(appended, ["b"])
    assert second == appended.replace("\na\n", "\nb\n") and _with_block(second, ["b"]) == second
    assert _without_block(second) == "vim-0:8-1.*\nemacs-0:1-1.*\n" == _with_block(second, [])


def test_exclusion_of_dnf_automatic_keeps_what_others_exclude() -> None:
    theirs = (
        "[commands]\napply_updates = yes\n\n[base]\nexcludepkgs = kernel*, vim\ndebuglevel = 1\n\n[email]\nto = root\n"
    )
    text = render_automatic(theirs, ["libcudnn8"])
    assert "\ndebuglevel = 1\n# tensorflow-gpu-stack begin" in text
    assert "\nexcludepkgs = kernel*, vim, libcudnn8\n" in text and text.endswith("\n\n[email]\nto = root\n")
    assert render_automatic(text, ["libcudnn8"]) == text and render_automatic(text, []) == theirs
    assert render_automatic("[commands]\n", ["a"]).startswith("[commands]\n\n[base]\n# tensorflow-gpu-stack begin")
