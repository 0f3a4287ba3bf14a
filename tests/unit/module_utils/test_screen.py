from __future__ import annotations

import io
import os
import pty
import struct
import termios
from fcntl import ioctl

import pytest
from ansible.module_utils.tensorflow_stack import screen
from ansible.module_utils.tensorflow_stack.planning import table

REFUSED = (
    "fatal: [localhost]: FAILED! => gpu: wanted one that TensorFlow 2.20.0 has code for: 1,149 of its kernels have "
    "sm_60 sm_70 sm_80 sm_89 and PTX for sm_90a, which is for compute capability 9.0 alone; found GPU 0 (GeForce RTX "
    "5090, Blackwell, compute capability 12.0), GPU 1 (GeForce RTX 5090, Blackwell, compute capability 12.0), GPU 2 "
    "(GeForce RTX 5090, Blackwell, compute capability 12.0), GPU 3 (GeForce RTX 5090, Blackwell, compute capability "
    "12.0). Set tensorflow_version to a release that has code for this GPU, or tensorflow_gpu to none."
)


@pytest.mark.parametrize(
    ("given", "width"),
    [("80", 80), ("200", 200), ("7", 40), ("0", None), ("", None), ("wide", None), ("²", None), ("9" * 5000, None)],
)
def test_the_width_is_that_of_the_environment(given: str, width: int | None) -> None:
    assert screen.columns({"COLUMNS": given}, io.StringIO()) == width


def test_the_width_is_that_of_the_terminal() -> None:
    near, far = pty.openpty()
    with os.fdopen(near), os.fdopen(far, "w") as terminal:
        ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 132, 0, 0))
        assert screen.columns({}, terminal) == 132
        ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        assert screen.columns({}, terminal) == 80, "a serial console does not know"


def test_words_stay_whole() -> None:
    path = "/opt/" + "long/" * 20
    assert screen.fold(f"one two {path} three", 20, indent="  ") == ["one two", f"  {path}", "  three"]
    assert screen.fold("  indented words that go on", 20) == ["  indented words", "  that go on"]
    assert screen.fold("übergroße Wörter größer", 12) == ["übergroße", "Wörter", "größer"]
    assert screen.fold("one\n\ntwo", None) == ["one", "", "two"]


@pytest.mark.parametrize("width", [40, 80, 200, None])
@pytest.mark.parametrize("lines", [4, 5])
@pytest.mark.parametrize("text", [REFUSED, "one sentence " * 100, "A. " * 300, "a" * 3000], ids=range(4))
def test_an_error_has_few_lines(text: str, lines: int, width: int | None) -> None:
    shown, is_cut = screen.shorten_error(text, width, lines=lines)
    assert len(shown) <= lines and is_cut is (" ".join(shown).split() != text.split())
    if " " in text:
        assert all(len(line) <= (width or 400 * lines) for line in shown)
    if text == REFUSED and (width or 80) >= 80:
        assert " ".join(" ".join(shown).split()).endswith("for this GPU, or tensorflow_gpu to none.")


@pytest.mark.parametrize("state", ["No lock was changed.", "Nothing was removed."])
def test_what_to_do_stays_before_what_did_not_happen(state: str) -> None:
    text = f"{'It is wrong because of this. ' * 20}Change the line. {state}"
    shown, is_cut = screen.shorten_error(text, 80, lines=5)
    assert is_cut and shown[-1].endswith("... Change the line.")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {
                "msg": "Module result deserialization failed: No start of json char found",
                "module_stdout": "",
                "module_stderr": 'Traceback:\n  File "<stdin>"\nOSError: [Errno 28] No space left on device\n',
                "rc": 1,
            },
            "The module ended with 1 and without a result: OSError: [Errno 28] No space left on device. Free some "
            "space in the directory for temporary files (TMPDIR or /tmp) and in ~/.ansible/tmp.",
        ),
        (
            {"msg": "Module result deserialization failed: x", "module_stderr": "", "module_stdout": "", "rc": -9},
            "The module ended with -9 and without a result: it printed nothing",
        ),
        (
            {"msg": "Task failed: [Errno 28] No space left on device"},
            "[Errno 28] No space left on device. Free some space in the directory for temporary files (TMPDIR or /tmp) "
            "and in ~/.ansible/tmp.",
        ),
        ({"msg": "/srv/x: [Errno 28] No space left on device: '/srv/x'"},) * 2,
    ],
)
def test_what_ansible_says_without_a_place(said: dict[str, object], message: object) -> None:
    assert screen.message_of(said) == (message if isinstance(message, str) else said["msg"])


def test_a_short_error_is_whole() -> None:
    assert screen.shorten_error("wrong.\nSet x.", 80, lines=5) == (["wrong.", "Set x."], False)


