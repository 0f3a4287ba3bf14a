from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import LockError, StackError
from ansible.module_utils.tensorflow_stack.io.commands import Completed
from ansible.module_utils.tensorflow_stack.locking.companions import is_companion
from ansible.module_utils.tensorflow_stack.locking.compile import ClashError
from ansible.module_utils.tensorflow_stack.locking.inputs import (
    LockRequest,
    UnsatisfiableError,
    choice_note,
    choose_release,
    lock_inputs,
    lock_requests,
    source_builds_of,
)
from ansible.module_utils.tensorflow_stack.locking.resolver import LockRun, make_locks, resolve_lock
from ansible.module_utils.tensorflow_stack.locking.sources import SourceRecord
from ansible.module_utils.tensorflow_stack.records.lockfile import (
    Distribution,
    Lock,
    LockedConstraint,
    lock_path,
    parse_lock,
    write_lock,
)
from ansible.module_utils.tensorflow_stack.requirements.parse import UserRequirements, read_requirements
from ansible.module_utils.tensorflow_stack.tables.load import Tables
from ansible.module_utils.tensorflow_stack.tables.rows import (
    Companion,
    Constraint,
    CudaWheels,
    Release,
    SourceDistribution,
)

CUTOFF = "2026-11-22T00:00:00Z"


def release(version: str, package: str = "tensorflow", **packages: str) -> Release:
    return Release(
        version=version,
        package=package,
        packages={"tensorflow": "gpu", **{name.replace("_", "-"): kind for name, kind in packages.items()}},
        pythons={"x86_64": ("3.7", "3.10"), "aarch64": ("3.10",)},
        aarch64="cpu",
        cuda="11.2",
        cudnn="8.1",
        cudnn_floor="8.1.0",
        gpu_code=None,
        source=(),
    )


TABLES = Tables(
    directory="tables",
    releases=(
        release("1.15.5", "tensorflow-gpu", tensorflow_gpu="gpu")._replace(
            packages={"tensorflow": "cpu", "tensorflow-gpu": "gpu"},
        ),
        release("2.8.0", tensorflow_gpu="gpu", tensorflow_cpu="cpu"),
        release("2.8.4", tensorflow_gpu="gpu", tensorflow_cpu="cpu"),
        release("2.21.0", tensorflow_cpu="cpu"),
    ),
    constraints=(
        Constraint("<2.8.4", "protobuf<3.21", "constraint", "TypeError: Descriptors", ()),
        Constraint("<2.12", "numpy<2", "constraint", "_ARRAY_API not found", ()),
        Constraint("==2.21.0", "tensorboard", "add", "TBNotInstalledError", ()),
    ),
    source_distributions=(SourceDistribution("==2.8.4", "wrapt; python_version < '3.11'", ()),),
    cuda_wheels=(
        CudaWheels(
            "~=2.8.0",
            "11.7",
            "8.5",
            "x86_64",
            ("nvidia-cudnn-cu11==8.5.0.96",),
            ("nvidia-cudnn-cu11==8.5.0.96",),
            True,
            (),
        ),
    ),
    cuda_drivers=(),
    gpu_chips=(),
    driver_branches=(),
    python_packages=(),
    uvs=(),
)
COMPANIONS = (
    Companion("==2.8.0", "tensorflow-probability", "tensorflow-probability<0.17", "constraint", "ImportError: TFP", ()),
    Companion("==2.8.0", "tensorflow-addons", "tensorflow-addons<0.17", "prefer", "NotFoundError: TFA", ()),
    Companion("==2.21.0", "tensorflow-probability", "tf-keras", "add", "No module named 'tf_keras'", ()),
)


def with_companions(tables: Tables) -> Tables:
    """These are loaded on demand, from a file that the tables of a test do not have."""
    tables.__dict__["companions"] = COMPANIONS
    return tables


with_companions(TABLES)


def request(release: str = "2.8.0", **fields: Any) -> LockRequest:
    return replace(LockRequest(release=release, python="3.10", platform="linux_x86_64", flavour="cpu"), **fields)


def users(directory: Path, content: str) -> UserRequirements:
    path = directory / "requirements.txt"
    path.write_text(content)
    return read_requirements(str(path))


def texts(lines: Any) -> list[str]:
    return [line.text for line in lines]


class Index:
    """Stands for uv: keeps what it was given, leaves a result (of the shape of uv 0.13.9) or an error."""

    def __init__(self, packages: str = "", *, stderr: str = "") -> None:
        self.packages = packages
        self.stderr = stderr
        self.asked: list[dict[str, str]] = []
        self.argv: list[str] = []
        self.configuration = ""

    def __call__(self, argv: list[str], environment: Mapping[str, str]) -> Completed:
        self.argv = argv
        if "--config-file" in argv:
            self.configuration = Path(argv[argv.index("--config-file") + 1]).read_text()
        output = Path(argv[argv.index("--output-file") + 1])
        self.asked.append(
            {
                "requirements": Path(argv[-1]).read_text(),
                "constraints": Path(argv[argv.index("--constraint") + 1]).read_text(),
                "preferences": output.read_text() if output.exists() else "",
            }
        )
        if self.stderr:
            return Completed(1, "", self.stderr)
        output.write_text(f'lock-version = "1.0"\ncreated-by = "uv"\n{self.packages}')
        return Completed(0, "", "")


def package(name: str, version: str, *wheels: tuple[str, int]) -> str:
    """A `[[packages]]` of a pylock.toml; the hash of a wheel is its size, repeated."""
    rows = ", ".join(
        f'{{ url = "https://example.org/{filename}", size = {size}, hashes = {{ sha256 = "{digest}" }} }}'
        for filename, size in wheels
        for digest in [str(size)[0] * 64]
    )
    return f'[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = [{rows}]\n'


