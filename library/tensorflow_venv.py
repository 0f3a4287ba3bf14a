#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: one environment of one TensorFlow release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_venv
short_description: Build, roll back or remove the environment of one TensorFlow release
version_added: "1.0.0"
description:
  - Builds a virtual environment from a lock with hashes next to the one in use, imports TensorFlow in it, and only
    then switches a symbolic link to it. A run that is killed at any moment leaves the environment in use unchanged.
  - An environment that matches its lock is recognised without starting pip, uv or its Python. Names and sizes
    of all installed files are compared each time, so a damaged environment is detected and built again.
  - Additions by a person are no damage. They are listed, and a run that would lose them stops before it builds.
  - Two runs on one environment exclude each other by a kernel lock.
  - What was applied last has a stable path, the link C(current) in O(root). The manifest in O(root) has a history of
    what was in use.
options:
  time_limit:
    type: float
    default: 7200
    description: Seconds that each program may run for that the module starts; then it is stopped, and the module fails.
  name:
    description:
      - Name of the environment; its path is O(root)/O(name).
      - Required unless O(state=previous). If it is not set there, the history of O(root) decides.
    type: str
  root:
    description: Directory of all environments. Nobody but its owner and root may be able to write to it.
    type: path
    required: true
  state:
    description:
      - V(present) builds or repairs the environment from O(lock).
      - V(previous) switches back to what was in use before the last change, whichever environment that is; with
        O(name), to the build of that environment that was in use before. Each further run goes further back. Builds
        that were removed or are damaged are passed over. Additions stay in their build.
      - V(absent) removes it with all its builds, unless a process uses it.
    type: str
    choices: [present, previous, absent]
    default: present
  lock:
    description:
      - Text of the lock to install with O(state=present). If not set, the lock of the environment in use.
    type: str
  requirements:
    description: The requirements file of O(lock), for the manifest. Not set for the lock of a release alone.
    type: str
  asked:
    description: Variables of the inventory that the environment is built with, for the manifest.
    type: dict
    default: {}
  by:
    description: Who runs this, for the history. Ansible sets it to the user and host of the controller.
    type: str
  python:
    description: Absolute path of the interpreter to build with. Required when O(state=present).
    type: path
  digest:
    description:
      - Digest of the planned environment. If set, another digest is refused, so that a lock that changed after the plan
        was made is not built.
    type: str
  library_directories:
    description:
      - Directories with CUDA and cuDNN libraries to link into site-packages, so that TensorFlow finds them without an
        environment variable. Relative paths are below site-packages and may contain V(*).
    type: list
    elements: str
    default: []
  visible_gpus:
    description:
      - The GPUs that the environment may use, as CUDA_VISIBLE_DEVICES counts them in the order of their PCI addresses
        (C(0,2)). Its Python sets that variable at each start, unless somebody set it.
      - If not set, every GPU.
    type: str
  image:
    description:
      - An image of the environment (make image), which is mounted instead of built, by systemd at each boot. It must be
        of the environment that O(lock), O(python) and the libraries describe.
    type: dict
    suboptions:
      source: {type: str, required: true, description: Its path or URL.}
      sha256: {type: str, required: true, description: Its sha256.}
      bytes: {type: int, required: true, description: Its size.}
      verity_sha256: {type: str, required: true, description: The sha256 of its hash tree.}
      verity_bytes: {type: int, required: true, description: The size of that.}
      root_hash: {type: str, required: true, description: The root hash of dm-verity.}
      protection:
        description: V(compared) compares all of it before it is mounted, V(dm-verity) each block when it is read.
        type: str
        required: true
        choices: [compared, dm-verity]
  cuda:
    description:
      - CUDA that the environment uses, for its record. If it has a C(prefix), its C(ptxas) and libdevice are linked
        into site-packages, where TensorFlow looks for them from 2.14 on. For an older TensorFlow, XLA_FLAGS is set at
        each start of the environment's Python.
    type: dict
    suboptions:
      version:
        description: Its version.
        type: str
        required: true
      source:
        description: The plan's source of it, such as V(wheels).
        type: str
        required: true
      prefix:
        description: The directory of a CUDA on the node.
        type: path
  cudnn:
    description: cuDNN that the environment uses, for its record.
    type: dict
    suboptions:
      version:
        description: Its version.
        type: str
        required: true
      source:
        description: The plan's source of it, such as V(wheels).
        type: str
        required: true
  keep:
    description:
      - Number of builds of the environment to keep, including the one in use. Builds in use by a process are always
        kept, and builds with additions that the one in use does not have.
    type: int
    default: 2
  additions:
    description:
      - What to do if a new build would lose distributions or files that somebody added to the environment or replaced
        in it. V(keep) and V(stop) list them and fail before anything is built. V(drop) builds without them.
      - With V(keep), the plan has put them into O(lock) already, so that nothing is lost.
      - With V(drop), builds with additions that are beyond O(keep) are removed like others.
    type: str
    choices: [keep, stop, drop]
    default: keep
  installer:
    description: V(uv) is downloaded by the module itself; V(pip) is that of O(python), for Pythons that uv refuses.
    type: str
    choices: [uv, pip]
    default: uv
  uv:
    description:
      - The pinned uv, a row of the table C(uv). Required if O(installer=uv) and something is installed.
    type: dict
  index_url:
    description: Package index to install from; the default index of the installer if not set.
    type: str
  fetch_url:
    description: >-
      Package index of this run alone, such as one that the controller serves to a fleet. It takes the place of
      O(index_url), which is recorded.
    type: str
  offline:
    description: Install only from uv's cache below O(root).
    type: bool
    default: false
  verify:
    description: How to compare an existing environment with its build. V(sizes) compares the kind, size, owner and mode
      of every file but bytecode, and reads those that were written since the build. V(hashes) reads them all, bytecode
      included, about a second for each GB. What was added inside of packages is an addition, by V(sizes) if the
      directory was written to since the build.
    type: str
    choices: [sizes, hashes]
    default: sizes
  lock_timeout:
    description: Seconds to wait for another run on the same environment.
    type: int
    default: 600