STEPS = [
    {"component": "driver", "installed": None, "wanted": None, "action": "skip", "why": "no NVIDIA GPU on this node"},
    {
        "component": "lock",
        "installed": None,
        "wanted": None,
        "action": "keep",
        "why": "/home/ada/checkout/roles/tensorflow_release/files/locks/tensorflow-2.8.0/cp310-linux_x86_64-cpu.txt",
    },
    {
        "component": "environment",
        "installed": "2.10.1",
        "wanted": "2.8.0",
        "action": "install",
        "direction": "down",
        "bytes": 506e6,
        "why": "does not exist yet; tensorflow-2.10.1, tensorflow-2.9.3 and tensorflow-2.15.1 stay as they are",
    },
]
PLAN = {
    "release": "2.8.0",
    "flavour": "cpu",
    "environment": {"path": "/opt/tensorflow/tensorflow-2.8.0", "visible_gpus": None},
    "gpus": [],
    "other_gpus": [],
    "steps": [{"direction": "none", "bytes": 0, "needs_root": False, "needs_reboot": False, **step} for step in STEPS],
    "warnings": ["Only root can use this environment, because its interpreter is in a directory of root's own."],
    "refusals": [],
}


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_a_plan_fits_its_screen(width: int) -> None:
    lines = table.render_table(PLAN, width).split("\n")
    assert max(map(len, lines)) <= width
    shown, whole = " ".join(lines).split(), table.render_table(PLAN).split()
    assert set(whole) - set(shown) <= {STEPS[1]["why"], "why"}
    assert ".../locks/tensorflow-2.8.0/cp310-linux_x86_64-cpu.txt" in shown


def test_a_plan_at_80_columns() -> None:
    assert table.render_table(PLAN, 80) == (
        "TensorFlow 2.8.0 (cpu) at /opt/tensorflow/tensorflow-2.8.0\n"
        "component    installed  wanted  action          fetch\n"
        "driver       -          -       skip\n"
        "             no NVIDIA GPU on this node\n"
        "lock         -          -       keep\n"
        "             .../locks/tensorflow-2.8.0/cp310-linux_x86_64-cpu.txt\n"
        "environment  2.10.1     2.8.0   install (down)  506 MB\n"
        "             does not exist yet; tensorflow-2.10.1, tensorflow-2.9.3 and\n"
        "             tensorflow-2.15.1 stay as they are\n"
        "warning: Only root can use this environment, because its interpreter is in a\n"
        "  directory of root's own."
    )


def test_reasons_are_folded_by_kind() -> None:
    def reason(release: str, cuda: str) -> str:
        return f"cuda: wanted CUDA {cuda} for TensorFlow {release}; found a GPU that needs CUDA 12.8 or newer."

    releases = [
        {"release": "2.21.0", "runs": True, "reasons": []},
        {"release": "2.11.1", "runs": False, "reasons": [reason("2.11.1", "11.2 to 11.8"), "another"]},
        {"release": "2.4.4", "runs": False, "reasons": [reason("2.4.4", "11.0")]},
        {"release": "2.4.1", "runs": True, "reasons": []},
        {"release": "1.15.5", "runs": False, "reasons": ["python: wanted Python 3.6 or 3.7 for TensorFlow 1.15.5."]},
        {"release": "1.15.0", "runs": False, "reasons": ["python: wanted Python 3.6 or 3.7 for TensorFlow 1.15.0."]},
    ]
    assert table.render_releases(releases) == (
        "2 of 6 releases run here: 2.21.0, 2.4.1\n"
        "These do not:\n"
        "  2.11.1 to 2.4.4 (numbers of 2.11.1): cuda: wanted CUDA 11.2 to 11.8 for the release; found a GPU that needs "
        "CUDA 12.8 or newer.\n"
        "  1.15.5 to 1.15.0: python: wanted Python 3.6 or 3.7 for the release."
    )
    assert max(map(len, table.render_releases(releases, 80).split("\n"))) <= 80


def test_ranges() -> None:
    assert screen.ranges(["a", "c", "d"], list("abcde")) == "a, c to d"


def test_rows_of_a_list_come_on_top_of_the_lines_of_an_error() -> None:
    rows = [f"  line {number} is refused." for number in range(40)]
    text = "\n".join(["40 lines are refused:", *rows, "Change the lines. No lock was changed."])
    shown, is_cut = screen.shorten_error(text, 80, lines=5)
    assert shown == ["40 lines are refused:", *rows[:30], "  and 10 more", "Change the lines. No lock was changed."]
    assert is_cut
    short = "\n".join(["Two lines:", *rows[:2], "Change them."])
    assert screen.shorten_error(short, None, lines=5) == (short.split("\n"), False)
