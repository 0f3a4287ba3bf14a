"""What docs/support.md says of ansible-core is what the installed one says of itself."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import ansible
import support_docs
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]


def test_nodes_have_a_python_of_the_installed_ansible_core() -> None:
    constants = importlib.import_module("ansible_test._util.target.common.constants")
    nodes = [*constants.REMOTE_ONLY_PYTHON_VERSIONS, *constants.CONTROLLER_PYTHON_VERSIONS]
    minor = ".".join(ansible.__version__.split(".")[:2])
    assert support_docs.NODE_PYTHONS[minor] == (nodes[0], nodes[-1])


def test_every_locked_ansible_core_has_a_row() -> None:
    minors = {".".join(version.split(".")[:2]) for version, _ in support_docs.locked_cores()}
    assert minors == set(support_docs.NODE_PYTHONS)


def test_images_and_private_roots_exist() -> None:
    images = yaml.safe_load((REPOSITORY / "tests/hosts/images.yml").read_text())
    assert set(support_docs.IMAGES.values()) == set(images)
    roots = re.findall(r'"([a-z]+\d+)"', re.findall(r"^DISTRIBUTIONS = .*", _text("tests/package_nodes.py"), re.M)[0])
    assert sorted(support_docs.ROOTS.values()) == sorted(roots)


def _text(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")