attributes:
  check_mode:
    support: full
    description: Reports exactly what would be done, by the same comparison.
  diff_mode:
    support: full
    description: The packages before and after, as sorted C(name==version) lines.
  idempotent:
    support: full
    description: Run again in the same state of the node, it changes nothing.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Build the environment of TensorFlow 2.8.0
  tensorflow_venv:
    name: tensorflow-2.8.0
    root: /opt/tensorflow
    python: /usr/bin/python3.10
    lock: "{{ lookup('ansible.builtin.file', 'locks/tensorflow-2.8.0/cp310-linux_x86_64-cpu.txt') }}"
    uv: "{{ uv_record }}"

- name: Go back to what was in use before
  tensorflow_venv:
    root: /opt/tensorflow
    state: previous

- name: Go back to the build of one environment that was in use before
  tensorflow_venv:
    name: tensorflow-2.8.0
    root: /opt/tensorflow
    state: previous

- name: Remove the environment
  tensorflow_venv:
    name: tensorflow-2.8.0
    root: /opt/tensorflow
    state: absent
"""

RETURN = r"""
action:
  description: What was done, or would be done in check mode.
  returned: success
  type: str
  sample: build
environment:
  description: Path of the environment for its users, a symbolic link to a build. Of a rollback, the one that it
    switches to.
  returned: success
  type: str
  sample: /opt/tensorflow/tensorflow-2.8.0
build:
  description: Name of the build in use; null if there is none, or none yet in check mode.
  returned: success
  type: str
  sample: tensorflow-2.8.0-1a2b3c4d5e6f-1
release:
  description: Release of the build in use; null if there is none, or none yet in check mode.
  returned: success
  type: str
  sample: 2.8.0
flavour:
  description: Flavour of the build in use, V(cpu) or V(cuda); null if there is none, or none yet in check mode.
  returned: success
  type: str
  sample: cpu
damage:
  description: Damage of the environment that was in use.
  returned: success
  type: list
  elements: str
  sample: ["numpy is 1.26.4, not 1.23.5"]
additions:
  description:
    - Additions to the build in use. Distributions as C(name version), those required by others last; files and
      directories by name.
  returned: success
  type: list
  elements: str
  sample: [pandas 2.3.3]
