"""The table of diagnoses on what TensorFlow, the driver, package managers and Python really print.

`tests/data/captures/<cause>/` holds texts whose first cause is that one, `healthy/` those of runs without a fault.
The first line of each says what printed it and what provoked it.
"""

from __future__ import annotations

import collections
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.tensorflow_stack.check.diagnose import FACTS, Cause, diagnose, read_facts
from ansible.module_utils.tensorflow_stack.check.log_judge import judge_log
from ansible.module_utils.tensorflow_stack.check.log_text import read_log
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

from tests import nodes

TESTS = Path(__file__).resolve().parents[3]
CAPTURES = sorted((TESTS / "data" / "captures").glob("*/*.txt"))
TABLES = load_tables(str(TESTS.parent / "roles/tensorflow_release/files/tables"))
DIAGNOSES = TABLES.diagnoses
ROWS = [row._asdict() for row in DIAGNOSES]
LINE_ROWS = [row._asdict() for row in TABLES.log_lines]

GPU = {"index": 0, "pci_address": "0000:01:00.0", "device_id": "20b0", "pci_class": "0302", "bound_to": "nvidia"}
GPU |= {"uuid": None, "listed": True, "excluded": False, "device_file": "/dev/nvidia0", "mig_instances": 0}
PODMAN = [{"aspect": "container", "kind": "podman", "by": "/run/.containerenv"}]
HEALTHY_NODE: dict[str, Any] = {
    "gpus": [GPU],
    "secure_boot": False,
    "kernel": {"release": "6.1.0-28-amd64", "headers": "/usr/src/linux-headers-6.1.0-28-amd64"},
    "kinds": [],
    "driver": {"libcuda": "/usr/lib/libcuda.so.550.163.01", "installed": "550.163.01", "loaded": "550.163.01"},
}
HEALTHY_REPORT: dict[str, Any] = {
    "build_info": {"is_cuda_build": True},
    "variables": {},
    "libraries": [],
    "libraries_mapped": [{"name": "libcudnn.so.8", "path": "/e/site-packages/nvidia/cudnn/lib/libcudnn.so.8"}],
}
OLD_CUDNN = {
    "name": "libcudnn.so.8",
    "path": "/usr/local/cuda/lib64/libcudnn.so.8",
    "rule": "LD_LIBRARY_PATH",
    "others": [{"path": "/e/tensorflow/libcudnn.so.8", "rule": "RUNPATH"}],
}


def said_in(capture: Path) -> str:
    return capture.read_text(encoding="utf-8").partition("\n")[2]


def causes_of(found: list[Cause]) -> list[str]:
    return [cause.cause for cause in found]


def node(**changes: Any) -> dict[str, Any]:
    driver = {**HEALTHY_NODE["driver"], **changes.pop("driver", {})}
    return {**HEALTHY_NODE, "driver": driver, **changes}


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_first_cause_of_a_capture(capture: Path) -> None:
    found = diagnose(ROWS, text=said_in(capture))
    wanted = capture.parent.name
    assert causes_of(found)[:1] == ([] if wanted == "healthy" else [wanted])
    for cause in found:
        assert cause.evidence
        assert "what is not known" not in cause.says + cause.do
        assert not re.search(r"[{}]", cause.says + cause.do)


def first_causes_of_logs() -> dict[str, str]:
    """The first cause of each log that users posted, with the place."""
    rows = yaml.safe_load((TESTS / "data/logs/expected.yml").read_text(encoding="utf-8"))
    return {row["from"]: row["causes"][0] for row in rows if "causes" in row}


def test_every_line_of_the_table_has_a_capture_and_every_capture_a_row() -> None:
    """A row that is told by text is proven on text; the others are proven on facts below."""
    by_line = {row.cause for row in DIAGNOSES if any("line" in evidence for evidence in row.evidence)}
    captured = {path.parent.name for path in CAPTURES} - {"healthy"}
    assert by_line == captured | set(first_causes_of_logs().values())


