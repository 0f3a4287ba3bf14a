"""Who may change a path, by real directories, links and owners; where another user is one, the test is root's."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment.root import check_root
from ansible.module_utils.tensorflow_stack.errors import BuildError
from ansible.module_utils.tensorflow_stack.io import trust

OTHER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user: run as root")


@pytest.fixture(autouse=True)
def forget() -> None:
    trust._is_own_group.cache_clear()
    trust._owner_outside.cache_clear()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "above" / "root"
    path.mkdir(parents=True)
    return path


def _of_another_user(root: Path) -> Path:
    os.chown(root.parent, OTHER, OTHER)
    return root.parent


def _swapped_for_a_link(root: Path) -> Path:
    """The owner of the directory above has moved it away and put a link to root's own directory there."""
    elsewhere = root.parents[1] / "elsewhere"
    root.rename(elsewhere)
    root.symlink_to(elsewhere)
    return _of_another_user(root)


def _link_of_another_user(root: Path) -> Path:
    """In a sticky directory, where everybody may put one."""
    place = root.parents[1] / "sticky"
    place.mkdir()
    place.chmod(0o1777)
    root.rename(place / "real")
    root.symlink_to(place / "link")
    (place / "link").symlink_to("real")
    os.chown(place / "link", OTHER, OTHER, follow_symlinks=False)
    return place / "link"


def _directory_of_another_user_in_a_sticky_one(root: Path) -> Path:
    root.parent.chmod(0o1777)
    os.chown(root, OTHER, OTHER)
    return root


@as_root
@pytest.mark.parametrize(
    "spoil",
    [_of_another_user, _swapped_for_a_link, _link_of_another_user, _directory_of_another_user_in_a_sticky_one],
)
def test_what_another_user_has_on_the_way_is_refused(root: Path, spoil: Callable[[Path], Path]) -> None:
    place = spoil(root)
    with pytest.raises(BuildError, match=rf"^{place} (could be changed by others \(owner|is a link of user) {OTHER}\b"):
        check_root(str(root))
    with pytest.raises(BuildError, match=r"Set tensorflow_root to a directory that only you write, below directories"):
        check_root(str(root / "not" / "there" / "yet"))


@pytest.mark.parametrize("mode", [0o777, 0o775 if os.geteuid() == 0 else 0o757])
def test_a_directory_on_the_way_that_others_may_write_is_refused_with_the_command(root: Path, mode: int) -> None:
    root.parent.chmod(mode)
    with pytest.raises(BuildError) as caught:
        check_root(str(root))
    assert f"(owner {os.geteuid()}, mode {mode:04o}), which is part of the path to {root}: " in caught.value.message
    subprocess.run(caught.value.message.partition("may write there: ")[2], shell=True, check=True)
    check_root(str(root))


def test_a_sticky_directory_is_fine_on_the_way_and_not_as_the_root(root: Path) -> None:
    root.parent.chmod(0o1777)
    check_root(str(root))
    check_root(str(root.parent / "new"))
    with pytest.raises(BuildError, match="could be changed by others"):
        check_root(str(root.parent))


def test_links_of_ones_own_are_followed(root: Path) -> None:
    (root.parent / "down").symlink_to("root")
    (root.parents[1] / "link").symlink_to("above/../above/./down")
    check_root(f"{root.parents[1]}//link/")


def test_a_loop_of_links_ends(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    assert trust.find_weakness(str(root / "a" / "x")) is None


@pytest.mark.parametrize("path", ["/opt/tensorflow", "/usr/local/share", "/var/lib/tensorflow", "/srv/x", "/tmp/x"])
def test_usual_places_are_taken(path: str) -> None:
    assert trust.find_weakness(path) is None


# --- The user's own group --------------------------------------------------------------------------------


@pytest.fixture
def ann(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """What is said to a user whose home is 0775, with these groups and accounts."""
    uid, gid = os.stat(root).st_uid, os.stat(root).st_gid

    def judge(*, name: str = "ann", members: tuple[str, ...] = (), accounts: tuple[tuple[str, int], ...] = ()) -> str:
        me = pwd.struct_passwd(("ann", "x", 4711, gid, "", "", ""))
        others = [pwd.struct_passwd((other, "x", 5000, primary, "", "", "")) for other, primary in accounts]
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        monkeypatch.setattr(pwd, "getpwuid", lambda _: me)
        monkeypatch.setattr(pwd, "getpwall", lambda: [me, *others])
        monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group((name, "x", gid, list(members))))
        root.chmod(0o775)
        weakness = trust.judge(str(root), os.stat_result((0o40775, 0, 0, 1, 4711, gid, 0, 0, 0, 0)))
        return weakness.text if weakness else ""

    assert uid == os.geteuid()
    return judge


def test_a_directory_of_the_users_private_group_is_fine(ann: Callable[..., str]) -> None:
    assert ann() == ""
    trust._is_own_group.cache_clear()
    assert ann(members=("ann",)) == ""


@pytest.mark.parametrize(
    "group",
    [{"name": "lab"}, {"members": ("ann", "bob")}, {"accounts": (("bob", os.getegid()),)}],
    ids=["a group that is not named like the user", "with another member", "the primary one of another user"],
)
def test_one_of_a_shared_group_is_not(ann: Callable[..., str], group: dict) -> None:
    assert ann(**group) == "could be changed by others (owner 4711, mode 0775)"


def test_an_acl_makes_the_private_group_no_excuse(ann: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "getxattr", lambda path, name: b"\x02\0\0\0" if name.startswith("system.posix_acl") else b""
    )
    assert ann() == "could be changed by others (owner 4711, mode 0775)"


# --- User namespaces -------------------------------------------------------------------------------------


def _any_python() -> str:
    """One that every user may start; a checkout in the home of root is closed to others."""
    return shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable


def test_in_a_user_namespace_the_owner_of_the_top_is_trusted(root: Path) -> None:
    """There the machine's root has no number; outside, user 65534 is somebody like any other."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tensorflow_stack.io import trust; import os;"
        "print(os.stat('/').st_uid, trust.find_weakness(sys.argv[2]))"
    )
    command = ["unshare", "--user", "--map-user=4711", _any_python(), "-c", program]
    done = subprocess.run(
        [*command, str(Path(trust.__file__).parents[2]), "/usr/lib"],
        user=4711 if os.geteuid() == 0 else None,  # whoever is mapped is not without a number
        cwd="/",
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.stdout.split() == [str(OTHER), "None"]