dropped:
  description:
    - Earlier additions and replacements that are not in the environment any more. They are still in their build, unless
      it is among RV(removed_builds).
  returned: success
  type: list
  elements: str
  sample: []
kept_builds:
  description: Builds beyond O(keep) that are kept because of additions that the build in use does not have.
  returned: success
  type: list
  elements: str
  sample: []
removed_builds:
  description: Builds that were removed.
  returned: success
  type: list
  elements: str
  sample: []
rollback:
  description: What a rollback would switch to next. Null if there is nothing, and in check mode.
  returned: success
  type: dict
  sample: {environment: tensorflow-2.21.0, build: tensorflow-2.21.0-6f5e4d3c2b1a-1}
passed_over:
  description: Builds that a rollback passed over, each with the reason.
  returned: success
  type: list
  elements: str
  sample: []
bytes_to_fetch:
  description: Bytes of the image, or of the wheels that no other build in the root contains.
  returned: success
  type: int
  sample: 553000000
seconds:
  description: Wall time of the phases of a build.
  returned: success
  type: dict
  sample: {install: 31.2, import: 4.1}
"""

import os
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.environment import changes, going_back, in_use, venv
from ..module_utils.tensorflow_stack.environment.bookkeeping import (
    Done,
    record_in_manifest,
    with_notes_of_before,
    without_credentials,
)
from ..module_utils.tensorflow_stack.environment.installing import Installer
from ..module_utils.tensorflow_stack.environment.results import result_of
from ..module_utils.tensorflow_stack.errors import BuildError, StackError, UnwritableError
from ..module_utils.tensorflow_stack.io.commands import limit_programs
from ..module_utils.tensorflow_stack.io.uv import ensure_uv
from ..module_utils.tensorflow_stack.records import manifest
from ..module_utils.tensorflow_stack.records.environment import EnvironmentSpec
from ..module_utils.tensorflow_stack.records.image import IMAGE_OPTIONS
from ..module_utils.tensorflow_stack.records.lockfile import parse_lock

_OF_THE_SPEC = ("name", "root", "python", "cuda", "cudnn", "visible_gpus", "image")


def main() -> None:
    library = {"version": {"type": "str", "required": True}, "source": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "time_limit": {"type": "float", "default": 7200},
            "name": {"type": "str"},
            "root": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "previous", "absent"], "default": "present"},
            "lock": {"type": "str"},
            "requirements": {"type": "str"},
            "asked": {"type": "dict", "default": {}},
            "by": {"type": "str"},
            "python": {"type": "path"},
            "digest": {"type": "str"},
            "library_directories": {"type": "list", "elements": "str", "default": []},
            "visible_gpus": {"type": "str"},
            "image": {"type": "dict", "options": IMAGE_OPTIONS},
            "cuda": {"type": "dict", "options": {**library, "prefix": {"type": "path"}}},
            "cudnn": {"type": "dict", "options": library},
            "keep": {"type": "int", "default": 2},
            "additions": {"type": "str", "choices": ["keep", "stop", "drop"], "default": "keep"},
            "installer": {"type": "str", "choices": ["uv", "pip"], "default": "uv"},
            "uv": {"type": "dict"},
            "index_url": {"type": "str"},
            "fetch_url": {"type": "str"},
            "offline": {"type": "bool", "default": False},
            "verify": {"type": "str", "choices": ["sizes", "hashes"], "default": "sizes"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        required_if=[("state", "present", ("name", "python")), ("state", "absent", ("name",))],
        supports_check_mode=True,
    )
    with failing_by_message(module):
        limit_programs(module.params["time_limit"], "tensorflow_venv_time_limit")
        if module.params["keep"] < 1:
            module.fail_json(
                msg=f"keep is {module.params['keep']}, and the build in use counts. Set tensorflow_keep to 1 or more."
            )
        # What root builds, others run.
        os.umask(0o022)
        back = None
        try:
            outcome = _run(module)
            if not module.check_mode:
                _record_if_possible(module, outcome)
                back = going_back.next_back(module.params["root"])
        except StackError:
            raise
        except OSError as error:
            what = module.params["name"] or "The rollback"
            module.fail_json(
                msg=f"{what} below {module.params['root']} was not finished: {error}. "
                "The environment in use is unchanged. Correct the cause and run again."
            )
        rollback = dict(back._asdict()) if back else None
        root, name, image = (module.params[key] for key in ("root", "name", "image"))
        module.exit_json(**result_of(root, name, image, outcome), rollback=rollback)


def _record_if_possible(module: AnsibleModule, outcome: changes.EnvironmentOutcome) -> None:
    """Nothing has to be recorded of an environment that is unchanged, as on a file system that is read-only."""
    try:
        _record(module, outcome)
    except UnwritableError as error:
        if outcome.changed:
            raise
        module.warn(error.message)


def _record(module: AnsibleModule, outcome: changes.EnvironmentOutcome) -> None:
    root, name = module.params["root"], outcome.target or module.params["name"]
    before = outcome.before.name if outcome.before else None
    done = Done(outcome.action, before, by=module.params["by"], walked_back=outcome.walked_back)
    if module.params["state"] == "present" and outcome.build:
        if module.params["lock"] is None:
            done = with_notes_of_before(done, root, name, outcome.build)
        else:
            asked = {**module.params["asked"], **_asked_of_this(module)}
            requirements = {outcome.build: module.params["requirements"]}
            done = replace(done, requirements=requirements, asked={outcome.build: asked})
    record_in_manifest(root, name, done)
    if in_use.is_others(root, manifest.read(root)):
        module.warn(in_use.about_others(root))


def _asked_of_this(module: AnsibleModule) -> dict[str, Any]:
    """Of the variables that say how it is installed, those that are not as usual."""
    given = module.params
    index_url = without_credentials(given["index_url"]) if given["index_url"] else None
    values = {
        "tensorflow_image": (given["image"] and given["image"]["source"], None),
        "tensorflow_installer": (given["installer"], "uv"),
        "tensorflow_index_url": (index_url, None),
        "tensorflow_keep": (given["keep"], 2),
        "tensorflow_offline": (given["offline"], False),
    }
    return {name: value for name, (value, usual) in values.items() if value != usual}


def _run(module: AnsibleModule) -> changes.EnvironmentOutcome:
    name, root, state = module.params["name"], module.params["root"], module.params["state"]
    wait = {"lock_timeout": module.params["lock_timeout"]}
    if state == "absent":
        return changes.plan_absent(root, name) if module.check_mode else venv.apply_absent(root, name, **wait)
    if state == "previous":
        return going_back.plan_previous(root, name) if module.check_mode else venv.apply_previous(root, name, **wait)
    return _present(module)


def _present(module: AnsibleModule) -> changes.EnvironmentOutcome:
    root = module.params["root"]
    text = module.params["lock"]
    if text is None:
        text = venv.lock_in_use(root, module.params["name"])
    lock = parse_lock(text, path="the lock of " + module.params["name"])
    spec = EnvironmentSpec(
        release=lock.release,
        flavour="cuda" if module.params["cuda"] else "cpu",
        lock=lock,
        library_directories=tuple(module.params["library_directories"]),
        **{name: module.params[name] for name in _OF_THE_SPEC},
    )
    planned = module.params["digest"]
    if planned and planned != spec.digest:
        raise BuildError(
            f"The lock, interpreter or CUDA of {spec.name} changed after the plan was made; nothing was built. "
            "Run again."
        )
    hashes = module.params["verify"] == "hashes"
    drop_additions = module.params["additions"] == "drop"
    if module.check_mode:
        return changes.plan_present(spec, keep=module.params["keep"], hashes=hashes, drop_additions=drop_additions)

    def installer() -> Installer:
        uv = None
        index_url = module.params["fetch_url"] or module.params["index_url"]
        if module.params["installer"] == "uv":
            uv = ensure_uv(directory=os.path.join(root, ".tools"), record=module.params["uv"], index_url=index_url)
        return Installer(
            uv=uv,
            index_url=index_url,
            offline=module.params["offline"],
            cache=os.path.join(root, ".cache", "uv"),
        )

    return venv.apply_present(
        spec,
        installer=installer,
        keep=module.params["keep"],
        lock_timeout=module.params["lock_timeout"],
        hashes=hashes,
        drop_additions=drop_additions,
    )


if __name__ == "__main__":
    main()
