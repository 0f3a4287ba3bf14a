"""How a build differs from what was installed, and what somebody added to it."""

from __future__ import annotations

import glob
import os
import stat
from typing import Any, Callable, Container, Iterable, Mapping, NamedTuple

from ..io.trust import judge
from ..records.additions import TOOLS, Addition, find_additions, is_empty, is_passing
from ..records.build import BUILD_RECORD
from ..records.distributions import contents_digest, distributions_in, is_same_version, read_rows
from ..records.image_note import note_path
from .builds import Build, builds_of
from .installed_files import Bytecode, Recorded, compare_files, find_changed, sha256_or_none
from .shared_packages import Linked


class Damage(NamedTuple):
    """One way in which a build is not what it was; `package` is None where it is not one package's."""

    package: str | None
    text: str


class Comparison(NamedTuple):
    """Of a build with what was installed: what is wrong, and what was added inside of its packages' directories."""

    damage: list[Damage]
    inside: list[str]


def find_damage(
    build: Build, *, hashed: Container[str] = (), progress: Callable[[int, int], None] | None = None
) -> list[Damage]:
    return compare_build(build, hashed=hashed, progress=progress).damage


def compare_build(
    build: Build,
    *,
    hashed: Container[str] = (),
    is_new: bool = False,
    skipped: Container[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """What is wrong with a complete build; no damage when all that it was built from is in it, whole.

    What was added to it is no damage (see additions.py), nor is another version of a tool. Name, kind, size and mode of
    every installed file are looked at (under 0.1 s for TensorFlow 2.8.0); contents and bytecode of the packages in
    `hashed`, and of files that were written to since the build was complete. Additions inside are looked for in the
    directories of the packages in `hashed`, and in those that were written to. Bytecode of a build that `is_new`, and
    all of `skipped`, was compared just now. `progress` gets how many packages were compared, and of how many.
    """
    if build.record is None:
        return Comparison([Damage(None, f"{build.name} {_why_incomplete(build)}")], [])
    damage = [Damage(None, text) for text in _frame_damage(build.path, build.record["frame"])]
    site_packages = os.path.join(build.path, build.record["site_packages"])
    try:
        installed = distributions_in(os.listdir(site_packages))
    except OSError as error:
        return Comparison([*damage, Damage(None, f"{site_packages} cannot be read: {error.strerror}")], [])
    complete_since = _written_at(os.path.join(build.path, BUILD_RECORD))
    tag = None if is_new else "cpython-" + build.record["python"]["minor"].replace(".", "")
    in_question: list[Recorded] = []
    bytecode: list[Bytecode] = []
    folders: set[str] = set()
    packages = sorted((name, version) for name, version in build.packages.items() if name not in skipped)
    for number, (name, version) in enumerate(packages):
        if progress:
            progress(number, len(build.packages))
        others = [other for other, _ in installed.get(name, []) if not is_same_version(other, version)]
        if name not in installed:
            damage.append(Damage(name, f"{name} {version} is not installed"))
        elif others:
            damage += [] if name in TOOLS else [Damage(name, f"{name} is {others[0]}, not {version}")]
        else:
            looked = compare_files(
                name,
                site_packages,
                installed[name][0][1],
                build.record["records"][name],
                contents_sha256=(build.record.get("contents") or {}).get(name),
                hashes=name in hashed,
                complete_since=complete_since,
                tag=tag,
            )
            damage += [Damage(name, f"{name}: {looked.problem}")] if looked.problem else []
            in_question += looked.in_question
            bytecode += looked.bytecode
            folders.update(looked.folders)
    named = {found.package for found in damage}
    changed = _changed_contents(build.path, site_packages, in_question, bytecode)
    damage += [Damage(name, f"{name}: {text}") for name, text in changed if name not in named]
    damage += _link_damage(build.path, build.record["links"]) + _image_damage(build, hashed)
    more, inside = _compare_unlisted(build.path, build.record, folders, in_question, is_new=is_new)
    return Comparison(damage + more, inside)


def _why_incomplete(build: Build) -> str:
    return "is an image that is not mounted" if os.path.lexists(note_path(build.path)) else "is not complete"


def _image_damage(build: Build, hashed: Container[str]) -> list[Damage]:
    """Of the file of an image: with hashes, because the kernel shows what it has of it in its memory."""
    if build.record is None or not build.record.get("image") or not any(name in hashed for name in build.packages):
        return []
    from .images import find_damage as find_image_damage  # most nodes have none

    return [Damage(None, text) for text in find_image_damage(build.path, build.record["image"])]


def _changed_contents(
    path: str, site_packages: str, files: list[Recorded], bytecode: list[Bytecode]
) -> list[tuple[str, str]]:
    changed = find_changed(files)
    if bytecode:
        from .compared_bytecode import find_changed_bytecode  # a run that changes nothing does without the import

        changed += find_changed_bytecode(path, site_packages, bytecode)
    return changed


def _compare_unlisted(
    path: str, record: dict[str, Any], folders: Iterable[str], in_question: Iterable[Recorded], *, is_new: bool
) -> tuple[list[Damage], list[str]]:
    """Of what is in these directories and no RECORD has a hash of: what changed since it was built, what is new."""
    # What a wheel has and does not list: uv adds it to the RECORD, without a hash.
    without_hash = [os.path.join(record["site_packages"], file.name) for file in in_question if not file.hash]
    # additions.py looks at the directory of all packages, and beside it.
    inner = [folder for folder in folders if folder and not folder.startswith("..")]
    found = find_unlisted(path, record, inner) if inner else []
    known = record.get("unlisted") or {}
    damage = [
        Damage(None, f"the contents of {name} differ from what was installed")
        for name in [*found, *without_hash]
        if name in known and describe_file(path, name) != known[name]
    ]
    return damage, [name for name in found if name not in known] + (without_hash if is_new else [])


def _link_damage(path: str, links: dict[str, str]) -> list[Damage]:
    damage = []
    for link, target in sorted(links.items()):
        place = os.path.join(path, link)
        if not os.path.islink(place) or os.readlink(place) != target:
            damage.append(Damage(None, f"the library link {link} is not there"))
        elif not os.path.exists(place):
            damage.append(Damage(None, f"the library {target} behind {link} is gone"))
    return damage


def find_unlisted(path: str, record: dict[str, Any], folders: Iterable[str]) -> list[str]:
    """What no distribution lists of what is in these directories below site-packages, by its path below the build."""
    below = record["site_packages"]
    site_packages = os.path.join(path, below)
    expected: dict[str, set[str]] = {}

    def expect(name: str) -> None:
        folder, _, entry = name.rpartition("/")
        while entry not in expected.setdefault(folder, set()):
            expected[folder].add(entry)
            folder, _, entry = folder.rpartition("/")

    for found in distributions_in(os.listdir(site_packages)).values():
        for _, dist_info in found:
            for row in read_rows(os.path.join(site_packages, dist_info, "RECORD")) or []:
                expect(row[0])
    for link in record["links"]:
        expect(os.path.relpath(link, below))
    added = []
    for folder in sorted(folders):
        try:
            entries = os.listdir(os.path.join(site_packages, folder))
        except OSError:
            continue  # which is damage, and was said
        for entry in sorted(set(entries) - expected.get(folder, set())):
            name = os.path.join(below, folder, entry)
            if not is_passing(entry) and not is_empty(os.path.join(path, name)):
                added.append(name)
    return added


def describe_file(path: str, name: str) -> str:
    place = os.path.join(path, name)
    return "link:" + os.readlink(place) if os.path.islink(place) else "sha256:" + (sha256_or_none(place) or "")


def _written_at(path: str) -> int | None:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return None


def describe_frame(path: str) -> dict[str, str]:
    """What makes a directory a venv of its interpreter, and what runs at its start: for the build's record."""
    at_start = glob.glob(os.path.join(glob.escape(path), "lib", "python*", "site-packages", "*.pth"))
    texts = ["pyvenv.cfg", "lock.txt", *(os.path.relpath(file, path) for file in at_start)]
    for name in sorted(os.listdir(os.path.join(path, "bin"))):
        # What a shell reads; programs of packages are in their RECORDs.
        if name.lower().startswith(("activate", "deactivate")):
            texts.append(f"bin/{name}")
    links = [f"bin/{name}" for name in os.listdir(os.path.join(path, "bin")) if name.startswith("python")] + ["lib64"]
    return {
        **{name: describe_file(path, name) for name in texts},
        **{name: describe_file(path, name) for name in sorted(links) if os.path.islink(os.path.join(path, name))},
    }


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
    below_lib = glob.glob(os.path.join(glob.escape(lib), "python*"))
    below_lib += [os.path.join(directory, "site-packages") for directory in below_lib]
    for directory in [path, os.path.join(path, "bin"), lib, *below_lib]:
        try:
            status = os.lstat(directory)
        except FileNotFoundError:
            continue
        weakness = judge(directory, status, shared=False)
        changed += [f"{directory} {weakness.text}"] if weakness else []
        changed += [] if stat.S_ISDIR(status.st_mode) else [f"{directory} is no longer a directory"]
    return changed


def describe_records(
    path: str, site_packages: str, packages: dict[str, str], linked: Mapping[str, Linked]
) -> dict[str, dict[str, str]]:
    """What a build's record says of each package, by its RECORD: that lists the files, so it is itself not to change.

    `records` has its sha256, `contents` one over what the wheel brought, which is the same whoever installs it. Of what
    was `linked` they are known.
    """
    directory = os.path.join(path, site_packages)
    records = {name: known.record_sha256 for name, known in linked.items()}
    contents = {name: known.contents_sha256 for name, known in linked.items()}
    for name, found in distributions_in(os.listdir(directory)).items():
        if name in packages and name not in linked:
            record = os.path.join(directory, found[0][1], "RECORD")
            records[name] = sha256_or_none(record) or ""
            contents[name] = contents_digest(read_rows(record) or [])
    return {"records": records, "contents": contents}


def find_added(build: Build, compared: Comparison | None = None) -> list[Addition]:
    """What somebody added to a build or replaced in it (see additions.py); `compared` is what compare_build says.

    Without that, what was added inside of packages is not among it.
    """
    if build.record is None:
        # Nothing says what it was made of: whatever is in it may be somebody's.
        is_filled = os.path.isdir(os.path.join(build.path, "lib"))
        return [Addition(f"whatever is in {build.path}, whose {BUILD_RECORD} cannot be read")] if is_filled else []
    damage, inside = compared or Comparison([], [])
    site_packages = os.path.join(build.path, build.record["site_packages"])
    suspects = {package for package, _ in damage if package}
    installed = distributions_in(os.listdir(site_packages)) if suspects else {}
    again = {
        name
        for name in suspects & installed.keys()
        if _is_installed_again(name, site_packages, installed[name][0][1], build.record["records"][name])
    }
    return find_additions(build.path, build.record, again, inside)


def other_builds_with(build: Build, additions: list[Addition]) -> list[str]:
    """Digests of the other builds of the same environment that have all of these, too."""
    if build.record is None:
        return []
    others = builds_of(os.path.dirname(os.path.dirname(build.path)), build.record["name"])
    wanted = {addition for addition in additions if not addition.is_tool}
    return sorted(
        other.record["digest"]
        for other in others
        if other.record and other.name != build.name and wanted <= set(find_added(other, compare_build(other)))
    )


def _is_installed_again(name: str, site_packages: str, dist_info: str, record_sha256: str) -> bool:
    """Is what is there another installation, whole by a RECORD of its own, and not the damaged one?"""
    record = os.path.join(site_packages, dist_info, "RECORD")
    own_sha256 = sha256_or_none(record)
    rows = read_rows(record)
    if not rows or own_sha256 is None or own_sha256 == record_sha256:
        return False
    problem = compare_files(name, site_packages, dist_info, own_sha256).problem
    return problem is None and f"{dist_info}/METADATA" in {row[0] for row in rows}