def test_a_public_report_of_a_row_is_one_of_its_texts() -> None:
    posted = collections.defaultdict(str)
    for capture in CAPTURES:
        posted[capture.parent.name] += capture.read_text(encoding="utf-8").partition("\n")[0]
    for place, cause in first_causes_of_logs().items():
        kinds = ("issues", "pull")
        posted[cause] += " ".join([place, *(f"https://github.com/{place.replace('#', f'/{kind}/')}" for kind in kinds)])
    wrong = [row.cause for row in DIAGNOSES if row.report and row.report["url"] not in posted[row.cause]]
    assert wrong == []
    assert sum(row.report is not None for row in DIAGNOSES) >= 60


def test_every_capture_says_where_it_is_from() -> None:
    for capture in CAPTURES:
        text = capture.read_text(encoding="utf-8")
        assert text.startswith("# ") and len(text.splitlines()) >= 2, capture
        assert capture.stat().st_size < 8000, capture


FACT_CASES: list[tuple[str, dict[str, Any]]] = [
    ("nouveau_bound", {"node": node(gpus=[{**GPU, "bound_to": "nouveau"}], driver={"loaded": None})}),
    ("secure_boot", {"node": node(secure_boot=True, driver={"loaded": None})}),
    ("kernel_headers_missing", {"node": node(kernel={"release": "6.1", "headers": None}, driver={"loaded": None})}),
    ("driver_mismatch", {"node": node(driver={"loaded": "535.183.01"})}),
    ("reboot_required", {"node": node(), "verdict": "reboot_required"}),
    ("no_gpu", {"node": node(gpus=[])}),
    ("container_without_gpu", {"node": node(kinds=PODMAN, driver={"libcuda": None, "installed": None})}),
    ("driver_not_installed", {"node": node(driver={"libcuda": None, "installed": None, "loaded": None})}),
    ("driver_not_installed", {"node": node(driver={"libcuda": None, "installed": None})}),
    ("driver_not_loaded", {"node": node(driver={"loaded": None})}),
    ("gpus_hidden", {"report": {**HEALTHY_REPORT, "variables": {"CUDA_VISIBLE_DEVICES": ""}}}),
    ("gpus_hidden", {"report": {**HEALTHY_REPORT, "variables": {"NVIDIA_VISIBLE_DEVICES": "void"}}}),
    ("built_without_cuda", {"report": {**HEALTHY_REPORT, "build_info": {"is_cuda_build": False}}}),
    (
        "several_cudnn",
        {
            "report": {
                **HEALTHY_REPORT,
                "libraries_mapped": [{"path": "/usr/lib/libcudnn.so.8"}, {"path": "/e/lib/libcudnn_ops_infer.so.8"}],
            }
        },
    ),
    (
        "library_path",
        {
            "report": {
                **HEALTHY_REPORT,
                "libraries_mapped": [{"path": "/usr/local/cuda/lib64/libcudart.so.12"}],
                "variables": {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64"},
            }
        },
    ),
    ("cudnn_shadowed", {"report": {**HEALTHY_REPORT, "libraries": [OLD_CUDNN]}, "verdict": "cudnn_too_old"}),
    ("image_changed", {"image": {"image_changed": "/i.squashfs", "image_not_mounted": "/b"}}),
    ("image_not_mounted", {"image": {"image_changed": None, "image_not_mounted": "/b"}}),
    ("several_tensorflows", {"distributions": ["numpy", "tensorflow", "tensorflow-cpu", "tensorflow-estimator"]}),
    ("environment_missing", {"node": node(), "verdict": "environment_missing"}),
    ("cpu_avx_hidden", {"cpu": {"cpu_avx": False, "virtual": True}}),
    ("cpu_without_avx", {"cpu": {"cpu_avx": False, "virtual": False}}),
]


@pytest.mark.parametrize(("cause", "seen"), FACT_CASES, ids=[case[0] for case in FACT_CASES])
def test_first_cause_of_facts(cause: str, seen: Mapping[str, Any]) -> None:
    found = diagnose(ROWS, facts=read_facts(**seen))
    assert causes_of(found)[:1] == [cause]
    assert "what is not known" not in found[0].says


def test_every_row_of_facts_is_proven() -> None:
    by_facts = {row.cause for row in DIAGNOSES if any("facts" in evidence for evidence in row.evidence)}
    assert by_facts == {case[0] for case in FACT_CASES}


def test_a_healthy_node_has_no_cause() -> None:
    cpu = {"cpu_avx": True, "virtual": False}
    image = {"image_changed": None, "image_not_mounted": None}
    seen = {"node": HEALTHY_NODE, "report": HEALTHY_REPORT, "cpu": cpu, "image": image}
    facts = read_facts(**seen, verdict="ok", distributions=["tensorflow"])
    assert diagnose(ROWS, facts=facts) == []
    assert set(facts) == set(FACTS)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("a100_driver535", None),
        ("rtx3090_ubuntu2204_driver580_open", None),
        ("eight_h100_nvswitch", None),
        ("pascal_nouveau", "nouveau_bound"),
        ("bare_t4_debian12", "driver_not_installed"),
        ("no_gpu_debian12", "no_gpu"),
        ("kepler_k80_driver470", None),
        ("maxwell_m40_driver535", None),
        ("pascal_laptop_driver535", None),
        ("volta_v100_driver470", None),
        ("ada_rtx4090_driver565_open", None),
        ("mixed_ampere_blackwell_driver580_open", None),
        ("mig_h100_driver550", None),
        ("eight_h200_nvswitch", None),
        ("eight_b200_driver610", None),
        ("mismatch_driver580", "driver_mismatch"),
        ("secure_boot", "secure_boot"),
        ("container_a100_debian12", "container_without_gpu"),
    ],
)
def test_first_cause_of_a_recorded_node(name: str, cause: str | None, tmp_path: Path) -> None:
    found = causes_of(diagnose(ROWS, facts=read_facts(node=nodes.read(name, tmp_path))))
    assert found[:1] == ([cause] if cause else [])