RESULT = package("tensorflow", "2.8.0", ("tensorflow-2.8.0-cp310-cp310-manylinux2010_x86_64.whl", 400)) + package(
    "protobuf",
    "3.20.3",
    ("protobuf-3.20.3-cp310-cp310-manylinux_2_12_x86_64.manylinux2010_x86_64.whl", 300),
    ("protobuf-3.20.3-py2.py3-none-any.whl", 100),
    ("protobuf-3.20.3-cp39-cp39-manylinux2010_x86_64.whl", 200),
    ("protobuf-3.20.3-cp310-cp310-macosx_12_0_universal2.whl", 500),
    ("protobuf-3.20.3-cp310-cp310-manylinux_2_34_x86_64.whl", 600),
)


def test_inputs_without_a_user() -> None:
    inputs = lock_inputs(request(), TABLES)
    assert texts(inputs.requirements) == ["tensorflow==2.8.0"]
    assert texts(inputs.constraints) == ["protobuf<3.21", "numpy<2"]


def test_inputs_of_an_added_requirement() -> None:
    inputs = lock_inputs(request("2.21.0"), TABLES)
    assert texts(inputs.requirements) == ["tensorflow==2.21.0", "tensorboard"]
    assert inputs.constraints == ()


def test_inputs_of_the_cuda_flavour() -> None:
    inputs = lock_inputs(request(flavour="cuda"), TABLES)
    assert texts(inputs.requirements) == ["tensorflow==2.8.0", "nvidia-cudnn-cu11==8.5.0.96"]


BESIDE_ANOTHER_CUDA = replace(
    TABLES,
    cuda_wheels=(
        TABLES.cuda_wheels[0]._replace(
            requirements=("nvidia-cublas-cu11==11.11.3.6", "nvidia-cudnn-cu11==8.6.0.163", "nvidia-cufft-cu11==10.9"),
            cudnn_requirements=("nvidia-cublas-cu11==11.11.3.6", "nvidia-cudnn-cu11==8.6.0.163"),
        ),
    ),
)


def test_the_cudnn_flavour_asks_for_cudnn_without_what_it_requires() -> None:
    inputs = lock_inputs(request(flavour="cudnn"), BESIDE_ANOTHER_CUDA)
    assert texts(inputs.requirements) == ["tensorflow==2.8.0", "nvidia-cudnn-cu11==8.6.0.163"]
    assert inputs.without == ("nvidia-cublas-cu11",)


def test_the_cudnn_flavour_has_a_digest_of_its_own() -> None:
    inputs = lock_inputs(request(flavour="cudnn"), BESIDE_ANOTHER_CUDA)
    assert replace(inputs, without=()).sha256 != inputs.sha256


def test_uv_is_told_that_cudnn_requires_nothing() -> None:
    cudnn = package("nvidia-cudnn-cu11", "8.6.0.163", ("nvidia_cudnn_cu11-8.6.0.163-py3-none-manylinux1_x86_64.whl", 7))
    index = Index(RESULT + cudnn)
    inputs = lock_inputs(request(flavour="cudnn"), BESIDE_ANOTHER_CUDA)
    lock = resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=index)
    assert index.configuration == 'dependency-metadata = [{name = "nvidia-cudnn-cu11", requires-dist = []}]\n'
    assert lock.without == ("nvidia-cublas-cu11",)
    assert "# without: nvidia-cublas-cu11 (the node's own is used)\n" in lock.text
    assert parse_lock(lock.text, path="lock.txt") == lock


def test_what_somebody_else_requires_is_not_left_out() -> None:
    cublas = package(
        "nvidia-cublas-cu11", "11.11.3.6", ("nvidia_cublas_cu11-11.11.3.6-py3-none-manylinux1_x86_64.whl", 5)
    )
    inputs = lock_inputs(request(flavour="cudnn"), BESIDE_ANOTHER_CUDA)
    lock = resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=Index(RESULT + cublas))
    assert lock.without == ()
    assert "without" not in lock.text


@pytest.mark.parametrize("flavour", ["cuda", "cudnn"])
def test_a_release_without_cuda_wheels_has_no_flavour_that_needs_them(flavour: str) -> None:
    with pytest.raises(LockError, match=f"no CUDA wheels .* Leave '{flavour}' out of tensorflow_lock_flavours"):
        lock_inputs(request("2.21.0", flavour=flavour), TABLES)


@pytest.mark.parametrize(
    ("flavour", "project"),
    [("cpu", "tensorflow"), ("gpu", "tensorflow-gpu"), ("cuda", "tensorflow-gpu"), ("cudnn", "tensorflow-gpu")],
)
def test_project_where_cpu_and_gpu_builds_differ(flavour: str, project: str) -> None:
    tables = replace(TABLES, cuda_wheels=(TABLES.cuda_wheels[0]._replace(releases="==1.15.5"),))
    inputs = lock_inputs(request("1.15.5", flavour=flavour), tables)
    assert texts(inputs.requirements)[0] == f"{project}==1.15.5"


def test_the_gpu_flavour_is_for_releases_with_a_project_for_the_gpu(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"2\.8\.0 has one project .*Set tensorflow_lock_flavours to cpu, which is the"):
        lock_inputs(request("2.8.0", flavour="gpu"), TABLES)
    own = users(tmp_path, "tensorflow==1.15.5\n")
    with pytest.raises(LockError, match=r"built without CUDA\. Write tensorflow-gpu there, or leave 'gpu' out"):
        lock_inputs(request("1.15.5", flavour="gpu", requirements=own), TABLES)


def test_inputs_of_a_user(tmp_path: Path) -> None:
    wishes = users(tmp_path, "tensorflow-gpu~=2.8.0\nnumpy==1.23.5\n")
    inputs = lock_inputs(request(requirements=wishes), TABLES)
    assert [(line.text, line.where) for line in inputs.requirements] == [
        ("tensorflow-gpu~=2.8.0", f"{wishes.path}:1"),
        ("numpy==1.23.5", f"{wishes.path}:2"),
    ]
    assert texts(inputs.constraints) == ["tensorflow-gpu==2.8.0", "protobuf<3.21", "numpy<2"]


