"""The units of an image, as systemd reads them, with and without dm-verity."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import mount_units
from ansible.module_utils.tensorflow_stack.errors import BuildError

from tests.needs import require

BUILD = "/opt/tensorflow/.builds/tensorflow-2.8.0-1a2b3c4d5e6f-1"
IMAGE = "/opt/tensorflow/.images/abc.squashfs"
VERITY = "/opt/tensorflow/.images/def.verity"


@pytest.mark.parametrize("verity", [None, VERITY])
def test_units(verity: str | None, tmp_path: Path) -> None:
    require("systemd", "cryptsetup-bin")
    units = mount_units.make_units(BUILD, IMAGE, sha256="1" * 64, verity=verity, root_hash="2" * 64)
    assert units.mount == r"opt-tensorflow-.builds-tensorflow\x2d2.8.0\x2d1a2b3c4d5e6f\x2d1.mount"
    proof, mount = units.texts[units.proof], units.texts[units.mount]
    assert f"Requires={units.proof}\nAfter={units.proof}\n" in mount
    assert f"Where={BUILD}\nType=squashfs\n" in mount
    if verity is None:
        assert f"What={IMAGE}\n" in mount and "Options=ro,nodev,nosuid,loop\n" in mount
        assert f"sha256sum --check --status -\nStandardInput=data\nStandardInputText={'1' * 64}  {IMAGE}\n" in proof
    else:
        name = "tensorflow-2.8.0-1a2b3c4d5e6f-1"
        assert f"What=/dev/mapper/{name}\n" in mount and "Options=ro,nodev,nosuid\n" in mount
        assert f"veritysetup open {IMAGE} {name} {VERITY} {'2' * 64}\n" in proof
        assert f"veritysetup close --deferred {name}\n" in proof
    for unit, text in units.texts.items():
        (tmp_path / unit).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit) for unit in units.texts)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "image" in line.lower()]
    assert said == [], done.stderr


def test_a_path_that_units_cannot_hold_is_refused() -> None:
    with pytest.raises(BuildError, match=r"An image cannot be mounted at /srv/my env/.*Set tensorflow_root to one"):
        mount_units.name_units("/srv/my env/.builds/a-1")
