#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: tables + node + policy -> plan. What runs is action_plugins/tensorflow_stack_info.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_stack_info
short_description: Resolve a TensorFlow release on a node to a plan, or to every reason against it
version_added: "1.0.0"
description:
  - Resolves a release and everything below it for the node record of M(gpu_node_info), from the tables, and returns the
    plan that the other roles apply. Changes nothing and uses no network.
  - Runs in Ansible's own process on the controller, where the tables and the locks are. It needs no delegation and
    does not depend on the connection, privileges and Python of the node.
requirements:
  - packaging
  - PyYAML
options:
  release:
    description:
      - A release such as V(2.8.0), or V(newest) for the newest that runs on the node.
      - V(current) is the environment applied last, or O(environment), with its own lock, interpreter and CUDA, unless
        O(requirements) or O(policy) set others.
      - With V(newest) and O(requirements) that name TensorFlow, the newest release that they allow.
      - If it is empty, what was asked for when the environment applied last, or O(environment), was built, with the
        requirements file and the variables of then; on a node without an environment V(newest).
    type: str
    default: newest
  requirements:
    description: A requirements file that is locked together with the release.
    type: path
  node:
    description: The node record that M(gpu_node_info) returned. If it is not set, the node is read first.
    type: dict
  environments_root:
    description: Directory of the environments, if the node is read. If it is not set, the default of M(gpu_node_info).
    type: path
  environment:
    description: Name of the environment; C(tensorflow-<release>) if not set.
    type: str
  image:
    description:
      - Path or URL of an image of the environment (make image), the same on controller and node. Its manifest is in the
        same directory. The plan mounts it instead of building. It is refused unless it is of the same lock, interpreter
        and libraries as the build would be.
      - It decides on O(release) and O(environment) if these are open. It counts for nothing with O(release=current).
    type: str
  policy:
    description: Settings of the inventory besides the release.
    type: dict
    suboptions:
      gpu:
        description: V(auto) uses the GPU if the node has one, V(required) refuses a node without one, V(none) uses the
          CPU.
        type: str
        choices: [auto, required, none]
        default: auto
      driver_source:
        description:
          - Where to get a driver if the installed one is unsuitable. V(auto) is the distribution, else NVIDIA's
            repository. V(found) refuses such a node.
        type: str
        choices: [auto, found, distro, nvidia_repo]
        default: auto
      driver_version:
        description: A branch of the driver such as V(535), or a full version; the best one if empty.
        type: str
        default: ''
      kernel_modules:
        description: Kind of the driver's kernel modules; V(auto) decides by the GPUs.
        type: str
        choices: [auto, open, proprietary]
        default: auto
      allow_downgrade:
        description: Allow that an older driver replaces a newer one.
        type: bool
        default: false
      cuda_source:
        description:
          - Where to get CUDA. V(found) is on the node, V(wheels) in the environment, V(nvidia_repo) and V(distro) are
            packages, V(redist) are NVIDIA's archives.
        type: str
        choices: [auto, found, wheels, nvidia_repo, distro, redist]
        default: auto
      cudnn_source:
        description: Where to get cuDNN. The distribution's package may install no library, so it is no choice.
        type: str
        choices: [auto, found, wheels, nvidia_repo, redist]
        default: auto
      python:
        description: Minor version of Python; the newest possible one if empty.
        type: str
        default: ''
      python_source:
        description: Where to get Python.
        type: str
        choices: [auto, found, distro, uv]
        default: auto
      python_mirror:
        description: Where uv downloads a Python, for the plan to name. The public places of the table C(uv) if empty.
        type: str
        default: ''
      additions:
        description:
          - What a new build does with additions to the environment. V(keep) plans a lock that has them at their
            versions, and refuses additions that no package index has. V(stop) refuses a plan that would lose additions.
            V(drop) plans without them.
          - V(keep) and V(stop) also refuse to replace an environment made from another requirements file.
        type: str
        choices: [keep, stop, drop]
        default: keep
      ignored_gpus:
        description: GPUs that are not used, each by its index in the plan, its PCI address or its UUID.
        type: list
        elements: str
        default: []
      source_builds:
        description: Projects that may be built from source for O(requirements).
        type: list
        elements: str
        default: []
  cached:
    description:
      - The wheels in the node's cache, as C(name==version). They are not counted as bytes to fetch.
      - If O(node) is not set, the action reads them with M(tensorflow_build_info) if an environment has to be built.
    type: list
    elements: str
    default: []
  packages:
    description:
      - Packages to add to an environment that exists, such as V(pandas<3 ipykernel). The plan is of this environment,
        O(environment) or that of O(release), as it was applied.
    type: str
    default: ''
  packages_removed:
    description: Packages that were added by O(packages) or carried before, to take out again.
    type: str
    default: ''
  tables:
    description: Directory of the tables.
    type: path
    required: true
  shipped_locks:
    description: Directory of the shipped locks.
    type: path
    required: true
  locks:
    description:
      - Directory for the locks of releases without a shipped one. It takes precedence over O(shipped_locks).
      - The locks of O(requirements) are next to that file, in C(<name>.locks).
    type: path
    required: true
  enforced:
    description: Fail if the release is refused.
    type: bool
    default: true
  in_use:
    description: Whether this environment is to be the one in use. False for one of several environments of a node.
    type: bool
    default: true
  refuse_in_use:
    description:
      - Refuse to change a driver while processes use a GPU, and an environment while processes use it. The refusal
        names them.
    type: bool
    default: false
  environments:
    description:
      - Several environments of the node, which is read once. The last one is to be in use.
      - Each item overrides O(release) (by C(version)), O(requirements), O(environment), O(image) and some settings
        of O(policy).
    type: list
    elements: dict
    default: []
    suboptions:
      version:
        description: As O(release).
        type: str
      requirements:
        description: As O(requirements).
        type: path
      environment:
        description: As O(environment).
        type: str
      image:
        description: As O(image).
        type: str
      python:
        description: As O(policy.python).
        type: str
      gpu:
        description: As O(policy.gpu).
        type: str
        choices: [auto, required, none]
      cuda_source:
        description: As O(policy.cuda_source).
        type: str
        choices: [auto, found, wheels, nvidia_repo, distro, redist]
      cudnn_source:
        description: As O(policy.cudnn_source).
        type: str
        choices: [auto, found, wheels, nvidia_repo, redist]
  check_names:
    description: Check the names and values of the host's variables first, as M(tensorflow_inventory) does.
    type: bool
    default: false
  report:
    description:
      - Path of the report of an environment that needs neither a build nor a check. It is written as
        M(tensorflow_report) does. If it is not set, no report is written.
      - With several O(environments) the name of the environment is put before the suffix.
    type: path
  bundle:
    description:
      - URL or directory of a bundle of M(tensorflow_bundle) from which everything is installed. A plan that would
        install something is refused if the bundle lacks a file for it, or has it cut or changed.
    type: str
  bundle_signers:
    description: File with the keys that may sign O(bundle). If it is not set, the bundle need not be signed.
    type: path
  tools_directory:
    description: >-
      Directory of the controller's own tools, for the record of what was compared in O(bundle). Required for that.
    type: path