def test_extra_and_cuda_is_what_the_cuda_flavour_is_for(tmp_path: Path) -> None:
    wishes = users(tmp_path, "tensorflow[and-cuda]==2.8.0\n")
    inputs = lock_inputs(request(requirements=wishes), TABLES)
    assert texts(inputs.requirements) == ["tensorflow==2.8.0"]
    assert inputs.notes == (f"{wishes.path}:1: [and-cuda] is ignored, the flavour selects the CUDA wheels.",)


def test_digest_follows_what_goes_in_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    wishes = users(tmp_path, "tensorflow==2.8.0\nnumpy==1.23.5\n")
    moved = users(tmp_path / "moved", "# pins\nnumpy==1.23.5\ntensorflow==2.8.0\nnumpy==1.23.5\n")
    other = users(tmp_path / "moved", "numpy==1.23.4\ntensorflow==2.8.0\n")
    other_limit = with_companions(replace(TABLES, constraints=TABLES.constraints[:1]))
    renamed = (TABLES.constraints[0]._replace(symptom="?"), *TABLES.constraints[1:])
    other_symptom = with_companions(replace(TABLES, constraints=renamed))
    plain = request(requirements=wishes)
    digest = lock_inputs(plain, TABLES).sha256
    assert lock_inputs(request(requirements=moved), TABLES).sha256 == digest
    assert lock_inputs(plain, other_symptom).sha256 == digest
    different = [
        lock_inputs(request(requirements=other), TABLES),
        lock_inputs(plain, other_limit),
        lock_inputs(replace(plain, python="3.7"), TABLES),
        lock_inputs(replace(plain, platform="linux_aarch64"), TABLES),
        lock_inputs(replace(plain, flavour="cuda"), TABLES),
    ]
    assert len({digest, *(inputs.sha256 for inputs in different)}) == 6


def test_bound_of_a_companion_that_the_file_names(tmp_path: Path) -> None:
    inputs = lock_inputs(request(requirements=users(tmp_path, "tensorflow-probability\n")), TABLES)
    assert "tensorflow-probability<0.17" in texts(inputs.constraints)
    assert "tensorflow-probability<0.17" not in texts(inputs.limits)


def test_bound_of_a_companion_that_something_else_may_require_is_no_input(tmp_path: Path) -> None:
    plain = users(tmp_path, "numpy\n")
    inputs = lock_inputs(request(requirements=plain), TABLES)
    assert texts(inputs.limits) == ["tensorflow-probability<0.17", "tensorflow-addons<0.17"]
    assert inputs.sha256 == replace(inputs, limits=()).sha256
    assert lock_inputs(request(), TABLES).limits == ()


@pytest.mark.parametrize(
    ("line", "is_preferred"),
    [
        ("tensorflow-addons", True),
        ("tensorflow-addons==0.16.1", True),
        ("tensorflow-addons>=0.15", True),
        ("tensorflow-addons<0.20", True),
        ("tensorflow-addons==0.17.1", False),
        ("tensorflow-addons>=0.18,<0.20", False),
        ('tensorflow-addons==0.17.1; python_version < "3.8"', True),
    ],
)
def test_a_version_that_the_file_names_overrules_a_preference(tmp_path: Path, line: str, is_preferred: bool) -> None:
    inputs = lock_inputs(request(requirements=users(tmp_path, f"{line}\n")), TABLES)
    assert ("tensorflow-addons<0.17" in texts(inputs.constraints)) is is_preferred
    told = [note for note in inputs.notes if note.endswith("NotFoundError: TFA. tensorflow-addons<0.17 works.")]
    assert len(told) == (not is_preferred)


def test_what_a_companion_needs_to_be_imported_is_added(tmp_path: Path) -> None:
    wishes = users(tmp_path, "tensorflow-probability\n")
    assert "tf-keras" in texts(lock_inputs(request("2.21.0", requirements=wishes), TABLES).requirements)
    others = users(tmp_path, "numpy\n")
    assert "tf-keras" not in texts(lock_inputs(request("2.21.0", requirements=others), TABLES).requirements)


class Metadata:
    """Metadata of tensorflow-addons, in place of those in its wheel."""

    def metadata(self, wheel: Mapping[str, Any]) -> str:
        bound = "<2.8,>=2.5" if "0.15" in wheel["url"] else "<2.9,>=2.6" if "0.16" in wheel["url"] else "<2.16,>=2.13"
        return f'Metadata-Version: 2.1\nRequires-Dist: tensorflow{bound} ; extra == "tensorflow"\n'

    def source(self, name: str, version: str, archive: Mapping[str, Any]) -> SourceRecord:
        return SourceRecord(name, version, ("six",), ("setuptools<82", "wheel"))


class Addons(Index):
    """An index with two releases of tensorflow-addons, of which a limit excludes the newer one."""

    def __call__(self, argv: list[str], environment: Mapping[str, str]) -> Completed:
        limits = Path(argv[argv.index("--constraint") + 1]).read_text()
        version = "0.16.1" if "tensorflow-addons<0.23.0" in limits else "0.23.0"
        wheel = (f"tensorflow_addons-{version}-cp310-cp310-manylinux2010_x86_64.whl", 300)
        self.packages = RESULT + package("tensorflow-addons", version, wheel)
        return super().__call__(argv, environment)


def test_bound_in_an_extra_chooses_another_release_of_a_companion(tmp_path: Path) -> None:
    inputs = lock_inputs(request(requirements=users(tmp_path, "tensorflow-addons\n")), TABLES)
    lock = resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=Addons(), reader=Metadata())
    assert lock.packages["tensorflow-addons"] == "0.16.1"


