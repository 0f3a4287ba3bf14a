#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: one component's packages at exactly one closure, held."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_packages
short_description: Install one component's packages at exactly one closure, and hold them
version_added: "1.0.0"
description:
  - Installs, upgrades or downgrades the packages of the driver, of CUDA or of cuDNN to one exact version each, together
    with the packages of the component that they need, in one transaction of apt or dnf.
  - The whole closure is computed before anything changes. If a part of it is impossible, or if the repository lists a
    file that it does not have, the module fails before it changes a package.
  - Packages that an earlier run or somebody else left half installed are repaired first.
  - The closure is pinned, held, excluded from automatic upgrades and recorded; a newer version changes nothing.
  - The result is judged by the package manager's state afterwards, never by its exit code.
  - The lists of the repositories are not refreshed; M(nvidia_repository) does that.
options:
  time_limit:
    type: float
    default: 7200
    description: Seconds that each program may run for that the module starts; then it is stopped, and the module fails.
  component:
    description: Name of the record and of the pins.
    type: str
    choices: [driver, cuda, cudnn]
    required: true
  source:
    description: Origin of the packages, for the record. Required when O(state=present).
    type: str
    choices: [nvidia_repo, distro]
  packages:
    description: The packages to install. Required when O(state=present).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the package.
        type: str
        required: true
      version:
        description:
          - A version with its revision, or a pattern such as V(535.*). If not set, any version fits.
          - If several versions fit, the recorded or installed one is kept, otherwise the newest is installed.
        type: str
  belongs:
    description:
      - Patterns of the names of the component's packages. Matching packages of the closure are pinned and held, and
        only matching packages may be removed.
    type: list
    elements: str
    default: []
  branch:
    description: Branch of the driver. A closure with a package of another branch is refused.
    type: str
  stream:
    description:
      - Stream of a module of dnf that the packages come from, as C(module:stream).
      - It is enabled in the same transaction, in place of another stream of the module.
      - With O(state=absent) the module is reset if no stream of it was enabled before.
    type: str
  allow_downgrade:
    description: Whether a package may be downgraded.
    type: bool
    default: false
  state:
    description:
      - V(present) installs the closure and holds it.
      - V(absent) removes the packages that only this component needs, and its pins, holds and record.
    type: str
    choices: [present, absent]
    default: present
  lock_timeout:
    description: Seconds to wait for another process that holds the package manager's lock.
    type: int
    default: 300
  pending:
    description:
      - Set it in check mode if a repository would have been added before. Packages that are unavailable without it are
        then no reason to refuse. They are reported as requested, because their dependencies are not known yet.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description:
      - Reports exactly what would be done, by the same computation. Nothing is downloaded, so only the real run detects
        a file that is listed but missing on the server.
  diff_mode:
    support: full
    description: The packages before and after, as sorted C(name=version) lines, and the files that hold them.
  idempotent:
    support: full
    description: Run again in the same state of the node, it changes nothing.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Install cuDNN 8.1.0 for CUDA 11.2 and hold it
  nvidia_packages:
    component: cudnn
    source: nvidia_repo
    packages:
      - {name: libcudnn8, version: 8.1.0.77-1+cuda11.2}
    belongs: ["libcudnn*"]
    allow_downgrade: true

- name: Install the driver of branch 535 from Debian
  nvidia_packages:
    component: driver
    source: distro
    packages:
      - {name: libcuda1, version: "535.*"}
      - {name: nvidia-smi, version: "535.*"}
    belongs: ["*nvidia*", "libcuda*"]
    branch: "535"

- name: Install the driver 580 with the open kernel modules from NVIDIA's repository for RHEL 9
  nvidia_packages:
    component: driver
    source: nvidia_repo
    packages:
      - {name: nvidia-driver-cuda, version: "580.*"}
      - {name: kmod-nvidia-open-dkms, version: "580.*"}
    belongs: ["kmod-nvidia*", "libnvidia-*", "nvidia-*"]
    branch: "580"
    stream: nvidia-driver:580-open

- name: Remove what was installed for cuDNN
  nvidia_packages:
    component: cudnn
    state: absent
"""

RETURN = r"""
pending:
  description: In check mode, whether something would change, so that its result cannot be checked yet.
  returned: success
  type: bool
  sample: false
version:
  description: Version of the first requested package, without the packager's revision; null when absent.
  returned: success
  type: str
  sample: 8.1.0.77
