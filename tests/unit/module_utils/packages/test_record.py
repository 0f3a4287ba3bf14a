from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.packages.model import (
    ClosurePlan,
    InstalledPackage,
    PackageRequest,
    ResolvedPackage,
    StreamChange,
    Transaction,
    WantedPackage,
)
from ansible.module_utils.tensorflow_stack.packages.record import (
    PackagesRecord,
    asked_of,
    find_drift,
    make_record,
    read_records,
    with_versions,
)
from ansible.module_utils.tensorflow_stack.records.component import record_path

REQUEST = PackageRequest("cudnn", "nvidia_repo", (WantedPackage("libcudnn8", "8.1.*"),), ("libcudnn*", "libcublas*"))
CUDNN = ResolvedPackage("libcudnn8", "8.1.0.77-1+cuda11.2", "amd64")
CUBLAS = ResolvedPackage("libcublas-11-2", "11.4.1.1043-1", "amd64")
RECORD = PackagesRecord(
    "cudnn", "nvidia_repo", "8.1.0.77", asked_of(REQUEST), (CUBLAS, CUDNN), ("libcudnn8",), ("libcublas-11-2",)
)


def installed(package: ResolvedPackage, *, version: str = "", held: bool = True) -> InstalledPackage:
    return InstalledPackage(package.name, version or package.version, "amd64", held=held)


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


def test_record_knows_what_was_newly_installed_and_what_was_held_before() -> None:
    plan = ClosurePlan((CUBLAS, CUDNN), Transaction(install={"libcudnn8": CUDNN.version}))
    state = {"libcublas-11-2": installed(CUBLAS)}
    assert make_record(REQUEST, plan, before=None, state=state, foreign_holds=["libcublas-11-2", "vim"]) == RECORD


def test_packages_of_an_earlier_closure_stay_known() -> None:
    old = replace(RECORD, newly_installed=("libcudnn7", "libcudnn6", "libcudnn5"))
    state = {name: InstalledPackage(name, "7", "amd64", held=True) for name in ("libcudnn7", "libcudnn6")}
    plan = ClosurePlan((CUDNN,), Transaction(install={"libcudnn8": CUDNN.version}, remove={"libcudnn6": "7"}))
    assert make_record(REQUEST, plan, before=old, state=state, foreign_holds=[]).newly_installed == (
        "libcudnn7",
        "libcudnn8",
    )


def test_own_holds_are_never_foreign() -> None:
    state = {package.name: installed(package) for package in RECORD.packages}
    record = make_record(
        REQUEST, ClosurePlan(RECORD.packages, Transaction()), before=RECORD, state=state, foreign_holds=state
    )
    assert record == RECORD


def test_shared_package_that_moves_moves_in_the_other_record() -> None:
    assert with_versions(RECORD, {"libcublas-11-2": "12"}).versions == {**RECORD.versions, "libcublas-11-2": "12"}
    assert with_versions(RECORD, {"libcufft-11-2": "12"}) == RECORD


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


def test_package_of_no_component_is_recorded_and_free_to_move() -> None:
    headers = ResolvedPackage("linux-headers-6.1.0-56-amd64", "6.1.176-1", "amd64")
    record = replace(RECORD, packages=(*RECORD.packages, headers))
    state = {package.name: installed(package) for package in RECORD.packages}
    state[headers.name] = installed(headers, version="6.1.180-1", held=False)
    assert headers.name not in record.held
    assert find_drift(record, state, {}) == []
    del state[headers.name]
    assert [row["problem"] for row in find_drift(record, state, {})] == ["missing"]


WITH_STREAM = replace(REQUEST, stream="nvidia-driver:580-open")


@pytest.mark.parametrize(
    ("earlier", "now", "expected"),
    [
        (None, None, None),
        (None, (None, "580-open"), (None, "580-open")),
        ((None, "535-dkms"), None, (None, "535-dkms")),
        ((None, "535-dkms"), ("535-dkms", "580-open"), (None, "580-open")),
        (("580-open", "535-dkms"), ("535-dkms", "580-open"), None),
    ],
)
def test_record_knows_the_stream_before_the_first_run(
    earlier: tuple[str | None, str] | None,
    now: tuple[str | None, str] | None,
    expected: tuple[str | None, str] | None,
) -> None:
    def change(row: tuple[str | None, str] | None) -> StreamChange | None:
        return StreamChange("nvidia-driver", *row) if row else None

    before = replace(RECORD, stream=change(earlier))
    plan = ClosurePlan(RECORD.packages, Transaction(), change(now))
    record = make_record(WITH_STREAM, plan, before=before, state={}, foreign_holds=[])
    assert record.stream == change(expected)


def test_record_with_a_stream_is_read_back(tmp_path: Path) -> None:
    record = replace(RECORD, asked=asked_of(WITH_STREAM), stream=StreamChange("nvidia-driver", None, "580-open"))
    Path(record_path("cudnn", str(tmp_path))).write_text(record.text())
    assert read_records(str(tmp_path)) == {"cudnn": record}


@pytest.mark.parametrize("enabled", [None, "535-dkms"])
def test_other_stream_is_drift(enabled: str | None) -> None:
    record = replace(RECORD, asked=asked_of(WITH_STREAM))
    state = {package.name: installed(package) for package in RECORD.packages}
    assert find_drift(record, state, {}, "580-open") == []
    assert find_drift(record, state, {}, enabled) == [
        {"name": "nvidia-driver", "problem": "other stream", "recorded": "580-open", "found": enabled}
    ]
