"""Where a user's environments are."""

from __future__ import annotations

from ansible.module_utils.tensorflow_stack.node.user import User, default_environments_root


def test_defaults_of_the_environments_root() -> None:
    root, ada = User("root", 0, "/root"), User("ada", 1000, "/home/ada")
    assert default_environments_root(root, {}) == "/opt/tensorflow"
    assert default_environments_root(ada, {}) == "/home/ada/.local/share/tensorflow-gpu-stack"
    assert default_environments_root(ada, {"XDG_DATA_HOME": "/data"}) == "/data/tensorflow-gpu-stack"
    assert default_environments_root(ada, {"XDG_DATA_HOME": "data"}).startswith("/home/ada/")
