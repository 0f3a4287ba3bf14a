"""A bundle from an index to a machine without a network: made, checked, installed from, damaged."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.bundle.fetching import Shelf
from ansible.module_utils.tensorflow_stack.bundle.needs import BundleNeed
from ansible.module_utils.tensorflow_stack.bundle.wheels import find_wheels
from ansible.module_utils.tensorflow_stack.io.downloads import Source
from ansible.module_utils.tensorflow_stack.io.uv import DEFAULT_INDEX, INDEX_VARIABLE
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

from tests.index import serve
from tests.integration.test_additions import MINOR, NAME, RELEASE, TABLES, Machine, said
from tests.needs import require, unavailable
from tests.playbooks import REPOSITORY, Run, run_playbook

pytestmark = pytest.mark.integration

WITHOUT_NETWORK = ["unshare", "--net"]


@dataclasses.dataclass(frozen=True)
class Bundler:
    """A machine, the index that its bundle is made from, and the bundle."""

    machine: Machine
    index: str
    path: Path
    key: Path

    def make(self, *options: str, **variables: Any) -> Run:
        return self._play("bundle", *options, tensorflow_index_url=self.index, **variables)

    def install(self, **variables: Any) -> Run:
        """Where there is no network."""
        place = {"stack_bundle_url": str(self.path), "stack_bundle_signers": str(self.key.parent / "signers")}
        return self._play("workstation", without_network=True, **{**place, **variables})

    def _play(self, playbook: str, *options: str, without_network: bool = False, **variables: Any) -> Run:
        command = self.machine.site.command(
            playbook,
            *options,
            tensorflow_version=RELEASE,
            tensorflow_python=MINOR,
            tensorflow_gpu="none",
            tensorflow_check_level="libraries",
            **{
                "bundle_directory": str(self.path),
                "bundle_tools": False,
                "tensorflow_release_tools_directory": str(self.machine.site.path / "tools"),
                **variables,
            },
        )
        return run_playbook([*(WITHOUT_NETWORK if without_network else []), *command], directory=REPOSITORY)

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
        return found


@pytest.fixture(scope="module")
def bundler(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Iterator[Bundler]:
    require("openssh-client", root=True)
    if RELEASE is None:
        pytest.skip(f"no release of these tests has a wheel for Python {MINOR}")
    if subprocess.run([*WITHOUT_NETWORK, "true"], stderr=subprocess.DEVNULL).returncode:
        unavailable("a namespace without a network cannot be made here, as in a chroot")
    machine = Machine(tmp_path_factory.mktemp("bundle"), uv)
    lay_uv(machine.wheels)
    key = machine.site.path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (machine.site.path / "signers").write_text(f"site {key.with_suffix('.pub').read_text()}")
    with serve(machine.wheels) as index:
        yield Bundler(machine, index, machine.site.path / "bundle", key)


def lay_uv(wheels: Path) -> None:
    """The pinned uv, for the index: nothing else would do."""
    row = load_tables(str(TABLES)).uv(platform.machine())
    assert row is not None
    source = Source(os.environ.get(INDEX_VARIABLE) or DEFAULT_INDEX, name="package index", settings=INDEX_VARIABLE)
    found, _ = find_wheels(source, [BundleNeed("wheel", "uv", row.version, (row.sha256,), row.bytes)])
    for one in found:
        Shelf(str(wheels)).bring(dataclasses.replace(one, path=one.path.rpartition("/")[2]))


def test_a_bundle_is_made_and_signed(bundler: Bundler) -> None:
    made = bundler.make(bundle_signing_key=str(bundler.key))
    assert (made.code, made.counts["changed"]) == (0, 1), made.output
    assert "3 files are needed, 0 of them are there already; about 18 MB are fetched" in said(made)
    assert {row["kind"] for row in bundler.manifest["files"]} == {"wheel", "index", "sbom"}
    assert all(row["source"] for row in bundler.manifest["files"] if row["kind"] == "wheel")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("missing", marks=pytest.mark.slow),
        pytest.param("cut", marks=pytest.mark.slow),
        "swapped",
        pytest.param("unsigned", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_bundle_is_refused_by_name_before_anything_changes(bundler: Bundler, damage: str) -> None:
    numpy = bundler.path / "wheels" / "numpy-1.26.4-py3-none-any.whl"
    path = bundler.path / "manifest.json.sig" if damage == "unsigned" else numpy
    before = path.read_bytes()
    path.unlink()
    if damage in ("cut", "swapped"):
        path.write_bytes(before[:-1] if damage == "cut" else before[:-1] + b"x")
    try:
        run = bundler.install(tensorflow_root=str(bundler.machine.site.path / damage))
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(before)
    assert run.code != 0
    name = "is not signed, and stack_bundle_signers" if damage == "unsigned" else "wheels/numpy-1.26.4-py3-none-any.whl"
    assert name in said(run), run.output
    assert not (bundler.machine.site.path / damage).exists()


def test_an_environment_is_installed_from_it_without_a_network(bundler: Bundler) -> None:
    run = bundler.install()
    assert (run.code, run.counts["changed"]) == (0, 1), run.output
    assert (bundler.machine.site.root / NAME / "bin" / "python").exists()


@pytest.mark.slow
def test_what_is_made_again_changes_nothing(bundler: Bundler) -> None:
    made = bundler.make(bundle_signing_key=str(bundler.key))
    assert (made.code, made.counts["changed"]) == (0, 0), made.output
    installed = bundler.install()
    assert (installed.code, installed.counts["changed"]) == (0, 0), installed.output


@pytest.mark.slow
def test_check_mode_compares_a_bundle_and_measures_a_new_one(bundler: Bundler) -> None:
    compared = bundler.make("--check")
    assert compared.code == 0, compared.output
    assert "each as the manifest says" in said(compared)
    (bundler.path / "wheels" / "numpy-1.26.4-py3-none-any.whl").rename(bundler.path / "wheels" / "kept")
    try:
        damaged = bundler.make("--check")
    finally:
        (bundler.path / "wheels" / "kept").rename(bundler.path / "wheels" / "numpy-1.26.4-py3-none-any.whl")
    assert damaged.code != 0
    assert "no wheels/numpy-1.26.4-py3-none-any.whl in the bundle" in said(damaged)
    other = bundler.path.parent / "other"
    measured = bundler.make("--check", bundle_directory=str(other))
    assert measured.code == 0, measured.output
    assert "about 18 MB are fetched" in said(measured)
    assert not other.exists()


@pytest.mark.slow
def test_a_bundle_of_another_release_is_refused(bundler: Bundler) -> None:
    mine = bundler.machine.requirements("mine.txt", "pandas\n", bundler.machine.pandas)
    run = bundler.install(tensorflow_requirements=mine, tensorflow_environment="other")
    assert run.code != 0
    assert "found a bundle without pandas 2.3.3. Make the bundle again (make bundle)" in said(run), run.output
