"""The module that shows what environments take on disk: check mode says what is removed, and nothing else goes."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import installing, venv
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

from tests.conftest import REPOSITORY, RunModule
from tests.index import serve
from tests.wheels import make_lock, make_tensorflow

MINOR = "%d.%d" % sys.version_info[:2]


@pytest.fixture
def record() -> dict[str, Any]:
    row = load_tables(str(REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables")).uv(platform.machine())
    assert row
    return row._asdict()


def test_check_mode_says_what_goes_and_builds_stay(
    run_module: RunModule, tmp_path: Path, uv: str, record: dict[str, Any]
) -> None:
    root, wheels = str(tmp_path / "root"), tmp_path / "wheels"
    wheels.mkdir()
    installer = installing.Installer(uv=uv, index_url=wheels.as_uri(), cache=f"{root}/.cache/uv")
    for release in ("2.8.0", "2.9.3"):
        lock = make_lock(make_tensorflow(wheels, release), release=release, python=MINOR)
        spec = EnvironmentSpec(f"tf-{release}", root, release, "cpu", os.path.realpath(sys.executable), lock)
        venv.apply_present(spec, installer=lambda: installer, keep=2, lock_timeout=0)
    venv.apply_absent(root, "tf-2.8.0", lock_timeout=0)
    pinned = Path(root, ".tools", f"uv-{record['version']}", "uv")
    pinned.parent.mkdir(parents=True)
    shutil.copy(uv, pinned)

    shown = run_module("tensorflow_cache", root=root)
    wheel, installed = shown["superfluous"]
    assert (shown["changed"], shown["freed_bytes"], wheel) == (False, 0, "tensorflow==2.8.0")
    assert re.fullmatch(r"\.cache/installed/3\.[0-9.]+/tensorflow-2\.8\.0-\w+ \(installed\)", installed)
    found = "1 wheels and 1 installed packages that no build contains"
    assert shown["lines"][-1] == f"make cache PRUNE=1 removes {found}"
    # Within its limit nothing goes. It is in whole megabytes, so the cache of these wheels is always within one.
    kept = run_module("tensorflow_cache", root=root, prune=True, limit=1, uv=record)
    assert (kept["changed"], kept["superfluous"]) == (False, shown["superfluous"])
    assert kept["lines"][-1] == "the cache takes 0 MB, and tensorflow_cache_limit is 1 MB"
    planned = run_module("tensorflow_cache", check=True, diff=True, root=root, prune=True, uv=record)
    done = run_module("tensorflow_cache", diff=True, root=root, prune=True, uv=record)
    for result in (planned, done):
        assert (result["changed"], result["superfluous"]) == (True, [wheel, installed])
        assert result["diff"] == {"before": f"{wheel}\n{installed}\n", "after": ""}
    assert done["freed_bytes"] > 0 and f"freed ({found})" in done["lines"][-1]
    assert not Path(root, installed.partition(" ")[0]).exists()
    again = run_module("tensorflow_cache", root=root, prune=True, uv=record)
    assert (again["changed"], again["superfluous"]) == (False, [])
    assert Path(root, "tf-2.9.3", "bin", "python").exists()


def test_a_cache_over_its_limit_loses_what_no_build_contains_and_says_what_the_rest_is(
    run_module: RunModule, tmp_path: Path, uv: str, record: dict[str, Any]
) -> None:
    root, wheels = tmp_path / "root", tmp_path / "wheels"
    wheels.mkdir()
    with serve(wheels) as index:
        installer = installing.Installer(uv=uv, index_url=index, cache=f"{root}/.cache/uv")
        for release in ("2.8.0", "2.9.3"):
            body = f"# {os.urandom(1_500_000).hex()}"
            lock = make_lock(make_tensorflow(wheels, release, body), release=release, python=MINOR)
            spec = EnvironmentSpec(f"tf-{release}", str(root), release, "cpu", os.path.realpath(sys.executable), lock)
            venv.apply_present(spec, installer=lambda: installer, keep=2, lock_timeout=0)
    venv.apply_absent(str(root), "tf-2.8.0", lock_timeout=0)
    # Damaged: the cache alone has what repairs it.
    (root / f"tf-2.9.3/lib/python{MINOR}/site-packages/tensorflow/__init__.py").unlink()
    pinned = root / ".tools" / f"uv-{record['version']}" / "uv"
    pinned.parent.mkdir(parents=True)
    shutil.copy(uv, pinned)
    result = run_module("tensorflow_cache", root=str(root), prune=True, limit=4, uv=record)
    assert result["changed"], result
    assert "tensorflow==2.8.0" in result["superfluous"]
    assert result["lines"][-1] == "the cache takes 3 MB, and tensorflow_cache_limit is 4 MB"
    over = run_module("tensorflow_cache", root=str(root), prune=True, limit=1, uv=record)
    assert (over["changed"], over["superfluous"]) == (False, [])
    assert over["lines"][-1].endswith(
        "is 1 MB; the rest are wheels of builds, which make remove or a smaller tensorflow_keep would free"
    )
    # The index is not there any more.
    assert venv.apply_present(spec, installer=lambda: installer, keep=2, lock_timeout=0).action == "repair"


def test_a_root_that_is_not_there_takes_nothing(run_module: RunModule, tmp_path: Path, record: dict[str, Any]) -> None:
    result = run_module("tensorflow_cache", root=str(tmp_path / "none"), prune=True, uv=record)
    assert (result["changed"], result["places"]) == (False, [])
    assert list(tmp_path.iterdir()) == []
