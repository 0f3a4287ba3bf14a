from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import LockError
from ansible.module_utils.tensorflow_stack.locking.blame import Lookup
from ansible.module_utils.tensorflow_stack.locking.clashes import Clash
from ansible.module_utils.tensorflow_stack.locking.compile import ClashError
from ansible.module_utils.tensorflow_stack.locking.conflicts import explain, explain_shortly
from ansible.module_utils.tensorflow_stack.locking.inputs import (
    LockInputs,
    LockRequest,
    UnsatisfiableError,
    lock_inputs,
)
from ansible.module_utils.tensorflow_stack.locking.offers import Lack, Offer, Offers
from ansible.module_utils.tensorflow_stack.requirements.parse import read_requirements
from ansible.module_utils.tensorflow_stack.tables.load import Tables
from ansible.module_utils.tensorflow_stack.tables.rows import Companion, Constraint, Release, TorchRelease
from packaging.requirements import Requirement

PYTHONS = {"x86_64": ("3.9", "3.10")}
RELEASES = [
    Release(version, "tensorflow", {"tensorflow": "gpu"}, PYTHONS, "cpu", "11.2", "8.1", "8", None, ())
    for version in ("2.6.5", "2.7.4", "2.8.0", "2.8.4", "2.9.3", "2.10.1")
]
BREAK = Constraint("<2.9", "protobuf<3.21", "constraint", "TypeError: Descriptors", ())
TABLES = Tables("tables", (*RELEASES,), (BREAK,), (), (), (), (), (), (), ())
# Loaded on demand, from files that these tables do not have.
TABLES.__dict__["companions"] = ()
TABLES.__dict__["torch_releases"] = (TorchRelease("2.8.4", "3.10", "1.12.1", ()),)

DEPENDS = (
    "Because tensorflow==2.8.0 depends on keras>=2.8.0rc0,<2.9 and you require tensorflow==2.8.0, we can conclude that "
    "you require keras>=2.8.0rc0,<2.9. And because you require keras==2.10, we can conclude that your requirements are "
    "unsatisfiable."
)
EXCLUDES = (
    "Because you require protobuf==4.25.3 and protobuf<3.21, we can conclude that your requirements are unsatisfiable."
)
NO_WHEEL = "Because pandas==2.2.0 has no usable wheels and you require pandas==2.2.0, we can conclude that no."
UNKNOWN = "Because nonesuch was not found in the package registry and you require nonesuch, we can conclude that no."


class EverythingFits(Offers):
    """An index that has a wheel of everything for every Python, unless `lacking` has the project."""

    def __init__(self, lacking: Mapping[str, Offer] | None = None) -> None:
        super().__init__(None, "2026-11-22T00:00:00Z")
        self.lacking = lacking or {}

    def read(self, projects: Iterable[str]) -> None:
        pass

    def of(self, requirement: Requirement, python: str, architecture: str, pythons: Sequence[str] = ()) -> Offer:
        return self.lacking.get(str(requirement), Offer(None))


def index_of(resolve: Callable[[LockInputs], dict[str, str]], offers: Offers | None = None) -> Lookup:
    return Lookup(resolve, resolve, offers or EverythingFits())


@pytest.fixture
def conflict(tmp_path: Path) -> Callable[..., UnsatisfiableError]:
    """What is said of a file by an index of the given rules, each a reason and when it is one."""

    def explained(text: str, *rules: tuple[str, Callable[[LockInputs, set[str]], bool]]) -> UnsatisfiableError:
        path = tmp_path / "requirements.txt"
        path.write_text(text)
        request = LockRequest("2.8.0", "3.9", "linux_x86_64", "cpu", read_requirements(str(path)))

        def resolve(inputs: LockInputs) -> dict[str, str]:
            lines = {line.text for line in (*inputs.requirements, *inputs.constraints)}
            for reason, is_one in rules:
                if is_one(inputs, lines):
                    raise UnsatisfiableError("", inputs=inputs, reason=reason)
            return {"keras": "2.8.0", "protobuf": "3.20.3", "pandas": "2.0.3", "jax": "0.5.0rc1"}

        inputs = lock_inputs(request, TABLES)
        with pytest.raises(UnsatisfiableError) as refusal:
            resolve(inputs)
        return explain([refusal.value], TABLES, index_of(resolve))

    return explained