def test_leading_zeros_are_no_mismatch() -> None:
    assert read_facts(node=node(driver={"loaded": "550.163.1"}))["driver_moved"] == []


def test_the_cudnn_that_wins_and_those_behind_it_are_named() -> None:
    facts = read_facts(report={**HEALTHY_REPORT, "libraries": [OLD_CUDNN]}, verdict="cudnn_too_old")
    (cause,) = diagnose(ROWS, facts=facts)
    assert "/usr/local/cuda/lib64/libcudnn.so.8 (LD_LIBRARY_PATH), /e/tensorflow/libcudnn.so.8 (RUNPATH)" in cause.says


def test_the_path_to_the_wheels_beside_tensorflow_is_no_fault() -> None:
    wheels = "/e/lib/python3.9/site-packages/nvidia/cudnn/lib"
    report = {
        **HEALTHY_REPORT,
        "variables": {"LD_LIBRARY_PATH": f"{wheels}:/usr/lib"},
        "libraries_mapped": [{"path": f"{wheels}/libcudnn.so.8"}, {"path": "/usr/lib/libcuda.so.550.163.01"}],
    }
    assert read_facts(report=report)["library_path_wins"] == []


def test_where_no_gpu_is_expected_nothing_is_said_of_one() -> None:
    text = said_in(TESTS / "data/captures/driver_not_installed/tf2.8.nodrv.txt")
    facts = read_facts(node=node(gpus=[]))
    assert diagnose(ROWS, text=text, facts=facts, expect_gpu=False) == []
    assert causes_of(diagnose(ROWS, text=text, facts=facts))[0] == "no_gpu"


def test_all_that_is_missing_is_named_once() -> None:
    text = said_in(TESTS / "data/captures/cuda_library_missing/tf2.10.M-nolibs.txt")
    (cause,) = diagnose(ROWS, text=text)
    assert cause.says.count("libcudart.so.11.0") == 1
    assert "libcudnn.so.8" in cause.says
    assert "libnvinfer" not in cause.says
    assert len(cause.evidence) <= 4