class Years(Index):
    """An index with ten releases of tensorflow-addons, each for one TensorFlow; asked for it alone by `--no-deps`."""

    def __call__(self, argv: list[str], environment: Mapping[str, str]) -> Completed:
        asked = Path(argv[-1]).read_text() + Path(argv[argv.index("--constraint") + 1]).read_text()
        below = [int(found) for found in re.findall(r"tensorflow-addons<0\.(\d+)\.", asked)]
        version = f"0.{min(below, default=24) - 1}.0"
        wheel = (f"tensorflow_addons-{version}-cp310-cp310-manylinux2010_x86_64.whl", 300)
        self.packages = package("tensorflow-addons", version, wheel)
        self.packages += "" if "--no-deps" in argv else RESULT
        return super().__call__(argv, environment)


class YearsMetadata(Metadata):
    def metadata(self, wheel: Mapping[str, Any]) -> str:
        minor = int(wheel["url"].split("-0.")[1].split(".")[0]) - 8
        return f'Metadata-Version: 2.1\nRequires-Dist: tensorflow<2.{minor + 1},>=2.{minor} ; extra == "tensorflow"\n'


def test_versions_for_newer_releases_are_passed_over_without_the_rest(tmp_path: Path) -> None:
    index = Years()
    inputs = lock_inputs(request(requirements=users(tmp_path, "tensorflow-addons\n")), TABLES)
    inputs = replace(inputs, constraints=())
    lock = resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=index, reader=YearsMetadata())
    assert lock.packages["tensorflow-addons"] == "0.16.0"
    assert sum("tensorflow==2.8.0" in asked["requirements"] for asked in index.asked) == 2


def test_bound_in_an_extra_below_the_release_is_a_conflict(tmp_path: Path) -> None:
    inputs = lock_inputs(request("2.21.0", requirements=users(tmp_path, "tensorflow-addons\n")), TABLES)
    with pytest.raises(UnsatisfiableError) as refusal:
        resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=Addons(), reader=Metadata())
    assert (
        f"tensorflow-addons 0.23.0 ({tmp_path}/requirements.txt:1): its extra 'tensorflow' requires "
        "tensorflow<2.16,>=2.13"
    ) in refusal.value.message
    assert "you require tensorflow-addons, we can conclude" in refusal.value.reason


def test_what_tensorflow_requires_itself_is_no_companion() -> None:
    names = ["tensorflow", "tensorflow-io-gcs-filesystem", "tensorflow-estimator", "numpy", "transformers"]
    assert not any(map(is_companion, names))
    assert all(map(is_companion, ["tensorflow-io", "tensorflow-addons", "tf-keras", "keras-hub", "tf2onnx"]))


def test_what_a_user_lets_be_built_is_asked_for_without_running_it(tmp_path: Path) -> None:
    archive = '{ url = "https://example.org/promise-2.3.tar.gz", size = 5, hashes = { sha256 = "' + "5" * 64 + '" } }'

    class WithPromise(Index):
        def __call__(self, argv: list[str], environment: Mapping[str, str]) -> Completed:
            source = f'[[packages]]\nname = "promise"\nversion = "2.3"\nsdist = {archive}\n'
            self.packages = RESULT + (source if "promise" in Path(argv[-1]).read_text() else "")
            return super().__call__(argv, environment)

    index = WithPromise()
    asked = request(requirements=users(tmp_path, "promise\n"), source_builds=source_builds_of(["Promise"]))
    inputs = lock_inputs(asked, TABLES)
    assert inputs.sha256 != lock_inputs(replace(asked, source_builds=()), TABLES).sha256
    lock = resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=index, reader=Metadata())
    assert lock.from_source == ("promise",)
    # First as if it required nothing, then with what its files say.
    assert '{name = "promise", version = "2.3", requires-dist = ["six"]}' in index.configuration
    built_with = [asked["requirements"] for asked in index.asked if "setuptools" in asked["requirements"]]
    assert built_with == ["setuptools<82\nwheel\n"]


def test_source_builds_are_names() -> None:
    with pytest.raises(LockError, match="has 'promise==2.3', which is not the name of a project. Write names alone"):
        source_builds_of(["promise==2.3"])


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("tensorflow==2.8.0", None),
        ("tensorflow", "tensorflow takes 2.21.0, the newest release that the file allows."),
        (
            "tensorflow~=2.8",
            "tensorflow~=2.8 takes 2.21.0, the newest release that the file allows; for the patches of 2.8 alone write "
            "~=2.8.0.",
        ),
    ],
)
def test_an_open_release_is_said(tmp_path: Path, line: str, note: str | None) -> None:
    notes = choice_note(users(tmp_path, f"{line}\n"), "2.21.0")
    assert notes == ([f"{tmp_path}/requirements.txt:1: {note}"] if note else [])


def test_a_project_that_ended_names_its_successor(tmp_path: Path) -> None:
    with pytest.raises(LockError) as refusal:
        choose_release(TABLES, users(tmp_path, "tensorflow-gpu>=2.21\n"), [])
    assert refusal.value.message.endswith(
        "asks for tensorflow-gpu>=2.21. tensorflow-gpu ends with 2.8.4; from then on the project is tensorflow. "
        "Write tensorflow==2.21.0."
    )


