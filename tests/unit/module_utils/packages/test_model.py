from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.errors import RefusedError
from ansible.module_utils.tensorflow_stack.packages.debian import compare_versions
from ansible.module_utils.tensorflow_stack.packages.model import (
    InstalledPackage,
    PackageRefusal,
    PackageRequest,
    Transaction,
    WantedPackage,
    matches,
    refuse,
    sort_transaction,
)

STATE = {name: InstalledPackage(name, "8.6-1", "amd64") for name in ("libcudnn8", "libcudnn8-dev", "app")}


def test_name_matches_whatever_its_architecture() -> None:
    assert matches("libcuda1:i386", ["*nvidia*", "libcuda1"])
    assert not matches("libcuda1-i386", ["libcuda1"])


def test_kinds_of_a_transaction() -> None:
    versions = {"libcudnn8": "8.1-1", "libcudnn8-dev": "8.6-1", "app": "8.7-1", "new": "1"}
    transaction = sort_transaction(versions, {"old": "1"}, STATE, compare_versions)
    assert transaction.texts() == {
        "install": ["new=1"],
        "upgrade": ["app=8.7-1"],
        "downgrade": ["libcudnn8=8.1-1"],
        "remove": ["old=1"],
        "reinstall": ["libcudnn8-dev=8.6-1"],
    }
    assert transaction.resulting_versions == versions and transaction and not Transaction()


def test_refusal_says_all_and_has_rows() -> None:
    refuse("cudnn", [])
    with pytest.raises(RefusedError, match="One. Two. Nothing was changed.") as caught:
        refuse("cudnn", [PackageRefusal("vanished", ("a",), "One."), PackageRefusal("downgrade", ("b",), "Two.")])
    rows = caught.value.details["refusals"]
    assert rows[0] == {"component": "cudnn", "reason": "vanished", "packages": ["a"], "message": "One."}


def test_request_as_a_message_has_it() -> None:
    packages = (WantedPackage("libcudnn8", "8.1-1"), WantedPackage("libcudnn8-dev"))
    assert str(PackageRequest("cudnn", "nvidia_repo", packages, ("libcudnn*",))) == "libcudnn8 8.1-1, libcudnn8-dev"
