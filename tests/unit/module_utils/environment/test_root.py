"""What of a root is believed or run, by real files and owners; where another user is one, the test is root's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment.root import check_program, check_root
from ansible.module_utils.tensorflow_stack.errors import BuildError

OTHER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user: run as root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "above" / "root"
    path.mkdir(parents=True)
    return path


# --- The toolkit's own directories -----------------------------------------------------------------------

OWN = [".builds", ".cache", ".cache/uv", ".locks", ".pythons", ".tools", ".tools/uv-0.13.9"]


@pytest.fixture
def full(root: Path) -> Path:
    for name in [*OWN, ".pythons/cpython-3.10.4"]:
        (root / name).mkdir()
    (root / ".pythons" / "cpython-3.10").symlink_to("cpython-3.10.4")
    for name in (".tools/uv-0.13.9/uv", "manifest.json"):
        (root / name).write_text("{}")
    return root


def test_a_root_as_the_toolkit_makes_it_passes(full: Path) -> None:
    check_root(str(full))


@pytest.mark.parametrize("name", [*OWN, ".tools/uv-0.13.9/uv", ".pythons/cpython-3.10.4", "manifest.json"])
def test_one_that_others_may_write_is_refused_with_the_command(full: Path, name: str) -> None:
    (full / name).chmod(0o777)
    with pytest.raises(BuildError, match=rf"^{full / name} could be changed by others .*mode 0777") as caught:
        check_root(str(full))
    subprocess.run(caught.value.message.partition("may change it: ")[2], shell=True, check=True)
    check_root(str(full))


@as_root
@pytest.mark.parametrize("name", [*OWN, ".tools/uv-0.13.9/uv", ".pythons/cpython-3.10", "manifest.json"])
def test_one_of_another_user_is_refused(full: Path, name: str) -> None:
    os.chown(full / name, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(
        BuildError, match=rf"^{full / name} .*{OTHER}.* If you did not expect it there, move it away: mv"
    ):
        check_root(str(full))


@pytest.mark.parametrize("name", [*OWN, ".tools/uv-0.13.9/uv", "manifest.json"])
def test_a_link_to_elsewhere_is_refused(full: Path, tmp_path: Path, name: str) -> None:
    (full / name).rename(tmp_path / "elsewhere")
    (full / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        BuildError, match=rf"^{full / name} is a link to {tmp_path}/elsewhere, which this toolkit neither"
    ):
        check_root(str(full))


@pytest.mark.parametrize("name", OWN)
def test_a_file_in_the_place_of_a_directory_is_refused(full: Path, tmp_path: Path, name: str) -> None:
    (full / name).rename(tmp_path / "elsewhere")
    (full / name).write_text("")
    with pytest.raises(BuildError, match=rf"^{full / name} is no directory.*: mv"):
        check_root(str(full))


# --- What root starts ------------------------------------------------------------------------------------


@as_root
def test_root_starts_no_program_of_another_user(root: Path) -> None:
    python = root / "python3.10"
    python.write_text("")
    check_program(str(python))
    os.chown(root, OTHER, OTHER)
    with pytest.raises(
        BuildError, match=rf"^{python} is not run as root: {root} could be.*Set python_source or tensor"
    ):
        check_program(str(python))


def test_another_user_starts_what_the_administrator_has_installed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    root.chmod(0o777)
    check_program(str(root))
