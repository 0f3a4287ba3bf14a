"""Rules of the resolution one by one; whole plans are in test_plan.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.planning import resolution
from ansible.module_utils.tensorflow_stack.planning.node import NodeFacts
from ansible.module_utils.tensorflow_stack.planning.stack import Policy, Python
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables

from tests import nodes

TABLES = Path(__file__).resolve().parents[4] / "roles" / "tensorflow_release" / "files" / "tables"


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(TABLES))


def python(
    path: str, origin: str, minor: str = "3.10", *, public: bool = True, distutils: bool = True
) -> dict[str, Any]:
    row = {"version": f"{minor}.1", "minor": minor, "path": path, "origin": origin}
    return {**row, "distutils": distutils, "public": public}


def node(*pythons: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A Debian 12 of root's with these Pythons, and nothing else."""
    unknown = ("boot_id", "secure_boot", "manifest")
    nothing = ("kernels", "kinds", "gpus", "other_gpus", "cuda", "cudnn", "environments")
    return {
        **dict.fromkeys(unknown),
        **{name: [] for name in nothing},
        "architecture": "x86_64",
        "c_library": "glibc",
        "glibc": "2.36",
        "os": {"id": "debian", "version_id": "12", "family": "debian", "name": "Debian 12"},
        "user": {"name": "root", "uid": 0, "home": "/root"},
        "nvswitches": 0,
        "dkms": False,
        "yum_repositories": [],
        "driver": {**dict.fromkeys(("loaded", "kind", "installed", "libcuda")), "other_libcuda": []},
        "modules": {"nouveau": False, "nova_core": False},
        "pythons": list(pythons),
        "managed": {},
        "variables": {},
        "environments_root": {"path": "/opt/tensorflow", "writable": True},
        "unread": [],
        **changes,
    }


def chosen(tables: Tables, node: dict[str, Any], **policy: Any) -> Python:
    assessment = resolution.assess_wish(tables, "2.8.0", NodeFacts.read(node), Policy(**policy))
    assert assessment.stack is not None, assessment.refusals
    return assessment.stack.python


def test_a_python_before_3_10_without_distutils_is_completed_by_the_distribution(tables: Tables) -> None:
    bare = python("/usr/bin/python3.9", "system", "3.9", distutils=False)
    machine = node(bare, os={"id": "debian", "version_id": "11", "name": "Debian 11"})
    assert chosen(tables, machine, python="3.9").package == "python3.9-venv"
    machine = node({**bare, "minor": "3.10", "path": "/usr/bin/python3.10"})
    assert chosen(tables, machine, python="3.10").source == "found"


def test_a_download_is_named_with_what_else_would_do(tables: Tables) -> None:
    def warning(*pythons: dict[str, Any], **policy: Any) -> str:
        facts = NodeFacts.read(node(*pythons))
        stack = resolution.assess_wish(tables, "2.8.0", facts, Policy(**policy)).stack
        assert stack
        (text,) = resolution.warn_of_download(tables, stack, facts, Policy(**policy))
        return text

    assert warning(python("/usr/bin/python3.11", "system", "3.11")) == (
        "Python 3.10 is downloaded from releases.astral.sh or github.com (about 36 MB). If this node cannot reach "
        "them, set python_mirror to a mirror of python-build-standalone, or install Python 3.8, 3.9 or 3.10 yourself. "
        "On the Pythons of this node, TensorFlow 2.12.0 to 2.21.0 can run."
    )
    of_the_site = warning(python_mirror="https://mirror.example.org/pythons")
    assert of_the_site.startswith(
        "Python 3.10 is downloaded from https://mirror.example.org/pythons (about 36 MB). If this node cannot reach it,"
    )
    assert of_the_site.endswith("No release runs on the Pythons of this node.")


def test_the_newest_minor_and_then_the_most_lasting_origin(tables: Tables) -> None:
    pythons = [
        python("/usr/bin/python3.9", "system", "3.9"),
        python("/root/.pyenv/versions/3.10.1/bin/python3.10", "pyenv"),
        python("/usr/bin/python3.10", "system"),
    ]
    assert chosen(tables, node(*pythons)).path == "/usr/bin/python3.10"


def test_an_environment_keeps_its_interpreter_when_a_better_one_appears(tables: Tables) -> None:
    mine = "/root/.pyenv/versions/3.10.1/bin/python3.10"
    environment = nodes.environment(python={"minor": "3.10", "path": mine, "real_path": mine})
    machine = node(python("/usr/bin/python3.10", "system"), python(mine, "pyenv"), environments=[environment])
    assert chosen(tables, machine).path == mine


def test_an_environment_keeps_its_minor_when_a_newer_one_appears(tables: Tables) -> None:
    mine = "/usr/bin/python3.9"
    environment = nodes.environment(python={"minor": "3.9", "path": mine, "real_path": mine})
    pythons = [python(mine, "system", "3.9"), python("/usr/bin/python3.10", "system")]
    assert chosen(tables, node(*pythons, environments=[environment])).path == mine


