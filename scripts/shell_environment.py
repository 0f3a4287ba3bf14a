"""What the shell of the caller sets: what counts for Ansible is checked, and what would change a run is left out."""

from __future__ import annotations

import glob
import locale
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, MutableMapping

from tensorflow_stack.errors import StackError  # run_playbook.py has made it known

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# For Ansible, if the one of the environment is of another encoding or is not installed.
UTF8_LOCALES = ("C.UTF-8", "C.utf8", "en_US.UTF-8")
# Choose a part of a playbook, which proves nothing.
TAGS = ("ANSIBLE_RUN_TAGS", "ANSIBLE_SKIP_TAGS")
# What Ansible puts into its directory of temporary files at once, and more.
TEMPORARY_BYTES = 1 << 20


def utf8_locale() -> str | None:
    """A locale to set, unless the one of the environment is what Ansible asks for. Raises StackError if none is."""
    for name in ("", *UTF8_LOCALES):
        try:
            locale.setlocale(locale.LC_ALL, name)
            encoding = locale.getlocale()[1]
        except (locale.Error, ValueError):
            continue
        if encoding and encoding.lower() in ("utf-8", "utf8"):
            return name or None
    raise StackError(
        f"Ansible needs a UTF-8 locale, and this machine has none of {', '.join(UTF8_LOCALES)}. Install one "
        "(localedef -i C -f UTF-8 C.UTF-8), or set LC_ALL to one that 'locale -a' lists."
    )


def check_temporary_files(environ: Mapping[str, str]) -> None:
    """Raises StackError if Ansible cannot write its temporary files: it would end with a traceback."""
    setting = next((name for name in ("ANSIBLE_LOCAL_TEMP", "ANSIBLE_HOME") if environ.get(name)), "HOME")
    home = environ.get("ANSIBLE_HOME") or os.path.join("~", ".ansible")
    local = os.path.expanduser(environ.get("ANSIBLE_LOCAL_TEMP") or os.path.join(home, "tmp"))
    for directory, name in ((local, setting), (None, "TMPDIR")):
        try:
            if directory:
                os.makedirs(directory, 0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory) as file:
                file.write(bytes(TEMPORARY_BYTES))
        except OSError as error:
            raise StackError(
                f"Ansible cannot write its temporary files to {directory or tempfile.gettempdir()}: {error.strerror}. "
                f"Set {name} to a directory that you may write and that has free space. Nothing was done."
            ) from None


def check_ansible_settings(environ: Mapping[str, str]) -> None:
    """Raises StackError if a variable of Ansible has a value that it does not take: it would end with a traceback."""
    if not any(name.startswith("ANSIBLE_") for name in environ):
        return
    program = [os.path.join(REPOSITORY, ".venv", "bin", "python"), "-c", "import ansible.constants"]
    try:
        done = subprocess.run(program, env=dict(environ), capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return  # what is wrong with the tools shows when they are started
    said = (done.stderr.strip().splitlines() or [""])[-1]
    named = re.search(r"env: (?P<name>ANSIBLE_\w+)", said)
    if done.returncode and named and named.group("name") in environ:
        name = named.group("name")
        raise StackError(
            f"{name}={environ[name]} in the environment is no value that Ansible takes "
            f"({said.partition(': ')[2].rstrip('.')}). Unset it, or set it to another one. Nothing was done."
        )


def forget_tags(environ: MutableMapping[str, str]) -> list[str]:
    """Remove what would have every command do a part of its work and end well."""
    names = [name for name in TAGS if environ.pop(name, "")]
    return [f"ignored in the environment, because a part of a playbook proves nothing: {', '.join(names)}"] * bool(
        names
    )


def callback_notes(environ: Mapping[str, str]) -> list[str]:
    """A line if the environment asks for a screen of a collection: Ansible says only that it fails to load it."""
    name = environ.get("ANSIBLE_STDOUT_CALLBACK", "")
    known = os.path.join(
        REPOSITORY, ".venv", "lib", "python*", "site-packages", "ansible", "plugins", "callback", "*.py"
    )
    paths = [*glob.glob(known), *glob.glob(os.path.join(REPOSITORY, "callback_plugins", "*.py"))]
    if not name or name.rpartition("ansible.builtin.")[2] in [os.path.basename(path)[:-3] for path in paths]:
        return []
    return [
        f"ANSIBLE_STDOUT_CALLBACK={name}: not part of ansible-core. If Ansible does not load it, unset it or install "
        "its collection (.venv/bin/ansible-galaxy collection install ansible.posix for json). reports/<host>.json has "
        "each result as JSON in any case."
    ]


def forget_other_python(environ: MutableMapping[str, str]) -> list[str]:
    """Remove what a shell says to every Python, such as where its packages are: the tools have their own.

    A line for the two that somebody may miss.
    """
    names = [name for name in environ if re.fullmatch("PYTHON[A-Z0-9]+", name)]
    for name in names:
        del environ[name]
    told = [name for name in ("PYTHONHOME", "PYTHONPATH") if name in names]
    return (
        [f"ignored in the environment, because the tools have packages of their own: {', '.join(told)}"] if told else []
    )