@pytest.mark.parametrize(
    ("fields", "content", "message"),
    [
        (
            {"release": "2.8.9"},
            "",
            "know no TensorFlow release 2.8.9. Set tensorflow_version to one of 1.15.5 to",
        ),
        (
            {"python": "3.11"},
            "",
            "no wheel for CPython 3.11 on x86_64; it has for 3.7, 3.10. Set tensorflow_lock_p",
        ),
        (
            {"release": "2.21.0", "flavour": "cuda"},
            "",
            "no CUDA wheels for TensorFlow 2.21.0 on x86_64. Leave",
        ),
        (
            {"platform": "linux_aarch64", "flavour": "cuda"},
            "",
            "no CUDA wheels for TensorFlow 2.8.0 on aarch64. Leave 'cuda' out of tensorflow_lock_flavours",
        ),
        (
            {},
            "tensorflow==2.8.4",
            "requirements.txt:1 asks for tensorflow==2.8.4, but the requested release is 2.8.0.",
        ),
        (
            {"flavour": "cuda"},
            "tensorflow-cpu==2.8.0",
            "asks for tensorflow-cpu, whose release 2.8.0 is built without CUDA. Write tensorflow there",
        ),
        (
            {"release": "2.21.0"},
            "tensorflow-gpu",
            "asks for tensorflow-gpu, which has no release 2.21.0. Write tensorflow there.",
        ),
    ],
)
def test_input_refusals(tmp_path: Path, fields: dict[str, Any], content: str, message: str) -> None:
    wishes = users(tmp_path, content) if content else None
    with pytest.raises(LockError) as refusal:
        lock_inputs(replace(request(), requirements=wishes, **fields), TABLES)
    assert message in refusal.value.message


@pytest.mark.parametrize(
    ("content", "pythons", "expected"),
    [
        ("tensorflow~=2.8.0", [], "2.8.4"),
        ("tensorflow-gpu", [], "2.8.4"),
        ("tensorflow", ["3.10"], "2.21.0"),
        ("tensorflow<2.8.4", ["3.7"], "2.8.0"),
        (
            "tensorflow==2.8.0; python_version < '3.8'\ntensorflow==2.8.4; python_version >= '3.8'",
            [],
            "2.8.4",
        ),
        (
            "tensorflow==2.8.0; python_version < '3.8'\ntensorflow==2.8.4; python_version >= '3.8'",
            ["3.7"],
            "2.8.0",
        ),
    ],
)
def test_choose_release(tmp_path: Path, content: str, pythons: list[str], expected: str) -> None:
    assert choose_release(TABLES, users(tmp_path, content), pythons) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("numpy", "names no TensorFlow, and no release was set. Set tensorflow_version"),
        ("tensorflow==2.8.9", "requirements.txt:1) is not a known release; the nearest are 2.8.0, 2.8.4."),
        ("tensorflow~=2.8.9", "requirements.txt:1 asks for tensorflow~=2.8.9, but no matching release"),
    ],
)
def test_choose_release_refusals(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(StackError) as refusal:
        choose_release(TABLES, users(tmp_path, content), [])
    assert message in refusal.value.message


def test_resolve() -> None:
    inputs = lock_inputs(request(), TABLES)
    index = Index(RESULT)
    lock = resolve_lock(inputs, uv=lambda: "/tools/uv", cutoff=CUTOFF, runner=index)
    assert lock == Lock(
        release="2.8.0",
        python="3.10",
        platform="linux_x86_64",
        flavour="cpu",
        requirements=("tensorflow==2.8.0",),
        # numpy is not in the closure, so its limit has no effect here.
        constraints=(LockedConstraint("protobuf<3.21", "TypeError: Descriptors"),),
        inputs_sha256=inputs.sha256,
        cutoff=CUTOFF,
        distributions=(
            Distribution("protobuf", "3.20.3", ("1" * 64, "3" * 64), 300),
            Distribution("tensorflow", "2.8.0", ("4" * 64,), 400),
        ),
    )
    assert parse_lock(lock.text, path="lock.txt") == lock
    assert index.asked == [
        {"requirements": "tensorflow==2.8.0\n", "constraints": "protobuf<3.21\nnumpy<2\n", "preferences": ""}
    ]
    options = dict(zip(index.argv, index.argv[1:], strict=False))
    assert index.argv[:3] == ["/tools/uv", "pip", "compile"]
    assert options["--python-version"] == "3.10.4"
    assert options["--python-platform"] == "x86_64-manylinux_2_28"
    assert options["--exclude-newer"] == CUTOFF
    assert options["--only-binary"] == ":all:"


def test_a_project_without_a_wheel_is_locked_with_what_it_is_built_with() -> None:
    source = (
        '[[packages]]\nname = "wrapt"\nversion = "1.12.1"\n'
        'sdist = { url = "https://example.org/wrapt-1.12.1.tar.gz", size = 27, hashes = { sha256 = "'
        + "2" * 64
        + '" } }\n'
    )
    tool = package("setuptools", "59.6.0", ("setuptools-59.6.0-py3-none-any.whl", 9))
    tensorflow = package("tensorflow", "2.8.4", ("tensorflow-2.8.4-cp310-cp310-manylinux2010_x86_64.whl", 400))
    answers = [Index(tensorflow + source), Index(tool)]
    index = iter(answers)
    inputs = lock_inputs(request("2.8.4"), TABLES)
    lock = resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=lambda *asked: next(index)(*asked))
    assert answers[0].argv[answers[0].argv.index("--no-binary") + 1] == "wrapt"
    assert answers[1].asked[0]["requirements"] == "setuptools\nwheel\n"
    assert "--no-binary" not in answers[1].argv
    assert lock.from_source == ("wrapt",)
    assert lock.distributions[1] == Distribution("wrapt", "1.12.1", ("2" * 64,), 27, from_source=True)
    assert lock.build_constraints == f"setuptools==59.6.0 --hash=sha256:{'9' * 64} # 9 bytes\n"


def test_what_is_built_from_source_is_an_input() -> None:
    inputs = lock_inputs(request("2.8.4"), TABLES)
    assert inputs.from_source == ("wrapt",)
    assert replace(inputs, from_source=()).sha256 != inputs.sha256