def is_keras(inputs: LockInputs, lines: set[str]) -> bool:
    return "keras==2.10" in lines and not {"tensorflow==2.10.1"} & lines and inputs.request.release != "2.10.1"


def is_protobuf(inputs: LockInputs, lines: set[str]) -> bool:
    return {"protobuf==4.25.3", "protobuf<3.21"} <= lines


def test_metadata_of_a_wheel(conflict: Callable[..., UnsatisfiableError], tmp_path: Path) -> None:
    error = conflict(
        "tensorflow==2.8.0\nkeras==2.10\n", (DEPENDS, lambda i, lines: is_keras(i, lines) and len(lines) > 1)
    )
    assert error.message == (
        "TensorFlow 2.8.0 for CPython 3.9, linux_x86_64, cpu cannot be installed with "
        f"keras==2.10 ({tmp_path}/requirements.txt:2): the metadata of tensorflow==2.8.0 require keras>=2.8.0rc0,<2.9; "
        "keras 2.8.0 would fit. The nearest TensorFlow release that fits the rest of the file is 2.10.1. "
        "Change the line."
    )


def test_known_break(conflict: Callable[..., UnsatisfiableError], tmp_path: Path) -> None:
    error = conflict("tensorflow==2.8.0\nprotobuf==4.25.3\n", (EXCLUDES, is_protobuf))
    assert (
        f"with protobuf==4.25.3 ({tmp_path}/requirements.txt:2): TensorFlow 2.8.0 needs protobuf<3.21 (a known break "
        "without it: TypeError: Descriptors); protobuf 3.20.3 would fit. The nearest TensorFlow release that fits "
        "the rest of the file is 2.9.3."
    ) in error.message
    assert error.details["conflicts"][0]["lines"] == [
        {"text": "protobuf==4.25.3", "where": f"{tmp_path}/requirements.txt:2"}
    ]


def test_every_line_in_conflict_is_named(conflict: Callable[..., UnsatisfiableError], tmp_path: Path) -> None:
    error = conflict(
        "tensorflow==2.8.0\nkeras==2.10\nprotobuf==4.25.3\n",
        (EXCLUDES, is_protobuf),
        (DEPENDS, lambda inputs, lines: is_keras(inputs, lines) and "tensorflow==2.8.0" in lines),
    )
    assert [conflict["lines"][0]["where"][-1] for conflict in error.details["conflicts"]] == ["3", "2"]
    assert error.message.endswith("Change the lines.")


def test_lines_of_one_project_that_exclude_each_other(conflict: Callable[..., UnsatisfiableError]) -> None:
    error = conflict(
        "tensorflow==2.8.0\nkeras==2.8\nkeras==2.10\n",
        ("Because you require keras==2.8 and keras==2.10, we can conclude that no.", lambda i, ls: "keras==2.8" in ls),
    )
    assert "keras==2.8 (" in error.message
    assert "keras==2.10 (" in error.message
    assert (
        "): the lines exclude each other; keras 2.8.0 would fit. No other TensorFlow release helps: the lines have "
        "no solution without TensorFlow either. Change the line."
    ) in error.message


def test_a_line_that_excludes_every_version(conflict: Callable[..., UnsatisfiableError]) -> None:
    reason = "Because you require keras<1 and keras>2, which are incompatible, we can conclude that your requirements."
    error = conflict("tensorflow==2.8.0\nkeras<1,>2\n", (reason, lambda i, lines: "keras<1,>2" in lines))
    assert "keras<1,>2 (" in error.message
    assert "): the line excludes every version; keras 2.8.0 would fit, which <1,>2 excludes." in error.message


def test_a_companion_without_any_version_for_the_release(
    conflict: Callable[..., UnsatisfiableError], monkeypatch: pytest.MonkeyPatch
) -> None:
    none = Companion("<2.9", "keras-cv", "keras-cv<0", "constraint", "RuntimeError: at least 2.9.0", ())
    monkeypatch.setitem(TABLES.__dict__, "companions", (none,))
    reason = (
        "Because you require keras-cv<0, which does not allow any versions, we can conclude that your requirements."
    )
    error = conflict("tensorflow==2.8.0\nkeras-cv\n", (reason, lambda i, lines: {"keras-cv", "keras-cv<0"} <= lines))
    assert (
        "requirements.txt:2): no version of keras-cv works with TensorFlow 2.8.0 (RuntimeError: at least 2.9.0). "
        "The nearest TensorFlow release that fits the rest of the file is 2.9.3. "
    ) in error.message