def test_a_fallback_counts_only_alone() -> None:
    alone = "W gpu_device.cc:2365] Cannot dlopen some GPU libraries."
    named = "Could not load dynamic library 'libcufft.so.11'; dlerror: libcufft.so.11: cannot open shared object file"
    assert causes_of(diagnose(ROWS, text=alone)) == ["cuda_libraries_missing"]
    assert causes_of(diagnose(ROWS, text=f"{alone}\n{named}")) == ["cuda_library_missing"]


def test_a_row_that_begins_a_line_is_found_behind_a_prefix() -> None:
    line = "State                             : In Progress"
    assert causes_of(diagnose(ROWS, text=line)) == ["fabric_manager"]
    assert causes_of(diagnose(ROWS, text=f"node-3 |     {line}")) == ["fabric_manager"]


def test_what_stands_far_into_a_long_line_is_found() -> None:
    assert causes_of(diagnose(ROWS, text="x" * 100_000 + " Hash Sum mismatch")) == ["download_corrupt"]


def test_text_with_braces_is_no_placeholder() -> None:
    rows = [{**ROWS[0], "evidence": [{"by": "x", "line": "^it is (?P<what>.*)"}], "says": "It is {what}.", "do": "-"}]
    assert diagnose(rows, text="it is {other}")[0].says == "It is {other}."