def test_kept_without_the_index_while_the_same_goes_in() -> None:
    inputs = lock_inputs(request(), TABLES)
    lock = resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=Index(RESULT))
    index = Index(RESULT)
    later = "2027-01-01T00:00:00Z"
    assert resolve_lock(inputs, uv=lambda: "uv", cutoff=later, previous=lock, runner=index) is lock
    assert index.asked == []
    assert resolve_lock(inputs, uv=lambda: "uv", cutoff=later, previous=lock, upgrade=True, runner=index) == lock
    assert [asked["preferences"] for asked in index.asked] == [""]


def test_upgrade_takes_what_is_new() -> None:
    inputs = lock_inputs(request(), TABLES)
    lock = resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=Index(RESULT))
    later = "2027-01-01T00:00:00Z"
    newer = Index(RESULT.replace("3.20.3", "3.20.4"))
    upgraded = resolve_lock(inputs, uv=lambda: "uv", cutoff=later, previous=lock, upgrade=True, runner=newer)
    assert upgraded.packages == {"protobuf": "3.20.4", "tensorflow": "2.8.0"}
    assert upgraded.cutoff == later


def test_what_still_fits_stays_when_something_else_goes_in() -> None:
    lock = resolve_lock(lock_inputs(request(), TABLES), uv=lambda: "uv", cutoff=CUTOFF, runner=Index(RESULT))
    index = Index(RESULT)
    changed = lock_inputs(request(), replace(TABLES, constraints=TABLES.constraints[:1]))
    assert resolve_lock(changed, uv=lambda: "uv", cutoff=CUTOFF, previous=lock, runner=index).packages == lock.packages
    assert 'name = "protobuf"\nversion = "3.20.3"' in index.asked[0]["preferences"]


def test_conflict_names_the_lines_and_the_symptom(tmp_path: Path) -> None:
    wishes = users(tmp_path, "tensorflow==2.8.0\nsix\nprotobuf>=4\n")
    stderr = (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because you require protobuf>=4 and protobuf<3.21, we can conclude that your\n"
        "         requirements are unsatisfiable.\n\nhint: something else about six\n"
    )
    with pytest.raises(LockError) as refusal:
        resolve_lock(
            lock_inputs(request(requirements=wishes), TABLES),
            uv=lambda: "uv",
            cutoff=CUTOFF,
            runner=Index(stderr=stderr),
        )
    assert refusal.value.message == (
        "TensorFlow 2.8.0 for CPython 3.10, linux_x86_64, cpu cannot be installed with "
        f"protobuf>=4 ({wishes.path}:3) and protobuf<3.21 (TensorFlow 2.8.0 needs it: TypeError: Descriptors): "
        f"you require protobuf>=4 and protobuf<3.21. Change one of these lines of {wishes.path}."
    )
    assert refusal.value.details["stderr"] == stderr


def test_a_list_does_not_end_the_reasoning(tmp_path: Path) -> None:
    """uv 0.13.9 on transformers 4.20 and tokenizers 0.15; markers and numbers of steps added."""
    wishes = users(tmp_path, "tensorflow==2.8.0\ntransformers[torch]==4.20\ntokenizers==0.15\n")
    stderr = (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because transformers{python_version < '3.12'}==4.20.0 depends on one of:\n"
        "             tokenizers>=0.11.1,<0.11.3\n             tokenizers>0.11.3,<0.13\n"
        "         and you require transformers[torch]==4.20, we can conclude that you require one of:\n"
        "             tokenizers>=0.11.1,<0.11.3\n             tokenizers>0.11.3,<0.13 (1)\n\n"
        "         And because you require tokenizers==0.15, we can conclude that your requirements are unsatisfiable.\n"
        "\n    hint: something else\n"
    )
    inputs = lock_inputs(request(requirements=wishes), TABLES)
    with pytest.raises(UnsatisfiableError) as refusal:
        resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=Index(stderr=stderr))
    assert refusal.value.reason.endswith(
        "you require tokenizers==0.15, we can conclude that your requirements are unsatisfiable."
    )
    assert (
        f"and tokenizers==0.15 ({wishes.path}:3): transformers==4.20.0 depends on one of: tokenizers>=0.11.1,<0.11.3 "
        "tokenizers>0.11.3,<0.13. Change one of these lines"
    ) in refusal.value.message


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param("numpy==1.22.4 has no usable wheels and you require numpy==1.22.4", id="no wheel"),
        pytest.param(
            "the requested Python version (3.7) does not satisfy Python>=3.8 and x==1 needs it", id="metadata"
        ),
    ],
)
def test_what_another_python_may_have_says_so(tmp_path: Path, reason: str) -> None:
    wishes = users(tmp_path, "tensorflow==2.8.0\nnumpy==1.22.4\n")
    with pytest.raises(UnsatisfiableError) as refusal:
        resolve_lock(
            lock_inputs(request(python="3.7", requirements=wishes), TABLES),
            uv=lambda: "uv",
            cutoff=CUTOFF,
            runner=Index(stderr=f"  cause: Because {reason}, we can conclude that\n"),
        )
    assert refusal.value.message.endswith(
        f"Change one of these lines of {wishes.path}, or set tensorflow_python to another one (3.10)."
    )


def test_the_only_python_has_no_other() -> None:
    arguments: dict[str, Any] = {"uv": lambda: "uv", "cutoff": CUTOFF}
    inputs = lock_inputs(request(platform="linux_aarch64"), TABLES)
    with pytest.raises(UnsatisfiableError, match=r"move the cutoff\.$"):
        resolve_lock(inputs, runner=Index(stderr="Because x has no usable wheels."), **arguments)


@pytest.mark.parametrize("version", ["newest", "current"])
def test_a_lock_is_for_one_release(version: str) -> None:
    with pytest.raises(LockError) as refusal:
        targets(release=version)
    assert refusal.value.message == (
        f"tensorflow_version is {version}, which is another release on each node, and a lock is for one. "
        "Set tensorflow_version to one of 1.15.5 to 2.21.0, or leave it out if tensorflow_requirements names the "
        "release."
    )
    assert refusal.value.details == {}