def test_wheels_for_another_python(conflict: Callable[..., UnsatisfiableError]) -> None:
    error = conflict(
        "tensorflow==2.8.0\npandas==2.2.0\n",
        (NO_WHEEL, lambda inputs, lines: "pandas==2.2.0" in lines and inputs.request.python == "3.9"),
    )
    assert (
        "pandas==2.2.0 has no wheel for CPython 3.9 on linux_x86_64; pandas 2.0.3 would fit. "
        "With tensorflow_python 3.10 the whole file can be installed. Change the line."
    ) in error.message


def test_project_that_does_not_exist(conflict: Callable[..., UnsatisfiableError]) -> None:
    error = conflict("tensorflow==2.8.0\nnonesuch\n", (UNKNOWN, lambda inputs, lines: "nonesuch" in lines))
    assert "nonesuch is not on the package index; no release of nonesuch fits." in error.message


def test_no_release_fits(conflict: Callable[..., UnsatisfiableError]) -> None:
    error = conflict("tensorflow==2.8.0\nkeras==2.10\n", (DEPENDS, lambda i, ls: {"keras==2.10"} < ls))
    assert "No TensorFlow release that was tried fits the rest of the file (2.8.4, 2.9.3, 2.7.4, 2.10.1, 2.6.5)." in (
        error.message
    )


def test_prerelease_is_no_advice(conflict: Callable[..., UnsatisfiableError]) -> None:
    reason = "Because tensorflow==2.8.0 depends on jax>=1 and you require jax==0.3, we can conclude that no."
    error = conflict("tensorflow==2.8.0\njax==0.3\n", (reason, lambda inputs, lines: "jax==0.3" in lines))
    assert "no release of jax fits." in error.message


def test_a_line_that_would_fit_as_it_is_is_not_the_fault(
    conflict: Callable[..., UnsatisfiableError], tmp_path: Path
) -> None:
    """The resolver's reasoning ends with protobuf, and it is keras that has to change."""
    reason = (
        "Because keras==2.10 depends on protobuf>=3.21 and you require keras==2.10, we can conclude that you require "
        "protobuf>=3.21. And because you require protobuf==3.20.3, we can conclude that your requirements are "
        "unsatisfiable."
    )
    error = conflict(
        "tensorflow==2.8.0\nkeras==2.10\nprotobuf==3.20.3\n",
        (reason, lambda inputs, lines: {"keras==2.10", "protobuf==3.20.3"} <= lines),
        (DEPENDS, lambda inputs, lines: "keras==2.10" in lines and "tensorflow==2.8.0" in lines),
    )
    assert f"cannot be installed with keras==2.10 ({tmp_path}/requirements.txt:2): the metadata" in error.message
    assert "protobuf 3.20.3 would fit" not in error.message
    assert [[line["text"] for line in row["lines"]] for row in error.details["conflicts"]] == [["keras==2.10"]]


def test_the_only_line_in_conflict_is_not_told_to_be_what_it_is(conflict: Callable[..., UnsatisfiableError]) -> None:
    reason = "Because tensorflow==2.8.0 depends on pandas<2 and you require pandas==2.0.3, we can conclude that no."
    error = conflict("tensorflow==2.8.0\npandas==2.0.3\n", (reason, lambda inputs, lines: "pandas==2.0.3" in lines))
    assert "require pandas<2. No other" in error.message
    assert "would fit" not in error.message


def test_a_line_for_another_platform_is_not_named(conflict: Callable[..., UnsatisfiableError], tmp_path: Path) -> None:
    reason = (
        "Because there is no version of torch{sys_platform != 'darwin'}==1.9.0+cpu and you require "
        "torch{sys_platform != 'darwin'}==1.9.0+cpu, we can conclude that your requirements are unsatisfiable."
    )
    error = conflict(
        'tensorflow==2.8.0\ntorch==1.9.0+cpu; sys_platform != "darwin"\ntorch==1.9.0; sys_platform == "darwin"\n',
        (reason, lambda inputs, lines: any("1.9.0+cpu" in line for line in lines)),
    )
    line = f'torch==1.9.0+cpu; sys_platform != "darwin" ({tmp_path}/requirements.txt:2)'
    assert f"cannot be installed with {line}: there is no version of torch==1.9.0+cpu; no release" in error.message
    assert "requirements.txt:3" not in error.message