@pytest.mark.parametrize("row", ROWS, ids=[row["cause"] for row in ROWS])
def test_no_line_takes_long(row: Mapping[str, Any]) -> None:
    """Against catastrophic backtracking: long lines that nearly fit, from the words of the pattern itself."""
    for evidence in row["evidence"]:
        if "line" not in evidence:
            continue
        words = re.findall(r"[\w' .:-]{3,}", re.sub(r"\(\?P<\w+>|\\.", " ", evidence["line"]))
        hard = ["a" * 2000, " " * 2000, "." * 2000, "'" * 2000]
        hard += [word * (2000 // len(word)) for word in words] + [word + "lib." * 480 for word in words]
        start = time.process_time()
        for line in hard:
            re.search(evidence["line"], line)
        assert time.process_time() - start < 0.5, evidence["line"]


def test_what_ends_a_program_comes_before_what_it_goes_on_with() -> None:
    warning = "W gpu_device.cc:1] Could not load dynamic library 'libcufft.so.11'; dlerror: libcufft.so.11: cannot open"
    error = "ModuleNotFoundError: No module named 'imp'"
    found = causes_of(diagnose(ROWS, text=f"{warning}\n{error}"))
    assert found == ["python_too_new", "cuda_library_missing"]


def test_what_was_seen_first_comes_first() -> None:
    first, second = "ValueError: Duplicate plugins for name projector", "Hash Sum mismatch"
    assert causes_of(diagnose(ROWS, text=f"{first}\n{second}")) == ["tensorboard_twice", "download_corrupt"]
    assert causes_of(diagnose(ROWS, text=f"{second}\n{first}")) == ["download_corrupt", "tensorboard_twice"]


def test_what_is_explained_comes_after_what_explains_it_and_says_so() -> None:
    text = "Error: Unable to find a match: cuda-drivers\npackage a-1.x86_64 is filtered out by modular filtering"
    found = diagnose(ROWS, text=text)
    assert [(cause.cause, cause.follows) for cause in found] == [
        ("module_stream", None),
        ("package_gone", "module_stream"),
    ]


def test_what_is_explained_and_shows_nothing_more_is_left_out() -> None:
    text = "NotFoundError: /v/site-packages/tensorflow_text/python/ops/_a.so: undefined symbol: _ZN3tsl5mutexC1Ev"
    (cause,) = diagnose(ROWS, text=text)
    assert cause.cause == "companion_mismatch"
    assert "tensorflow_text needs the symbol _ZN3tsl5mutexC1Ev" in cause.says


WSL = "Linux version 5.15.90.1-microsoft-standard-WSL2"


@pytest.mark.parametrize(
    ("text", "facts", "said", "not_said"),
    [
        ("", {}, ["`make workstation`", "In a container: ", "On WSL2: "], []),
        (WSL, {}, ["Windows"], ["In a container", "On WSL2: ", "On the machine"]),
        ("", {"wsl": True, "container": None}, ["Windows"], ["In a container"]),
        ("", {"wsl": False, "container": "docker"}, ["host"], ["Windows"]),
        ("", {"wsl": False, "container": None}, ["`make workstation`"], ["In a container", "Windows"]),
    ],
)
def test_the_advice_is_for_the_kind_of_node(
    text: str, facts: dict[str, Any], said: list[str], not_said: list[str]
) -> None:
    line = "CUDA driver version is insufficient for CUDA runtime version"
    (cause,) = [one for one in diagnose(ROWS, text=f"{text}\n{line}", facts=facts) if one.cause == "driver_too_old"]
    assert [part for part in said if part not in cause.do] == []
    assert [part for part in not_said if part in cause.do] == []


def test_a_part_of_a_sentence_whose_name_was_not_seen_is_left_out() -> None:
    rows = [
        {**ROWS[0], "evidence": [{"by": "x", "line": "^it is(?: (?P<what>.*))?"}], "says": "It is[ {what}].", "do": "-"}
    ]
    assert diagnose(rows, text="it is bad")[0].says == "It is bad."
    assert diagnose(rows, text="it is")[0].says == "It is."


def test_a_line_may_need_another_one_and_may_be_excepted() -> None:
    evidence = {"by": "x", "line": "a fault", "with": "context", "unless": "no fault"}
    rows = [{**ROWS[0], "evidence": [evidence]}]
    assert diagnose(rows, text="a fault") == []
    assert diagnose(rows, text="a fault that is no fault\ncontext") == []
    assert len(diagnose(rows, text="a fault\ncontext")) == 1
    rows = [{**ROWS[0], "evidence": [{"by": "x", "line": "a fault", "without": "of another one"}]}]
    assert len(diagnose(rows, text="a fault")) == 1
    assert diagnose(rows, text="a fault\nof another one") == []


# --- Texts that merely look like one -------------------------------------------------------------------

SIMILAR = sorted((TESTS / "data" / "similar").glob("*.txt"))


@pytest.mark.parametrize("path", SIMILAR, ids=lambda path: str(path.stem))
def test_a_text_with_similar_words_is_not_diagnosed(path: Path) -> None:
    texts = path.read_text(encoding="utf-8").split("\n\n")
    assert len(texts) > 3
    found = {text: causes for text in texts if (causes := causes_of(diagnose(ROWS, text=text)))}
    assert found == {}


BIG = {
    "the same line": lambda number: f"2026-11-22 14:43:50.{number}: I a.cc:1] could not open file to read NUMA node\n",
    "errors": lambda number: (
        f"error {number} failed to load library libfoo.so.{number}: cannot open shared object file\n"
    ),
    "no end of a line": lambda _: "CUDA_ERROR a b " * 4,
    "spaces": lambda _: " " * 60,
    "bars": lambda number: f"\r {number % 100}%|####      | {number}/100 [00:01<00:09, 1.0it/s]",
    "objects": lambda number: f'{{"log":"epoch {number} loss 0.1\\n","stream":"stderr"}}\n',
    "an object without an end": lambda _: '{"a":',
}


@pytest.mark.parametrize("kind", BIG)
def test_a_log_of_50_mib_takes_seconds(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open(path, "w", encoding="utf-8") as stream:
        while stream.tell() < 50 << 20:
            stream.write("".join(map(BIG[kind], range(20000))))
    start = time.process_time()
    log = read_log(str(path))
    diagnose(ROWS, text="\n".join(log.lines))
    judge_log(LINE_ROWS, log.lines)
    assert time.process_time() - start < 5