attributes:
  check_mode:
    support: full
    description: Can run in check mode, and then says what it would do without doing it.
  diff_mode:
    support: none
    description: Returns what changed, or in check mode would change, if asked for differences.
  idempotent:
    support: full
    description: Run again in the same state of the node, it changes nothing.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Read the node and plan TensorFlow 2.8.0
  tensorflow_stack_info:
    release: 2.8.0
    tables: roles/tensorflow_release/files/tables
    shipped_locks: roles/tensorflow_release/files/locks
    locks: inventories/workstation/locks

- name: See what this node can run
  tensorflow_stack_info:
    node: "{{ node_result.node }}"
    tables: roles/tensorflow_release/files/tables
    shipped_locks: roles/tensorflow_release/files/locks
    locks: inventories/workstation/locks
    enforced: false

- name: Plan two environments, and report those that are as planned
  tensorflow_stack_info:
    environments:
      - version: 2.8.0
      - version: 2.15.1
        environment: vision
    report: reports/{{ inventory_hostname }}.json
    tables: roles/tensorflow_release/files/tables
    shipped_locks: roles/tensorflow_release/files/locks
    locks: inventories/workstation/locks

- name: Plan what a requirements file asks for, on the CPU
  tensorflow_stack_info:
    requirements: requirements.txt
    node: "{{ node_result.node }}"
    policy:
      gpu: none
    tables: roles/tensorflow_release/files/tables
    shipped_locks: roles/tensorflow_release/files/locks
    locks: inventories/workstation/locks
"""

RETURN = r"""
node:
  description: The node record, if the node was read.
  returned: if O(node) is not set
  type: dict
  sample: {architecture: x86_64, gpus: []}
plan:
  description: The plan; its schema is roles/tensorflow_release/files/plan.schema.json. With refusals, it has no steps.
  returned: always
  type: dict
  sample: {release: 2.8.0, flavour: cpu, verdict: cpu_only_no_gpu}
table:
  description: The plan as text; with O(release=newest) or an empty one, also the list of releases.
  returned: always
  type: str
  sample: "TensorFlow 2.8.0 (cpu) at /opt/tensorflow/tensorflow-2.8.0"
releases:
  description:
    - With O(release=newest) or an empty one, every release and whether it runs on the node.
    - Empty if O(requirements) names TensorFlow, because then the file chooses.
  returned: always
  type: list
  elements: dict
  sample: [{release: 2.8.0, runs: true, reasons: []}]
kept:
  description:
    - Results that are known without starting a module on the node; null if it must be started.
    - C(environment) is what M(tensorflow_venv) would return, if the environment is the planned one and its files are
      unchanged. C(check) is what M(tensorflow_gpu_check) would return, if its stored verdict is still valid.
    - Both are null if a role has something to do first.
  returned: always
  type: dict
  sample: {environment: null, check: null}
plans:
  description: >-
    RV(plan), RV(table), RV(releases), RV(kept), RV(report) and RV(use) of each environment, instead of these.
  returned: with O(environments)
  type: list
  elements: dict
  sample: []
planned_at:
  description: When the plan was made, in seconds since the epoch.
  returned: success
  type: int
  sample: 1795719600
report:
  description: The report, as M(tensorflow_report) returns it.
  returned: if O(report) is set and nothing has to be done
  type: dict
  sample: {host: localhost, release: 2.8.0, succeeded: true}
use:
  description: What is ready, how to use it and how to go back, as M(tensorflow_report) returns it.
  returned: if O(report) is set and nothing has to be done
  type: list
  elements: str
  sample: ["ready: TensorFlow 2.8.0 (cpu), /opt/tensorflow/tensorflow-2.8.0/bin/python"]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.planning import door, options


def main() -> None:
    module = AnsibleModule(
        argument_spec=options.OPTIONS,
        supports_check_mode=True,
    )
    with failing_by_message(module):
        result, failed = door.answer(module.params)
        if failed:
            module.fail_json(msg=failed, **result)
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