def test_the_steps_of_the_resolvers_reasoning_are_not_shown(conflict: Callable[..., UnsatisfiableError]) -> None:
    reason = (
        "Because pandas{python_full_version < '3.10'}==2.2.0 depends on numpy>=1.22.4 and tensorflow==2.8.0 depends on "
        "numpy<1.20, we can conclude that pandas{python_full_version < '3.10'}==2.2.0 and tensorflow==2.8.0 are "
        "incompatible. (1) Because only tensorflow==2.8.0 is available and we know from (1) that pandas==2.2.0 cannot "
        "be used, we can conclude that pandas==2.2.0 cannot be used. (2) And because we know from (2) that pandas "
        "cannot be used and you require pandas==2.2.0, we can conclude that your requirements are unsatisfiable."
    )
    error = conflict("tensorflow==2.8.0\npandas==2.2.0\n", (reason, lambda inputs, lines: "pandas==2.2.0" in lines))
    assert (
        "the metadata of pandas==2.2.0 require numpy>=1.22.4; the metadata of tensorflow==2.8.0 require numpy<1.20"
        in (error.message)
    )
    assert not any(text in error.message for text in ("conclude", "cannot be used", "(1)", "(2)", "{", "we know"))


def test_what_is_no_line_of_the_file_is_left_as_it_is(tmp_path: Path) -> None:
    request = LockRequest("2.8.0", "3.9", "linux_x86_64", "cpu")
    error = UnsatisfiableError("as it was", inputs=lock_inputs(request, TABLES), reason=EXCLUDES)
    assert explain([error], TABLES, index_of(lambda inputs: {})) is error
    assert explain([UnsatisfiableError("no inputs")], TABLES, index_of(lambda inputs: {})).message == "no inputs"


