"""The pip of an environment: one of its distributions, whose additions are named and whose upgrade costs nothing.

By real installs, as in test_venv.py, whose site this is; pip is the wheel that this Python has for new environments.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import changes, installing, venv
from ansible.module_utils.tensorflow_stack.records.lockfile import Distribution

from tests.component.environment.test_venv import NAME, Site, site  # noqa: F401  # the fixture
from tests.needs import require
from tests.wheels import make_wheel


def copy_pip(directory: Path) -> Distribution:
    require("python3-venv")
    import ensurepip

    places = [sysconfig.get_config_var("WHEEL_PKG_DIR"), os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")]
    wheel = next(found for place in places if place for found in Path(place).glob("pip-*.whl"))
    shutil.copy(wheel, directory)
    body = wheel.read_bytes()
    return Distribution("pip", wheel.name.split("-")[1], (hashlib.sha256(body).hexdigest(),), len(body))


@pytest.fixture
def applied(site: Site) -> Site:  # noqa: F811
    site.pip = copy_pip(site.wheels)
    make_wheel(site.wheels, "scipy", "1.9.0", {"scipy/__init__.py": ""})
    make_wheel(site.wheels, "pip", "99.0", {"pip/__init__.py": "", "pip/__main__.py": ""})
    site.apply(wished(site))
    return site


def wished(site: Site, *others: Distribution):  # noqa: F811
    return site.spec(site.tensorflow, others[0] if others else site.numpy, site.pip)


def install(site: Site, *wishes: str) -> None:  # noqa: F811
    command = [site.live / "bin" / "pip", "install", "--no-index", "--find-links", site.wheels]
    subprocess.run([*command, *wishes], check=True, capture_output=True)


def test_pip_installs_into_its_environment_and_the_addition_is_named(applied: Site) -> None:
    install(applied, "scipy")
    assert (applied.site_packages / "scipy").is_dir()
    outcome = applied.apply(wished(applied))
    assert outcome.action == "keep"
    assert [addition.text for addition in outcome.additions] == ["scipy 1.9.0"]


def test_pip_is_that_of_the_environment_in_a_shell_that_activated_it(applied: Site) -> None:
    script = f". {applied.live}/bin/activate && pip install --no-index --find-links {applied.wheels} scipy && which pip"
    said = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    assert os.path.realpath(said.stdout.splitlines()[-1]) == os.path.realpath(applied.live / "bin" / "pip")
    assert (applied.site_packages / "scipy").is_dir()


def test_an_upgrade_of_pip_is_named_and_causes_no_build(applied: Site) -> None:
    before = os.readlink(applied.live)
    install(applied, "--upgrade", "pip")
    for outcome in (changes.plan_present(wished(applied), hashes=True), applied.apply(wished(applied))):
        assert (outcome.action, outcome.changed) == ("keep", False)
        assert [addition.text for addition in outcome.additions] == [f"pip is 99.0, not {applied.pip.version}"]
    assert os.readlink(applied.live) == before


def test_a_new_build_has_the_pip_of_its_lock_again_and_does_not_stop_for_it(applied: Site) -> None:
    install(applied, "--upgrade", "pip")
    old = os.path.basename(os.readlink(applied.live))
    for patch, removed in ((1, ()), (2, (old,))):
        contents = {"numpy/__init__.py": f"version = '1.24.{patch}'\n"}
        newer = make_wheel(applied.wheels, "numpy", f"1.24.{patch}", contents)
        outcome = applied.apply(wished(applied, newer))
        assert (outcome.action, outcome.dropped, outcome.kept_builds) == ("build", (), ())
        assert outcome.removed_builds == removed, "pip's upgrade is no reason to keep a build"
    assert (applied.site_packages / f"pip-{applied.pip.version}.dist-info").is_dir()


def test_what_else_was_added_stays_a_reason_to_stop(applied: Site) -> None:
    install(applied, "--upgrade", "pip")
    command = [applied.uv, "pip", "install", "--python", applied.live / "bin" / "python", "--no-index", "--find-links"]
    subprocess.run([*command, applied.wheels, "scipy"], check=True, capture_output=True)
    newer = make_wheel(applied.wheels, "numpy", "1.24.0", {"numpy/__init__.py": "version = '1.24.0'\n"})
    with pytest.raises(changes.BuildError, match=r"lose what somebody added to it: scipy 1\.9\.0\. Nothing"):
        changes.plan_present(wished(applied, newer))


def test_a_pip_that_was_removed_is_damage(applied: Site) -> None:
    command = [applied.uv, "pip", "uninstall", "--python", applied.live / "bin" / "python", "pip"]
    subprocess.run(command, check=True, capture_output=True)
    assert applied.apply(wished(applied)).action == "repair"
    assert (applied.live / "bin" / "pip").exists()


def test_the_interpreters_own_pip_installs_that_of_the_lock(site: Site) -> None:  # noqa: F811
    require("python3-venv")
    site.pip = copy_pip(site.wheels)

    def by_pip() -> installing.Installer:
        return installing.Installer(uv=None, index_url=site.wheels.as_uri())

    venv.apply_present(wished(site), installer=by_pip, keep=2, lock_timeout=0)
    assert Path(site.root, NAME, "bin", "pip").exists()
    assert [path.name for path in site.site_packages.glob("pip-*")] == [f"pip-{site.pip.version}.dist-info"]
