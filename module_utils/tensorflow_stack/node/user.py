"""The user of a node, and where that user's data is."""

from __future__ import annotations

import os
import pwd
from typing import Mapping, NamedTuple


class User(NamedTuple):
    name: str
    uid: int
    home: str


def current_user() -> User:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container started with a bare user id
        name = str(uid)
    home = os.path.expanduser("~")
    return User(name=name, uid=uid, home=home if home.startswith("/") else "/")


def default_environments_root(user: User, environ: Mapping[str, str]) -> str:
    return "/opt/tensorflow" if user.uid == 0 else data_home(user, environ) + "/tensorflow-gpu-stack"


def data_home(user: User, environ: Mapping[str, str]) -> str:
    chosen = environ.get("XDG_DATA_HOME", "")
    # The base directory specification says that a relative path is to be ignored.
    return chosen.rstrip("/") if chosen.startswith("/") else user.home.rstrip("/") + "/.local/share"
