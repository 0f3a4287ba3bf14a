from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.packages import apt_pins
from ansible.module_utils.tensorflow_stack.packages.apt_pins import (
    read_foreign_pins,
    render_preferences,
    render_unattended,
)
from ansible.module_utils.tensorflow_stack.packages.model import ResolvedPackage
from ansible.module_utils.tensorflow_stack.packages.record import PackagesRecord

CUDNN = ResolvedPackage("libcudnn8", "8.1.0.77-1+cuda11.2", "amd64")
CUBLAS = ResolvedPackage("libcublas-11-2", "11.4.1.1043-1", "amd64")
ASKED = {"packages": [], "name_patterns": ["libcudnn*", "libcublas*"], "branch": None, "stream": None}
RECORD = PackagesRecord("cudnn", "nvidia_repo", "8.1.0.77", ASKED, (CUBLAS, CUDNN))


def test_pins_name_one_version_and_keep_all_others_out() -> None:
    text = render_preferences(replace(RECORD, packages=(CUDNN,)))
    assert text.split("\n\n", 1)[1] == (
        "Package: libcudnn8\nPin: version 8.1.0.77-1+cuda11.2\nPin-Priority: 1001\n\n"
        "Package: libcudnn8\nPin: version *\nPin-Priority: -1\n"
    )


def test_unattended_upgrades_leaves_exactly_these_of_all_components() -> None:
    packages = (ResolvedPackage("libcuda1:i386", "1", "i386"), ResolvedPackage("libstdc++6.1", "1", "amd64"))
    driver = replace(RECORD, asked={"name_patterns": ["libcuda1", "libstdc*"]}, packages=packages)
    text = render_unattended([RECORD, driver])
    assert text is not None
    assert [line.strip() for line in text.splitlines() if line.startswith("  ")] == [
        '"^libcublas-11-2$";',
        '"^libcuda1$";',
        '"^libcudnn8$";',
        r'"^libstdc\+\+6\.1$";',
    ]
    assert render_unattended([]) is None


def test_own_pins_are_no_foreign_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_pins, "PREFERENCES", str(tmp_path / "tensorflow-gpu-stack-{}.pref"))
    for name in ("tensorflow-gpu-stack-cudnn.pref", "backports", "b.pref", "c.bak", "d.dpkg-old"):
        (tmp_path / name).write_text(f"# {name}\n")
    text = read_foreign_pins()
    assert "# backports" in text and "# b.pref" in text
    assert "tensorflow" not in text and "# c.bak" not in text and "# d.dpkg-old" not in text
