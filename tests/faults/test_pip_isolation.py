"""What pip and Python take their configuration from does not reach a build by pip (docs/security.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import installing, venv

from tests.component.environment.test_venv import Site, site  # noqa: F401  # the fixture
from tests.needs import require


def test_nothing_around_a_build_by_pip_is_run_or_read(
    site: Site,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Modules in the working directory, home and PYTHONPATH; pip's configuration of user and variable."""
    require("python3-venv")
    hostile, marks, elsewhere = tmp_path / "hostile", tmp_path / "ran", tmp_path / "elsewhere"
    hostile.mkdir()
    for name in ("venv", "pip", "ensurepip", "compileall", "sitecustomize", "usercustomize", "zipfile"):
        (hostile / f"{name}.py").write_text(f"open({str(marks)!r}, 'a').write({name!r})\nraise SystemExit(9)\n")
    settings = f"[global]\ntarget = {elsewhere}\nno-binary = :all:\n[install]\nuser = true\n"
    for place in ("pip.conf", ".pip/pip.conf", ".config/pip/pip.conf"):
        (hostile / place).parent.mkdir(parents=True, exist_ok=True)
        (hostile / place).write_text(settings)
    monkeypatch.chdir(hostile)
    for name, value in {
        "HOME": str(hostile),
        "PYTHONPATH": str(hostile),
        "PYTHONUSERBASE": str(hostile),
        "PIP_CONFIG_FILE": str(hostile / "pip.conf"),
        "PIP_TARGET": str(elsewhere),
    }.items():
        monkeypatch.setenv(name, value)
    by_pip = installing.Installer(uv=None, index_url=site.wheels.as_uri())
    venv.apply_present(site.spec(), installer=lambda: by_pip, keep=2, lock_timeout=0)
    assert not marks.exists() and not elsewhere.exists()
    assert sorted(os.listdir(site.site_packages))[-4:] == [
        "numpy",
        "numpy-1.23.5.dist-info",
        "tensorflow",
        "tensorflow-2.8.0.dist-info",
    ]