def test_network_failure() -> None:
    stderr = (
        "error: Request failed after 3 retries in 4.6s\n  cause: Failed to fetch: http://127.0.0.1:9/simple/x/\n"
        "  cause: Connection refused (os error 111)\n"
    )
    with pytest.raises(LockError) as refusal:
        resolve_lock(lock_inputs(request(), TABLES), uv=lambda: "uv", cutoff=CUTOFF, runner=Index(stderr=stderr))
    assert refusal.value.message == (
        "TensorFlow 2.8.0 for CPython 3.10, linux_x86_64, cpu could not be resolved: "
        "Request failed after 3 retries in 4.6s; Connection refused (os error 111). "
        "Check the network, and tensorflow_index_url if you set it."
    )


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        # uv 0.13.9, of one requirement and one limit, and of one requirement alone.
        (
            "you require six<0, which does not allow any versions",
            "you require six<0, which does not allow any versions",
        ),
        ("you require six<1 and six>2, which are incompatible", "you require six<1 and six>2, which are incompatible"),
        ("there are no versions of six", "there are no versions of six"),
    ],
)
def test_a_conflict_of_one_fact_is_not_the_networks(tmp_path: Path, cause: str, told: str) -> None:
    wishes = users(tmp_path, "tensorflow==2.8.0\nsix<1,>2\n")
    stderr = f"error: No solution found when resolving dependencies\n  cause: {cause}\n"
    with pytest.raises(UnsatisfiableError) as refusal:
        resolve_lock(
            lock_inputs(request(requirements=wishes), TABLES),
            uv=lambda: "uv",
            cutoff=CUTOFF,
            runner=Index(stderr=stderr),
        )
    assert f"cannot be installed with six<1,>2 ({wishes.path}:2): {told}. Change one" in refusal.value.message
    assert refusal.value.reason == f"Because {cause}, we can conclude that your requirements are unsatisfiable."


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        ("error: Failed to create `/c/uv`\n  cause: No space left on device (os error 28)\n", "device (os error 28)."),
        ("error: Couldn't parse metadata of six-1.whl\n  cause: invalid specifier\n", "six-1.whl; invalid specifier."),
    ],
)
def test_what_is_not_the_networks_fault_is_told_alone(stderr: str, told: str) -> None:
    with pytest.raises(LockError) as refusal:
        resolve_lock(lock_inputs(request(), TABLES), uv=lambda: "uv", cutoff=CUTOFF, runner=Index(stderr=stderr))
    assert refusal.value.message.endswith(told)


def test_index_without_sha256_is_refused() -> None:
    index = Index(RESULT.replace("sha256", "md5"))
    with pytest.raises(LockError, match=r"gives no sha256 for https://example\.org/"):
        resolve_lock(lock_inputs(request(), TABLES), uv=lambda: "uv", cutoff=CUTOFF, runner=index)


def targets(requirements: UserRequirements | None = None, **fields: Any) -> list[tuple[str, str, str]]:
    named: dict[str, Any] = {"release": "2.8.0", "pythons": [], "architectures": ["x86_64"], "flavours": [], **fields}
    requests = lock_requests(TABLES, requirements=requirements, **named)
    return [(request.python, request.platform, request.flavour) for request in requests]


def test_requests_for_all_that_a_release_has(tmp_path: Path) -> None:
    x86_64 = [(python, "linux_x86_64", flavour) for python in ("3.7", "3.10") for flavour in ("cpu", "cuda")]
    assert targets() == x86_64
    assert targets(architectures=["x86_64", "aarch64"]) == [*x86_64, ("3.10", "linux_aarch64", "cpu")]
    assert targets(release="1.15.5", pythons=["3.7"]) == [
        ("3.7", "linux_x86_64", "cpu"),
        ("3.7", "linux_x86_64", "gpu"),
    ]
    assert targets(release="2.21.0", pythons=["3.10"]) == [("3.10", "linux_x86_64", "cpu")]
    cpu_only = users(tmp_path, "tensorflow-cpu==2.8.0\n")
    assert targets(cpu_only, pythons=["3.10"]) == [("3.10", "linux_x86_64", "cpu")]
    assert targets(pythons=["3.7"], flavours=["cuda"]) == [("3.7", "linux_x86_64", "cuda")]


def test_requests_for_an_architecture_without_wheels() -> None:
    bare = replace(TABLES, releases=(release("2.8.0")._replace(pythons={"x86_64": ("3.6",), "aarch64": ()}),))
    with pytest.raises(LockError, match="2.8.0 has no wheel on aarch64. Set tensorflow_lock_architectures"):
        lock_requests(bare, release="2.8.0", requirements=None, pythons=[], architectures=["aarch64"], flavours=[])


def make(directory: Path, index: Index, **options: Any) -> LockRun:
    requests = [request(python="3.7"), request()]
    arguments: dict[str, Any] = {"uv": lambda: "uv", "cutoff": CUTOFF, "runner": index, **options}
    return make_locks(requests, TABLES, directory=str(directory), **arguments)


ANY_PYTHON = package("tensorflow", "2.8.0", ("tensorflow-2.8.0-py3-none-manylinux2010_x86_64.whl", 400))