def test_index_that_goes_away(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("keras==2.10\n")
    request = LockRequest("2.8.0", "3.9", "linux_x86_64", "cpu", read_requirements(f"{tmp_path}/requirements.txt"))
    error = UnsatisfiableError("as it was", inputs=replace(lock_inputs(request, TABLES)), reason=DEPENDS)

    def resolve(inputs: LockInputs) -> dict[str, str]:
        raise LockError("network")

    assert explain([error], TABLES, index_of(resolve)) is error


class Clashing:
    """An index where torch brings `theirs`, which clashes with `ours`, and the release `fitting` of torch does not."""

    def __init__(self, tmp_path: Path, text: str, *, fitting: str | None) -> None:
        path = tmp_path / "requirements.txt"
        path.write_text(text)
        self.path = path
        self.fitting = fitting
        request = LockRequest("2.8.0", "3.9", "linux_x86_64", "cpu", read_requirements(str(path)))
        self.inputs = lock_inputs(request, TABLES)

    def resolve(self, inputs: LockInputs) -> dict[str, str]:
        lines = {line.text for line in (*inputs.requirements, *inputs.constraints)}
        if "theirs<0" not in lines and any(line.project == "torch" for line in inputs.requirements):
            torch = tuple(line for line in inputs.requirements if line.project == "torch")
            clashes = [Clash("ours", "theirs", ("nvidia/nccl/lib/libnccl.so.2",))]
            raise ClashError("they clash.", inputs=inputs, clashes=clashes, origins={"ours": (), "theirs": torch})
        if self.fitting is None or {"torch==2.15", f"torch>{self.fitting}"} & lines:
            raise UnsatisfiableError("", inputs=inputs, reason="Because no")
        return {"torch": self.fitting}

    def explained(self) -> UnsatisfiableError:
        with pytest.raises(ClashError) as refusal:
            self.resolve(self.inputs)
        return explain([refusal.value], TABLES, index_of(self.resolve))


@pytest.mark.parametrize("line", ["torch", "torch==2.15"])
def test_a_version_without_a_clash_is_named(tmp_path: Path, line: str) -> None:
    error = Clashing(tmp_path, f"tensorflow==2.8.0\n{line}\n", fitting="2.10.0").explained()
    assert error.message == (
        "they clash. torch 2.10.0 would fit. A build of torch for the CPU, from an index of your own "
        f"(tensorflow_index_url), needs no CUDA. Change or leave out {line} ({tmp_path}/requirements.txt:2), "
        "or lock the two from files of their own, for environments of their own."
    )
    assert error.details["clashes"] == [
        {"distributions": ["ours", "theirs"], "paths": ["nvidia/nccl/lib/libnccl.so.2"]}
    ]


def test_where_no_version_is_without_a_clash_the_table_names_the_torch_that_fits(tmp_path: Path) -> None:
    error = Clashing(tmp_path, "tensorflow==2.8.0\ntorch\n", fitting=None).explained()
    assert "With CUDA as wheels, torch 1.12.1 fits TensorFlow 2.8.4 on Python 3.10." in error.message
    assert "would fit" not in error.message


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("cv\ncv-headless\n", "Leave out all but one of cv ({path}:1) and cv-headless ({path}:2): the other installs"),
        ("cv\nalbums\n", "Leave out cv ({path}:1): the other installs the same files."),
    ],
)
def test_of_two_builds_of_one_project_one_is_left_out(tmp_path: Path, text: str, remedy: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    inputs = lock_inputs(LockRequest("2.8.0", "3.9", "linux_x86_64", "cpu", read_requirements(str(path))), TABLES)
    lines = {line.project: (line,) for line in inputs.requirements}
    origins = {"cv": lines["cv"], "cv-headless": lines.get("cv-headless") or lines["albums"]}
    clash = Clash("cv", "cv-headless", ("cv2/__init__.py",))
    error = ClashError("they clash.", inputs=inputs, clashes=[clash], origins=origins)
    message = explain([error], TABLES, index_of(lambda inputs: pytest.fail("nothing is to be looked for"))).message
    assert message.startswith(f"they clash. {remedy.format(path=path)}")


def test_python_with_the_fewest_lines_at_fault(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("tensorflow==2.8.0\npandas==1.2.4\nscipy==1.6\nwandb==0.15\n")
    users = read_requirements(str(path))
    requests = [LockRequest("2.8.0", python, "linux_x86_64", "cpu", users) for python in ("3.9", "3.10")]

    class Old(EverythingFits):
        def of(self, requirement: Requirement, python: str, architecture: str, pythons: Sequence[str] = ()) -> Offer:
            lacks = requirement.name in ("pandas", "scipy") and python == "3.10" and str(requirement.specifier)
            if str(requirement) == "pathtools":
                return Offer(Lack.WHEEL, nearest="0.1.2")
            return Offer(Lack.PYTHON, ("3.9",), "1.0") if lacks else Offer(None)

    def resolve(inputs: LockInputs) -> dict[str, str]:
        lines = {line.text for line in inputs.requirements}
        if "wandb==0.15" in lines:
            reason = (
                "Because all versions of pathtools have no usable wheels and wandb==0.15 depends on pathtools, we can "
                "conclude that wandb==0.15 cannot be used. And because you require wandb==0.15, we can conclude that "
                "your requirements are unsatisfiable."
            )
            raise UnsatisfiableError("", inputs=inputs, reason=reason)
        return {"pandas": "2.0.3", "scipy": "1.10", "wandb": "0.26.1"}

    errors = [UnsatisfiableError("", inputs=lock_inputs(request, TABLES), reason="Because no") for request in requests]
    error = explain(errors, TABLES, index_of(resolve, Old()))
    assert error.message == (
        f"TensorFlow 2.8.0 for CPython 3.9, linux_x86_64, cpu cannot be installed with wandb==0.15 ({path}:4): the "
        "metadata of wandb==0.15 require pathtools; pathtools has sources and no wheel; wandb 0.26.1 would fit. Python "
        "3.9 needs the fewest changes: set tensorflow_python to it. Sources are built only if you allow it: set "
        "tensorflow_source_builds to [pathtools]; docs/requirements.md says what that means. Change the line."
    )
    assert [[line["text"] for line in row["lines"]] for row in error.details["conflicts"]] == [["wandb==0.15"]]
    newest = explain(errors[1:], TABLES, index_of(resolve, Old()))
    assert newest.message.split("\n")[0].endswith("cpu cannot be installed with 3 lines:")
    assert (
        f"  pandas==1.2.4 ({path}:2): pandas 1.0 has no wheel for CPython 3.10, only for 3.9; pandas 2.0.3 would fit"
        in (newest.message.split("\n"))
    )


@pytest.mark.parametrize(
    ("lack", "said"),
    [
        (Offer(Lack.PROJECT), "gym is not on the package index"),
        (Offer(Lack.VERSION), "there is no version gym==0.21 on the package index"),
        (
            Offer(Lack.WHEEL, nearest="0.21"),
            "gym 0.21 has sources and no wheel. Sources are built only if",
        ),
        (Offer(Lack.PLATFORM, nearest="0.21"), "gym 0.21 has wheels for other systems and none for linux_x86_64"),
        (Offer(Lack.PYTHON, (), "0.21"), "gym 0.21 has no wheel for CPython 3.9; no release of gym fits"),
    ],
)
def test_what_the_index_lacks(tmp_path: Path, lack: Offer, said: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("tensorflow==2.8.0\ngym==0.21\n")
    request = LockRequest("2.8.0", "3.9", "linux_x86_64", "cpu", read_requirements(str(path)))
    error = UnsatisfiableError("", inputs=lock_inputs(request, TABLES), reason="Because no")
    offers = EverythingFits({"gym==0.21": lack, "gym": lack})
    assert f"gym==0.21 ({path}:2): {said}" in explain([error], TABLES, index_of(lambda inputs: {}, offers)).message


def test_a_local_version_is_a_build_of_another_index(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("tensorflow==2.8.0\ntorch==1.12.1+cu113\n")
    request = LockRequest("2.8.0", "3.9", "linux_x86_64", "cpu", read_requirements(str(path)))
    error = UnsatisfiableError("", inputs=lock_inputs(request, TABLES), reason="Because no")
    offers = EverythingFits({"torch==1.12.1+cu113": Offer(Lack.LOCAL)})

    def resolve(inputs: LockInputs) -> dict[str, str]:
        assert "torch==1.12.1" in {line.text for line in inputs.requirements}
        return {"torch": "1.12.1"}

    assert (
        "+cu113 is a build on another index, such as PyTorch's own; torch==1.12.1 is the same release on this one; "
        "torch 1.12.1 would fit. Change the line."
    ) in explain([error], TABLES, index_of(resolve, offers)).message


def test_a_line_is_not_blamed_for_what_another_one_does(conflict: Callable[..., UnsatisfiableError]) -> None:
    """Freed first, since the reasoning ends with it, and innocent once moviepy is free."""
    reason = (
        "Because moviepy>=2 depends on numpy>=1.25 and you require moviepy>=2, we can conclude that you require "
        "numpy>=1.25. And because you require numpy==1.24.3, we can conclude that your requirements are unsatisfiable."
    )
    other = "Because tensorflow==2.8.0 depends on numpy<1.25 and you require moviepy>=2, we can conclude that no."
    error = conflict(
        "tensorflow==2.8.0\nnumpy==1.24.3\nmoviepy>=2\n",
        (reason, lambda inputs, lines: {"numpy==1.24.3", "moviepy>=2"} <= lines),
        (other, lambda inputs, lines: "moviepy>=2" in lines),
    )
    assert [[line["text"] for line in row["lines"]] for row in error.details["conflicts"]] == [["moviepy>=2"]]


def test_in_short_the_first_line_without_a_wheel(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("tensorflow==2.8.0\nopencv-python==4.1\n")
    request = LockRequest("2.8.0", "3.9", "linux_x86_64", "cpu", read_requirements(str(path)))
    error = UnsatisfiableError("", inputs=lock_inputs(request, TABLES), reason="Because no")
    offers = EverythingFits({"opencv-python==4.1": Offer(Lack.PYTHON, ("3.6", "3.7"), "4.1")})
    assert explain_shortly(error, index_of(lambda inputs: pytest.fail("resolved"), offers)) == (
        f"opencv-python==4.1 ({path}:2): opencv-python 4.1 has no wheel for CPython 3.9, only for 3.6 and 3.7"
    )
