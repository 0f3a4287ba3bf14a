"""An environment as one image, packed and mounted for real with small wheels; systemctl is a stand-in."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import (
    builds,
    cache,
    changes,
    going_back,
    installing,
    packing,
    venv,
)
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import Done, record_in_manifest
from ansible.module_utils.tensorflow_stack.environment.builds import Build
from ansible.module_utils.tensorflow_stack.environment.damage import compare_build
from ansible.module_utils.tensorflow_stack.errors import BuildError, StackError
from ansible.module_utils.tensorflow_stack.records.build import read_record
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests import images
from tests.unit.module_utils.io.test_downloads import Cutting, server  # noqa: F401
from tests.wheels import make_lock, make_tensorflow

NAME = "tensorflow-2.8.0"
MINOR = "%d.%d" % sys.version_info[:2]


class Site:
    """A root with an index of wheels and a directory of images beside it."""

    def __init__(self, path: Path, uv: str) -> None:
        self.path = path
        self.root = str(path / "root")
        self.units = images.Units(path)
        (path / "wheels").mkdir()
        self.lock = make_lock(make_tensorflow(path / "wheels", "2.8.0"), release="2.8.0", python=MINOR)
        self.uv = uv

    def spec(self, image: dict | None = None) -> EnvironmentSpec:
        python = os.path.realpath(sys.executable)
        return EnvironmentSpec(NAME, self.root, "2.8.0", "cpu", python, self.lock, image=image)

    def installer(self) -> installing.Installer:
        cache = os.path.join(self.root, ".cache", "uv")
        return installing.Installer(uv=self.uv, index_url=(self.path / "wheels").as_uri(), cache=cache)

    def apply(self, image: dict | None = None, **options) -> changes.EnvironmentOutcome:
        done = venv.apply_present(self.spec(image), installer=self.installer, keep=2, lock_timeout=0, **options)
        before = done.before.name if done.before else None
        record_in_manifest(self.root, NAME, Done(done.action, before))
        return done

    def says(self) -> str:
        program = "import tensorflow; print(tensorflow.__version__)"
        return subprocess.check_output([Path(self.root, NAME, "bin", "python"), "-c", program], text=True).strip()

    @property
    def live(self) -> str:
        return os.path.basename(os.readlink(os.path.join(self.root, NAME)))


@pytest.fixture
def site(tmp_path: Path, uv: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    images.need()
    made = Site(tmp_path, uv)
    made.units.use(monkeypatch)
    yield made
    images.unmount_all(tmp_path)


def test_an_image_is_mounted_kept_refused_rolled_back_and_removed(site: Site) -> None:
    plain = site.apply().build
    image = images.pack(site.root, NAME, site.path / "images")
    assert images.pack(site.root, NAME, site.path / "images") == image, "packed once"

    # One byte of it is another one: refused, and nothing is left of it.
    packed = Path(image["source"])
    content = packed.read_bytes()
    packed.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    with pytest.raises(StackError, match="is not the pinned file: expected .* bytes with sha256"):
        site.apply(image)
    assert (site.live, builds_of(site), site.units.names(), images.mounts_below(site.path)) == (plain, [plain], [], [])
    assert os.listdir(Path(site.root, ".images")) == []
    packed.write_bytes(content)

    planned = changes.plan_present(site.spec(image))
    outcome = site.apply(image)
    assert (planned.action, outcome.action) == ("build", "build")
    assert planned.bytes_to_fetch == outcome.bytes_to_fetch == image["bytes"]
    assert outcome.build == plain[:-1] + "2" == site.live
    assert images.mounts_below(site.path) == [os.path.join(site.root, ".builds", site.live)]
    assert site.says() == "2.8.0"
    assert len(site.units.names()) == 2
    with pytest.raises(OSError, match="Read-only"):
        Path(site.root, NAME, "more").write_text("x")

    places = {os.path.basename(place.path): place for place in cache.list_places(site.root)}
    assert places[site.live].what == "an image, in use"
    assert 0 < places[site.live].bytes <= image["bytes"] + 4096
    assert cache.find_superfluous(site.root) == (), "the plain build needs its wheels"

    assert site.apply(image).action == "keep"
    assert site.apply(image, hashes=True).action == "keep"
    assert site.apply().action == "keep", "an image is as good as a build"

    assert going_back.plan_previous(site.root, NAME).build == plain
    venv.apply_previous(site.root, NAME, lock_timeout=0)
    assert (site.live, site.says()) == (plain, "2.8.0")
    forward = site.apply(image)
    assert (forward.action, forward.build, site.says()) == ("switch", outcome.build, "2.8.0")

    venv.apply_absent(site.root, NAME, lock_timeout=0)
    assert (images.mounts_below(site.path), site.units.names(), builds_of(site)) == ([], [], [])
    assert os.listdir(Path(site.root, ".images")) == []


def test_an_image_from_a_server_that_was_cut_goes_on_in_the_next_run(site: Site, server: Cutting) -> None:  # noqa: F811
    plain = site.apply().build
    packed = images.pack(site.root, NAME, site.path / "images")
    image = {**packed, "source": f"{server.url}/{os.path.basename(packed['source'])}"}
    half = f"{packed['sha256']}.squashfs.partial"

    def cut() -> None:
        server.body, server.cuts = Path(packed["source"]).read_bytes(), [1000, 1000, 1000]
        with pytest.raises(StackError, match=rf"The image {NAME}-.*\.squashfs cannot be fetched: .* after 1000 of "):
            site.apply(image)
        assert (site.live, builds_of(site), site.units.names()) == (plain, [plain], [])
        assert os.listdir(Path(site.root, ".images")) == [half]

    cut()
    server.body = bytes(len(server.body))  # another image is there by now
    with pytest.raises(StackError, match="is not the pinned file: expected .* bytes with sha256"):
        site.apply(image)
    assert os.listdir(Path(site.root, ".images")) == []
    cut()
    server.body = Path(packed["source"]).read_bytes()
    server.sent.clear()
    Path(site.root, ".images", f"{'0' * 64}.squashfs.partial").touch()  # of one that nobody wants any more
    site.apply(image)
    assert (server.sent, site.says()) == ([("bytes=3000-", len(server.body) - 3000)], "2.8.0")
    assert sorted(path.suffix for path in Path(site.root, ".images").iterdir()) == [".json", ".squashfs"]


def test_an_image_that_changes_or_is_not_mounted_is_damage(site: Site) -> None:
    site.apply()
    image = images.pack(site.root, NAME, site.path / "images")
    build = site.apply(image).build
    path = os.path.join(site.root, ".builds", str(build))
    (held,) = Path(site.root, ".images").glob("*.squashfs")
    content = held.read_bytes()
    held.chmod(0o644)
    held.write_bytes(content[:-5000] + b"x" + content[-4999:])
    damage = compare_build(Build(path, read_record(path)), hashed=["tensorflow"]).damage
    assert [text for _, text in damage if "is not the one that was fetched" in text]

    subprocess.run(["umount", path], check=True)
    assert compare_build(Build(path, read_record(path))).damage[0].text == f"{build} is an image that is not mounted"
    again = site.apply(image)
    assert (again.action, site.says()) == ("build", "2.8.0")
    assert again.build != build
    site.apply(image)  # sweeps
    assert [build.name for build in builds.builds_of(site.root, NAME) if build.record is None] == []


def test_an_image_of_something_else_is_refused(site: Site) -> None:
    site.apply()
    image = images.pack(site.root, NAME, site.path / "images")
    other = dataclasses.replace(site.spec(image), visible_gpus="0")
    with pytest.raises(BuildError, match=r"is not of the planned tensorflow-2\.8\.0"):
        venv.apply_present(other, installer=site.installer, keep=2, lock_timeout=0)
    assert images.mounts_below(site.path) == []


def test_only_a_proven_whole_build_is_packed(site: Site) -> None:
    with pytest.raises(BuildError, match="There is no environment in use in .* to pack: there are none"):
        packing.pack(site.root, None, str(site.path / "images"), check_mode=True)
    site.apply()
    with pytest.raises(BuildError, match=r"was not proven here \(last verdict: none\)"):
        packing.pack(site.root, None, str(site.path / "images"), check_mode=False)
    images.prove(site.root, NAME)
    Path(site.root, NAME, "lib", f"python{MINOR}", "site-packages", "mine.py").write_text("x = 1\n")
    with pytest.raises(BuildError, match=r"is an environment to which somebody added: .*mine\.py"):
        packing.pack(site.root, None, str(site.path / "images"), check_mode=True)
    assert not (site.path / "images").exists()


def builds_of(site: Site) -> list[str]:
    return [build.name for build in builds.builds_of(site.root, NAME)]