packages:
  description: The packages of the closure that belong to the component.
  returned: success
  type: list
  elements: dict
  sample: [{name: libcudnn8, version: 8.1.0.77-1+cuda11.2, architecture: amd64}]
transaction:
  description: What was done, or would be done in check mode, as C(name=version); for removed packages the old version.
  returned: success
  type: dict
  sample: {install: [libcudnn8=8.1.0.77-1+cuda11.2], upgrade: [], downgrade: [], remove: [], reinstall: []}
healed:
  description: Packages, of any component or none, that were half installed and were repaired.
  returned: success
  type: list
  elements: str
  sample: []
drift:
  description: Differences between the node and the record, before this run.
  returned: success
  type: list
  elements: dict
  sample: [{name: libcudnn8, problem: moved, recorded: 8.1.0.77-1+cuda11.2, found: 8.6.0.163-1+cuda11.8}]
held_by_others:
  description: Packages of the closure that somebody else also holds, at the requested version.
  returned: success
  type: list
  elements: str
  sample: []
refusals:
  description: The reasons to refuse; nothing was changed.
  returned: if it was refused
  type: list
  elements: dict
  sample: [{component: cudnn, reason: vanished, packages: [libcudnn8], message: "..."}]
"""

import os
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.errors import RefusedError, StackError
from ..module_utils.tensorflow_stack.io.commands import limit_programs
from ..module_utils.tensorflow_stack.packages import install
from ..module_utils.tensorflow_stack.packages.model import PackageRequest, WantedPackage
from ..module_utils.tensorflow_stack.packages.result import PackagesOutcome
from ..module_utils.tensorflow_stack.records.component import COMPONENTS


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "time_limit": {"type": "float", "default": 7200},
            "component": {"type": "str", "choices": [component.name for component in COMPONENTS], "required": True},
            "source": {"type": "str", "choices": ["nvidia_repo", "distro"]},
            "packages": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": {"type": "str", "required": True}, "version": {"type": "str"}},
            },
            "belongs": {"type": "list", "elements": "str", "default": []},
            "branch": {"type": "str"},
            "stream": {"type": "str"},
            "allow_downgrade": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "lock_timeout": {"type": "int", "default": 300},
            "pending": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ("source", "packages"))],
        supports_check_mode=True,
    )
    with failing_by_message(module):
        limit_programs(module.params["time_limit"], "package_time_limit")
        os.umask(0o022)
        try:
            outcome = _run(module)
        except StackError:
            raise
        except OSError as error:
            module.fail_json(
                msg=f"The packages of {module.params['component']} could not be managed: {error}. "
                "Run as root on a node with apt or dnf."
            )
        module.exit_json(
            changed=outcome.changed,
            pending=module.check_mode and outcome.changed,
            version=outcome.version,
            packages=[asdict(package) for package in outcome.packages],
            transaction=outcome.transaction.texts(),
            healed=list(outcome.healed),
            drift=outcome.drift,
            held_by_others=list(outcome.held_by_others),
            diff=outcome.diff,
        )


def _run(module: AnsibleModule) -> PackagesOutcome:
    component, check = module.params["component"], module.check_mode
    absent = module.params["state"] == "absent"
    if absent and not install.is_recorded(component):
        # Also on a node that has neither apt nor dnf, where archives take the place of packages.
        return PackagesOutcome(changed=False)
    if install.lacks_dnf() and not has_respawned():
        # dnf's interface is of the system's own Python, which need not be the one that Ansible uses.
        interpreter = probe_interpreters_for_module(install.DNF_INTERPRETERS, "dnf")
        if interpreter:
            respawn_module(interpreter)
    manager = install.find_manager(lock_timeout=module.params["lock_timeout"])
    if absent:
        return install.apply_absent(component, manager, check=check)
    request = PackageRequest(
        component=component,
        source=module.params["source"],
        packages=tuple(WantedPackage(row["name"], row["version"] or None) for row in module.params["packages"]),
        name_patterns=tuple(module.params["belongs"]),
        branch=module.params["branch"] or None,
        stream=module.params["stream"] or None,
        allow_downgrade=module.params["allow_downgrade"],
    )
    try:
        return install.apply_present(request, manager, check=check)
    except RefusedError:
        if check and module.params["pending"]:
            return install.predict(request)
        raise


if __name__ == "__main__":
    main()