def test_states_and_changes(tmp_path: Path) -> None:
    made = make(tmp_path, Index(ANY_PYTHON + package("six", "1.0", ("six-1.0-py3-none-any.whl", 1))))
    assert [outcome.state for outcome in made.outcomes] == ["created", "created"]
    assert made.outcomes[0].changes["added"] == ["six==1.0", "tensorflow==2.8.0"]
    assert not list(tmp_path.iterdir())
    write_lock(made.outcomes[0].path, made.outcomes[0].lock)
    newer = package("tensorflow", "2.8.1", ("tensorflow-2.8.1-py3-none-any.whl", 1))
    again = make(tmp_path, Index(newer), upgrade=True)
    assert [outcome.state for outcome in again.outcomes] == ["updated", "created"]
    assert again.outcomes[0].changes == {
        "added": [],
        "removed": ["six==1.0"],
        "changed_versions": ["tensorflow 2.8.0 -> 2.8.1"],
    }
    path = made.outcomes[0].path
    assert again.outcomes[0].summary == f"updated  {path}: - six==1.0, tensorflow 2.8.0 -> 2.8.1"
    assert made.outcomes[0].summary == f"created  {path}"
    assert make(tmp_path, Index(newer)).outcomes[0].state == "unchanged"


def test_damaged_lock_is_replaced_by_an_upgrade_only(tmp_path: Path) -> None:
    path = Path(lock_path(str(tmp_path), release="2.8.0", python="3.7", platform="linux_x86_64", flavour="cpu"))
    path.parent.mkdir()
    path.write_text("six\n")
    with pytest.raises(LockError, match="this is not a lock"):
        make(tmp_path, Index(ANY_PYTHON))
    assert make(tmp_path, Index(ANY_PYTHON), upgrade=True).outcomes[0].state == "created"


def test_targets_that_cannot_be_had(tmp_path: Path) -> None:
    class Only310(Index):
        def __call__(self, argv: list[str], environment: Mapping[str, str]) -> Completed:
            if "3.7.3" in argv:
                return Completed(1, "", "cause: Because x has no usable wheels and you require x.\n")
            return super().__call__(argv, environment)

    with pytest.raises(UnsatisfiableError, match="x has no usable wheels"):
        make(tmp_path, Only310(ANY_PYTHON))
    run = make(tmp_path, Only310(ANY_PYTHON), skip_unsatisfiable=True)
    assert [outcome.lock.python for outcome in run.outcomes] == ["3.10"]
    assert [skipped.python for skipped, _ in run.skipped] == ["3.7"]
    none = make(tmp_path, Index(stderr="Because x has no usable wheels."), skip_unsatisfiable=True)
    assert none.outcomes == ()
    assert [skipped.python for skipped, _ in none.skipped] == ["3.7", "3.10"]


NCCL = package(
    "nvidia-nccl-cu12", "2.32.3", ("nvidia_nccl_cu12-2.32.3-py3-none-manylinux_2_18_x86_64.whl", 7)
) + package("nvidia-nccl-cu13", "2.30.7", ("nvidia_nccl_cu13-2.30.7-py3-none-manylinux_2_18_x86_64.whl", 8))
ANNOTATED = """\
nvidia-nccl-cu12==2.32.3  # via tensorflow
nvidia-nccl-cu13==2.30.7  # via torch
tensorflow==2.8.0         # via -r requirements.in
torch==2.15.0             # via -r requirements.in
"""


class Wheels:
    """Stands for lists of files; those that are not named have none in common."""

    def __init__(self, **files: dict[str, tuple[int, int]]) -> None:
        self.files = {name.replace("_", "-"): listed for name, listed in files.items()}
        self.asked: list[str] = []

    def __call__(self, wheels: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, tuple[int, int]]]:
        self.asked += [wheel["url"].rpartition("/")[2] for wheel in wheels.values()]
        return {name: self.files.get(name, {f"{name}.py": (1, 1)}) for name in wheels}


class AnnotatingIndex(Index):
    """Answers the second question as well: what requires what."""

    def __call__(self, argv: list[str], environment: Mapping[str, str]) -> Completed:
        if "--annotation-style" in argv:
            return Completed(0, ANNOTATED, "")
        return super().__call__(argv, environment)


def test_distributions_that_install_one_path_are_refused(tmp_path: Path) -> None:
    library = "nvidia/nccl/lib/libnccl.so.2"
    wheels = Wheels(nvidia_nccl_cu12={library: (8, 1)}, nvidia_nccl_cu13={library: (9, 2)})
    wishes = users(tmp_path, "tensorflow==2.8.0\ntorch\n")
    inputs = lock_inputs(request(requirements=wishes), TABLES)
    with pytest.raises(ClashError) as refusal:
        resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=AnnotatingIndex(RESULT + NCCL), list_files=wheels)
    assert refusal.value.message == (
        "TensorFlow 2.8.0 for CPython 3.10, linux_x86_64, cpu cannot be installed with nvidia-nccl-cu12 2.32.3 "
        f"(required by tensorflow==2.8.0, {wishes.path}:1) and nvidia-nccl-cu13 2.30.7 (required by torch, "
        f"{wishes.path}:2): both install {library}, with different contents."
    )


def test_lists_of_the_wheels_that_are_installed_are_read() -> None:
    wheels = Wheels()
    inputs = lock_inputs(request(), TABLES)
    index = Index(RESULT)
    lock = resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=index, list_files=wheels)
    assert wheels.asked == [
        "tensorflow-2.8.0-cp310-cp310-manylinux2010_x86_64.whl",
        "protobuf-3.20.3-cp310-cp310-manylinux_2_12_x86_64.manylinux2010_x86_64.whl",
    ]
    resolve_lock(inputs, uv=lambda: "uv", cutoff=CUTOFF, runner=index, list_files=wheels, previous=lock)
    assert len(wheels.asked) == 2


def test_one_path_with_the_same_contents_is_locked() -> None:
    same = {"google/__init__.py": (52, 7)}
    inputs = lock_inputs(request(), TABLES)
    lock = resolve_lock(
        inputs,
        uv=lambda: "uv",
        cutoff=CUTOFF,
        runner=Index(RESULT),
        list_files=Wheels(protobuf=same, tensorflow=same),
    )
    assert len(lock.distributions) == 2
