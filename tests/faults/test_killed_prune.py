"""The cache pruned and killed by SIGKILL at each step: builds work, can be repaired, and the next one completes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import cache, installing, shared_store, venv
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests.wheels import make_lock, make_tensorflow

MINOR = "%d.%d" % sys.version_info[:2]
# A function of a module, and whether the process dies before it, after it, or when it has removed one file.
POINTS: dict[str, tuple[Any, str, str]] = {
    "before_the_first_wheel": (cache.os, "unlink", "before"),
    "after_a_wheel": (cache.os, "unlink", "after"),
    "before_installed_packages": (cache, "remove_unneeded", "before"),
    "in_the_middle_of_a_package": (shared_store.shutil, "rmtree", "half"),
    "before_uv": (cache, "prune_cache", "before"),
    "after_uv": (cache, "prune_cache", "after"),
}


def dying(owner: Any, name: str, moment: str) -> None:
    original = getattr(owner, name)

    def killed(*arguments: Any, **options: Any) -> Any:
        if moment == "half":
            next(path for path in Path(arguments[0]).rglob("*") if path.is_file()).unlink()
        elif moment == "after":
            original(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, killed)


def spec_of(root: str, wheels: Path, release: str) -> EnvironmentSpec:
    lock = make_lock(make_tensorflow(wheels, release), release=release, python=MINOR)
    return EnvironmentSpec(f"tf-{release}", root, release, "cpu", os.path.realpath(sys.executable), lock)


# The other steps leave less behind than these two.
IN_CI = ("after_a_wheel", "in_the_middle_of_a_package")


@pytest.mark.parametrize(
    "point",
    [pytest.param(point, id=name, marks=() if name in IN_CI else pytest.mark.slow) for name, point in POINTS.items()],
)
def test_killed(point: tuple[Any, str, str], tmp_path: Path, uv: str) -> None:
    root, wheels = str(tmp_path / "root"), tmp_path / "wheels"
    wheels.mkdir()
    installer = installing.Installer(uv=uv, index_url=wheels.as_uri(), cache=f"{root}/.cache/uv")
    specs = {release: spec_of(root, wheels, release) for release in ("2.8.0", "2.9.3")}
    for spec in specs.values():
        venv.apply_present(spec, installer=lambda: installer, keep=2, lock_timeout=0)
    venv.apply_absent(root, "tf-2.8.0", lock_timeout=0)
    assert cache.find_superfluous(root) and cache.find_superfluous_packages(root)

    def child() -> None:
        dying(*point)
        cache.prune(root, uv)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL

    # A damaged build is repaired, the next one completes, and what it removed can be built again.
    (module,) = Path(root, "tf-2.9.3").glob("lib/python*/site-packages/tensorflow/__init__.py")
    module.unlink()
    venv.apply_present(specs["2.9.3"], installer=lambda: installer, keep=1, lock_timeout=0)
    assert list(Path(root, "tf-2.9.3").glob("lib/python*/site-packages/tensorflow/__init__.py"))
    cache.prune(root, uv)
    assert not cache.find_superfluous(root) and not cache.find_superfluous_packages(root)
    venv.apply_present(specs["2.8.0"], installer=lambda: installer, keep=2, lock_timeout=0)
