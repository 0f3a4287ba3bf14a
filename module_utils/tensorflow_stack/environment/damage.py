"""How a build differs from what was installed, and what somebody added to it."""

from __future__ import annotations

import glob
import os
from typing import Callable, Container, Iterable, NamedTuple

from ..io.trust import judge
from ..records.additions import TOOLS, Addition, find_additions
from ..records.build import BUILD_RECORD
from ..records.distributions import contents_digest, distributions_in, is_same_version, read_rows
from .builds import Build, builds_of
from .installed_files import Recorded, compare_files, find_changed, sha256_or_none


class Damage(NamedTuple):
    """One way in which a build is not what it was; `package` is None where it is not one package's."""

    package: str | None
    text: str


def find_damage(
    build: Build, *, hashed: Container[str] = (), progress: Callable[[int, int], None] | None = None
) -> list[Damage]:
    """What is wrong with a complete build; empty when all that it was built from is in it, whole.

    What was added to it is no damage (see additions.py), nor is another version of a tool. Name, kind, size and mode of
    every installed file are looked at (under 0.1 s for TensorFlow 2.8.0); contents of the packages in `hashed`, and of
    files that were written to since the build was complete. `progress` is told how many packages were compared, and of
    how many.
    """
    if build.record is None:
        return [Damage(None, f"{build.name} is not complete")]
    damage = [Damage(None, text) for text in _frame_damage(build.path, build.record["frame"])]
    site_packages = os.path.join(build.path, build.record["site_packages"])
    try:
        installed = distributions_in(os.listdir(site_packages))
    except OSError as error:
        return damage + [Damage(None, f"{site_packages} cannot be read: {error.strerror}")]
    complete_since = _written_at(os.path.join(build.path, BUILD_RECORD))
    doubtful: list[Recorded] = []
    for number, (name, version) in enumerate(sorted(build.packages.items())):
        if progress:
            progress(number, len(build.packages))
        found = installed.get(name, [])
        others = [other for other, _ in found if not is_same_version(other, version)]
        if not found:
            damage.append(Damage(name, f"{name} {version} is not installed"))
        elif others:
            damage += [] if name in TOOLS else [Damage(name, f"{name} is {others[0]}, not {version}")]
        else:
            text, in_question = compare_files(
                name,
                site_packages,
                found[0][1],
                build.record["records"][name],
                contents_sha256=(build.record.get("contents") or {}).get(name),
                hashes=name in hashed,
                complete_since=complete_since,
            )
            damage += [Damage(name, f"{name}: {text}")] if text else []
            doubtful += in_question
    damage += [Damage(name, f"{name}: {text}") for name, text in find_changed(doubtful)]
    for link, target in sorted(build.record["links"].items()):
        path = os.path.join(build.path, link)
        if not os.path.islink(path) or os.readlink(path) != target:
            damage.append(Damage(None, f"the library link {link} is not there"))
        elif not os.path.exists(path):
            damage.append(Damage(None, f"the library {target} behind {link} is gone"))
    return damage


def _written_at(path: str) -> int | None:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return None


def describe_frame(path: str) -> dict[str, str]:
    """What makes a directory a venv of its interpreter, and what runs at its start: for the build's record."""
    at_start = glob.glob(os.path.join(glob.escape(path), "lib", "python*", "site-packages", "*.pth"))
    texts = ["pyvenv.cfg", *(os.path.relpath(file, path) for file in at_start)]
    frame = {name: "sha256:" + (sha256_or_none(os.path.join(path, name)) or "") for name in texts}
    for name in sorted(os.listdir(os.path.join(path, "bin"))):
        if name.startswith("python") and os.path.islink(os.path.join(path, "bin", name)):
            frame[f"bin/{name}"] = "link:" + os.readlink(os.path.join(path, "bin", name))
    return frame


def _frame_damage(path: str, frame: dict[str, str]) -> list[str]:
    interpreter = os.path.join(path, "bin", "python")
    if not os.access(interpreter, os.X_OK):
        return [f"its interpreter {os.path.realpath(interpreter)} is gone"]
    try:
        found = describe_frame(path)
    except OSError as error:
        return [f"{error.filename} cannot be read: {error.strerror}"]
    changed = [f"{name} was changed" for name in sorted(frame) if found.get(name) != frame[name]]
    lib = os.path.join(path, "lib")
    directories = [path, os.path.join(path, "bin"), lib, *glob.glob(os.path.join(glob.escape(lib), "python*", ""))]
    for directory in directories:
        weakness = judge(directory, os.lstat(directory), shared=False)
        changed += [f"{directory} {weakness.text}"] if weakness else []
    return changed


def describe_records(path: str, site_packages: str, packages: dict[str, str]) -> dict[str, dict[str, str]]:
    """What a build's record says of each package, by its RECORD: that lists the files, so it is itself not to change.

    `records` has its sha256, `contents` one over what the wheel brought, which is the same whoever installs it.
    """
    directory = os.path.join(path, site_packages)
    records, contents = {}, {}
    for name, found in distributions_in(os.listdir(directory)).items():
        if name in packages:
            record = os.path.join(directory, found[0][1], "RECORD")
            records[name] = sha256_or_none(record) or ""
            contents[name] = contents_digest(read_rows(record) or [])
    return {"records": records, "contents": contents}


def find_added(build: Build, damage: Iterable[Damage] = ()) -> list[Addition]:
    """What somebody added to a build or replaced in it (see additions.py); `damage` is what find_damage says of it."""
    if build.record is None:
        # Nothing says what it was made of: whatever is in it may be somebody's.
        is_filled = os.path.isdir(os.path.join(build.path, "lib"))
        return [Addition(f"whatever is in {build.path}, whose {BUILD_RECORD} cannot be read")] if is_filled else []
    site_packages = os.path.join(build.path, build.record["site_packages"])
    suspects = {package for package, _ in damage if package}
    installed = distributions_in(os.listdir(site_packages)) if suspects else {}
    again = {
        name
        for name in suspects & installed.keys()
        if _is_installed_again(name, site_packages, installed[name][0][1], build.record["records"][name])
    }
    return find_additions(build.path, build.record, again)


def other_builds_with(build: Build, additions: list[Addition]) -> list[str]:
    """Digests of the other builds of the same environment that have all of these, too."""
    if build.record is None:
        return []
    others = builds_of(os.path.dirname(os.path.dirname(build.path)), build.record["name"])
    wanted = {addition for addition in additions if not addition.is_tool}
    return sorted(
        other.record["digest"]
        for other in others
        if other.record and other.name != build.name and wanted <= set(find_added(other))
    )


def _is_installed_again(name: str, site_packages: str, dist_info: str, record_sha256: str) -> bool:
    """Is what is there another installation, whole by a RECORD of its own, and not the damaged one?"""
    record = os.path.join(site_packages, dist_info, "RECORD")
    own_sha256 = sha256_or_none(record)
    rows = read_rows(record)
    if not rows or own_sha256 is None or own_sha256 == record_sha256:
        return False
    problem, _ = compare_files(name, site_packages, dist_info, own_sha256)
    return problem is None and f"{dist_info}/METADATA" in {row[0] for row in rows}
