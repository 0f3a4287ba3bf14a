"""The kernel by which Jupyter starts an environment: one file, by the environment's stable path.

A kernelspec that this toolkit did not make for the same environment is neither changed nor removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Mapping, NamedTuple

from ..errors import BuildError
from ..io.reading import parse_object, read_whole
from ..io.writing import is_leftover, remove_leftovers, write_text
from ..records.distributions import distributions_in
from ..records.environment import check_name
from .builds import environment_names, live_build
from .changes import listed_environments
from .root import check_root

# Jupyter looks there whoever runs it.
_FOR_ALL_USERS = "/usr/local/share/jupyter/kernels"
_OWN = "tensorflow_gpu_stack"
_MOST_BYTES = 1 << 20


class KernelOutcome(NamedTuple):
    """What was, or in check mode would be, done to a kernelspec; texts are those of its file, "" for none."""

    path: str
    before: str
    after: str
    message: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


def default_directory(environ: Mapping[str, str]) -> str:
    """Of kernelspecs: root's are for all users, because its environments are, too."""
    if os.geteuid() == 0:
        return _FOR_ALL_USERS
    data = environ.get("JUPYTER_DATA_DIR")
    if not data:
        home = environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
        data = os.path.join(home, "jupyter")
    return os.path.join(data, "kernels")


def present(root: str, name: str, directory: str, *, check_mode: bool) -> KernelOutcome:
    """Have Jupyter find the environment; raises BuildError if it cannot start there, or if the name is taken."""
    check_name(name)
    check_root(root)
    live = live_build(root, name)
    if live is None or live.record is None:
        raise BuildError(f"There is no environment {name} in {root}: {listed_environments(environment_names(root))}.")
    environment = os.path.join(root, name)
    if "ipykernel" not in distributions_in(os.listdir(os.path.join(live.path, live.record["site_packages"]))):
        raise BuildError(
            f"{environment} has no ipykernel, with which Jupyter starts it. Add it (make add PACKAGES=ipykernel "
            f"ENVIRONMENT={name}), and run again."
        )
    path = _path_of(directory, name)
    before, other = _read(path, environment)
    if other:
        raise BuildError(f"{path} {other}; nothing was changed. Move it away, or set kernel_directory to another.")
    after = _text(environment, live.record["release"])
    if before != after and not check_mode:
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            write_text(path, after)
        except OSError as error:
            raise BuildError(
                f"{path} cannot be written: {error.strerror}. Set kernel_directory to a directory of yours.", path=path
            ) from error
    display_name = json.loads(after)["display_name"]
    return KernelOutcome(path, before, after, f"{display_name}: the kernel of {environment}\n{path}")


def absent(root: str, name: str, directory: str, *, check_mode: bool) -> KernelOutcome:
    """Remove the kernelspec of an environment, which may be gone already."""
    check_name(name)
    path = _path_of(directory, name)
    before, other = _read(path, os.path.join(root, name))
    if other or not before:
        if not other and not check_mode:
            _remove_folder(path)
        return KernelOutcome(path, "", "", f"nothing to remove: {path} {other or 'does not exist'}")
    if not check_mode:
        try:
            os.unlink(path)
        except OSError as error:
            raise BuildError(f"{path} cannot be removed: {error.strerror}. Run as its owner.", path=path) from error
        _remove_folder(path)
    return KernelOutcome(path, before, "", f"no kernel of {os.path.join(root, name)}\n{path} is removed")


def _remove_folder(path: str) -> None:
    """The directory of a kernelspec, if nothing of anybody's is in it; also what a run left that was killed."""
    folder = os.path.dirname(path)
    # Somebody else's file may be in it by now.
    with contextlib.suppress(OSError):
        remove_leftovers(folder, os.path.basename(path))
        os.rmdir(folder)


def _path_of(directory: str, name: str) -> str:
    if not os.path.isabs(directory):
        raise BuildError(f"The directory of kernels is {directory!r}. Set kernel_directory to an absolute path.")
    # What Jupyter accepts as a name; it finds no other.
    return os.path.join(directory, re.sub(r"[^a-z0-9._-]", "-", name.lower()), "kernel.json")


def _read(path: str, environment: str) -> tuple[str, str]:
    """The text of the file if this toolkit made it for that environment, and what is there if it did not."""
    folder = os.path.dirname(path)
    if os.path.islink(folder) or (os.path.lexists(folder) and not os.path.isdir(folder)):
        return "", "is not in a directory of its own: a link or a file has that name"
    try:
        text = read_whole(path, _MOST_BYTES, follow=False)
        content = parse_object(text)
    except FileNotFoundError:
        # Another kernel in other files than the one that is missing.
        found = os.listdir(folder) if os.path.isdir(folder) else []
        is_somebodys = any(not is_leftover(entry, os.path.basename(path)) for entry in found)
        return "", "is in a directory with files that this toolkit did not make" if is_somebodys else ""
    except (OSError, ValueError) as error:
        return "", f"was not made by this toolkit ({error})"
    metadata = content.get("metadata")
    own = metadata.get(_OWN) if isinstance(metadata, dict) else None
    if not isinstance(own, dict):
        return "", "was not made by this toolkit"
    if own.get("environment") != environment:
        return "", f"is the kernel of {own.get('environment')}"
    return text.decode("utf-8"), ""


def _text(environment: str, release: str) -> str:
    name = os.path.basename(environment)
    is_of_release = name == f"tensorflow-{release}"
    content = {
        "argv": [os.path.join(environment, "bin", "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": f"TensorFlow {release}" if is_of_release else f"{name} (TensorFlow {release})",
        "language": "python",
        "metadata": {"debugger": True, _OWN: {"environment": environment}},
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