def test_root_takes_an_interpreter_that_all_may_start(tables: Tables) -> None:
    hidden = python("/usr/local/hidden/bin/python3.10", "system", public=False)
    assert chosen(tables, node(hidden, python("/opt/python/bin/python3.10", "opt"))).path.startswith("/opt")
    stack = resolution.assess_wish(tables, "2.8.0", NodeFacts.read(node(hidden)), Policy()).stack
    assert stack is not None
    assert "Only root can use this environment: its interpreter /usr/local/hidden" in stack.warnings[0]


def test_an_interpreter_that_uv_fetched_is_the_same_one_in_the_next_run(tables: Tables) -> None:
    planned = chosen(tables, node(user={"name": "u", "uid": 1000, "home": "/home/u"}))
    assert planned.source == "uv"
    real = planned.path.replace("cpython-3.10-", "cpython-3.10.22-")
    environment = nodes.environment(python={"minor": "3.10", "path": planned.path, "real_path": real})
    machine = node(python(real, "uv"), environments=[environment])
    for source in ("auto", "uv"):
        again = chosen(tables, machine, python_source=source)
        assert (again.source, again.path) == ("found", planned.path)


def test_an_interpreter_that_is_gone_is_replaced(tables: Tables) -> None:
    environment = nodes.environment(python={"minor": "3.10", "path": "/gone/python3.10", "real_path": None})
    machine = node(python("/usr/bin/python3.10", "system"), environments=[environment])
    assert chosen(tables, machine).path == "/usr/bin/python3.10"


def test_the_distributions_package_that_is_installed_is_found(tables: Tables) -> None:
    pythons = [python("/opt/python3.10/bin/python3.10", "opt"), python("/usr/bin/python3.10", "system")]
    found = chosen(tables, node(*pythons), python_source="distro")
    assert (found.source, found.path) == ("found", "/usr/bin/python3.10")


@pytest.mark.parametrize(
    ("policy", "uid", "advice"),
    [
        ({}, 0, "Install one of these (PATH, /usr/bin, pyenv, /opt and uv's directory are searched)."),
        ({"python_source": "found"}, 0, "are searched), or allow more with python_source: auto."),
    ],
    ids=["nothing else to do", "another source"],
)
def test_how_to_get_a_python_names_only_what_is_not_so_already(
    tables: Tables, policy: dict[str, str], uid: int, advice: str
) -> None:
    machine = node(python("/usr/bin/python3.11", "system", "3.11"), user={"name": "u", "uid": uid, "home": "/"})
    (refusal,) = resolution.assess_wish(tables, "1.15.0", NodeFacts.read(machine), Policy(**policy)).refusals
    assert refusal.set.endswith(advice)


def refusals(tables: Tables, release: str, **changes: Any) -> list[str]:
    machine = node(python("/usr/bin/python3.10", "system", "3.10"), **changes)
    return [row.message for row in resolution.assess_wish(tables, release, NodeFacts.read(machine), Policy()).refusals]


@pytest.mark.parametrize(("release", "oldest"), [("2.21.0", "2.27"), ("2.20.0", "2.17"), ("2.8.0", "2.12")])
def test_a_c_library_that_is_too_old_is_refused(tables: Tables, release: str, oldest: str) -> None:
    before = f"2.{int(oldest[2:]) - 1}"
    assert not refusals(tables, release, glibc=oldest)
    assert not refusals(tables, release, glibc=None)
    (message,) = refusals(tables, release, glibc=before)
    assert message == (
        f"package: wanted a wheel of TensorFlow {release}, which needs glibc {oldest} or newer; found glibc {before}. "
        "Set tensorflow_version to an older release, or use a newer distribution."
    )


def test_musl_is_refused(tables: Tables) -> None:
    (message,) = refusals(tables, "2.8.0", c_library="musl", glibc=None)
    assert "exists for the GNU C library (glibc); found the C library musl (Debian 12). Use a distribution" in message


def test_an_unknown_architecture_is_said_with_its_reason(tables: Tables) -> None:
    unread = [{"fact": "architecture", "reason": "/bin/sh is built for ppc64le"}]
    (message,) = refusals(tables, "2.8.0", architecture=None, unread=unread)
    assert "found a node of an unknown architecture (/bin/sh is built for ppc64le). Use a node of that arch" in message


def test_no_python_is_downloaded_where_it_would_not_start(tables: Tables) -> None:
    assert refusals(tables, "2.8.0", c_library=None) == []  # the installed one starts
    machine = node(c_library=None)
    (refusal,) = resolution.assess_wish(tables, "2.8.0", NodeFacts.read(machine), Policy(python="3.10")).refusals
    assert "or a loader for programs from elsewhere (nix-ld on NixOS), which a downloaded Python needs." in refusal.set


def test_every_reason_is_said_next_to_a_missing_python(tables: Tables, tmp_path: Path) -> None:
    machine = {**nodes.read("guix_a100", tmp_path), "pythons": []}
    found = resolution.assess_wish(tables, "2.18.1", NodeFacts.read(machine), Policy()).refusals
    assert [refusal.component for refusal in found] == ["python", "driver"]
