#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the locks of one TensorFlow release. What runs is action_plugins/tensorflow_lock.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_lock
short_description: Make the locks of one TensorFlow release
version_added: "1.0.0"
description:
  - Resolves a release, the constraints that it needs today, and a user's requirements, to one lock for each Python,
    architecture and flavour. A lock names every distribution of an environment with the hashes of its wheels.
  - Runs in Ansible's own process on the controller, where the tables and the locks are. It needs no delegation and
    does not depend on the connection, privileges and Python of the node.
  - While its inputs are the same, a lock is unchanged and the package index is not contacted. If inputs have changed,
    distributions keep their versions as far as these still fit.
  - Distributions that install one path with different contents are a conflict. Their lists of files are read by ranges
    from the end of each wheel, once, and cached below O(tools_directory).
requirements:
  - packaging
  - PyYAML
  - tomli, on Python 3.10
options:
  release:
    description:
      - The release, such as V(2.8.0).
      - If not set, the newest that the TensorFlow line of O(requirements) allows. A range such as C(~=2.8.0) therefore
        includes patch releases.
      - One of the two is required.
    type: str
  requirements:
    description:
      - A C(requirements.txt), C(pyproject.toml) or C(environment.yml) to lock together with the release.
      - C(pyproject.toml[gpu,test]) takes these extras or dependency groups as well.
      - C(docs/requirements.md) says what is accepted and what is refused.
    type: path
  pythons:
    description:
      - Minor versions of Python.
      - If empty, every version from 3.7 on for which the release has a wheel. Versions for which O(requirements) has no
        solution are left out and returned in RV(left_out).
    type: list
    elements: str
    default: []
  architectures:
    description: Architectures to make locks for.
    type: list
    elements: str
    choices: [x86_64, aarch64]
    default: [x86_64]
  flavours:
    description:
      - Flavours to make locks for. V(cpu) has TensorFlow only, V(cuda) also CUDA and cuDNN, V(cudnn) also cuDNN,
        for a node that has CUDA. V(gpu) has tensorflow-gpu only, for a node that has CUDA and cuDNN; it is for
        releases whose project tensorflow is for the CPU.
      - If empty, V(cpu), V(gpu) if the release has such a project, and V(cuda) if CUDA wheels exist for the release.
    type: list
    elements: str
    choices: [cpu, gpu, cuda, cudnn]
    default: []
  source_builds:
    description:
      - Projects that may be built from source for O(requirements), because they have no wheel. What a source
        distribution requires is read from its files, and none of its code runs while it is locked. The lock has its
        hash and what it is built with, by hash too.
    type: list
    elements: str
    default: []
  directory:
    description: Directory of the locks, such as O(directory)C(/tensorflow-RELEASE/cp310-linux_x86_64-cpu.txt).
    type: path
    required: true
  tables:
    description: Directory of the tables of facts.
    type: path
    required: true
  upgrade:
    description: Resolve again although no input changed, to get newer distributions. Replaces a damaged lock.
    type: bool
    default: false
  cutoff:
    description:
      - Ignore distributions uploaded after this time, so that the same call gives the same locks. A time in UTC
        such as V(2026-11-22T00:00:00Z).
      - If not set, the beginning of the current day.
    type: str
  index_url:
    description: Package index to resolve from. It must report upload times (PEP 700). The public one if not set.
    type: str
  tools_directory:
    description: Directory of the pinned uv, which is downloaded there if it is missing.
    type: path
    required: true
  added:
    description:
      - Requirements of one environment besides those of its release and O(requirements), as the plan returns them. The
        lock is then for this environment alone, in O(added.directory)C(/added), and its base lock is made if it is
        missing. Needs one Python, architecture and flavour.
    type: dict
    suboptions:
      lines:
        description: The requirements, such as V(pandas<3).
        type: list
        elements: str
        required: true
      pins:
        description: Versions of what O(added.lines) need, as V(pytz==2026.2). They hold for this resolution alone.
        type: list
        elements: str
        default: []
      to:
        description: The path of the environment, for messages.
        type: str
        required: true
      directory:
        description: Directory of the inventory's locks.
        type: path
        required: true
      base:
        description: The lock of the release or of the requirements file. If not set, it is made first.
        type: path
      versions:
        description: Versions of the environment in use. They stay if they fit.
        type: dict
        default: {}
      listings:
        description:
          - By project, a digest of the names and sizes of the files that were found in the environment. A package index
            with other files under the same name and version is refused.
        type: dict
        default: {}
attributes:
  check_mode:
    support: full
    description: Resolves the same way, and downloads uv and lists of files for it. No lock is written.
  diff_mode:
    support: full
    description: The distributions before and after of each lock that changes, as sorted C(name==version) lines.
  idempotent:
    support: full
    description: With O(upgrade), only while O(cutoff) is the same.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Make the locks of a release
  tensorflow_lock:
    release: 2.8.0
    directory: roles/tensorflow_release/files/locks
    tables: roles/tensorflow_release/files/tables
    tools_directory: .tools

- name: Lock a requirements file for one Python
  tensorflow_lock:
    requirements: inventories/workstation/requirements.txt
    pythons: ["3.10"]
    flavours: [cpu]
    directory: inventories/workstation/locks/requirements
    tables: roles/tensorflow_release/files/tables
    tools_directory: .tools

- name: Take what is new since
  tensorflow_lock:
    requirements: inventories/workstation/requirements.txt
    upgrade: true
    directory: inventories/workstation/locks/requirements
    tables: roles/tensorflow_release/files/tables
    tools_directory: .tools
"""

RETURN = r"""
release:
  description: The release that was locked.
  returned: success
  type: str
  sample: 2.8.0
locks:
  description: Every lock; in check mode those that would be written.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The lock's path.
      type: str
      sample: locks/tensorflow-2.8.0/cp310-linux_x86_64-cpu.txt
    python:
      description: Minor version of its Python.
      type: str
      sample: "3.10"
    platform:
      description: Its platform.
      type: str
      sample: linux_x86_64
    flavour:
      description: V(cpu), V(gpu), V(cuda) or V(cudnn).
      type: str
      sample: cpu
    state:
      description: V(created), V(updated) or V(unchanged).
      type: str
      sample: created
    summary:
      description: State, path and, if it existed before, the differences, in one line.
      type: str
      sample: "updated  /srv/requirements.locks/tensorflow-2.8.0/cp310-linux_x86_64-cpu.txt: numpy 1.23.5 -> 1.22.4"
    added:
      description: New distributions, as C(name==version).
      type: list
      elements: str
      sample: ["absl-py==2.5.1"]
    removed:
      description: Removed distributions, as C(name==version).
      type: list
      elements: str
      sample: []
    changed_versions:
      description: Distributions with another version, as C(name old -> new).
      type: list
      elements: str
      sample: ["protobuf 3.20.2 -> 3.20.3"]
    bytes:
      description: Bytes of all wheels.
      type: int
      sample: 553184320
    constraints:
      description: Requirements that are missing in the release's metadata and have an effect here, with the symptom.
      type: list
      elements: dict
      contains:
        requirement:
          description: The requirement.
          type: str
          sample: protobuf<3.21
        symptom:
          description: The error without it.
          type: str
          sample: "TypeError: Descriptors cannot be created directly"
    text:
      description: The lock itself.
      type: str
      sample: "# TensorFlow 2.8.0 for CPython 3.10, linux_x86_64, cpu"
    without:
      description: Requirements of cuDNN's wheel that a lock of the flavour V(cudnn) leaves out; C(pip check) lists
        them.
      type: list
      elements: str
      sample: [nvidia-cublas-cu11]
left_out:
  description: Targets for which O(requirements) has no solution, if O(pythons) is empty.
  returned: success
  type: list
  elements: dict
  contains:
    python:
      description: Minor version of its Python.
      type: str
      sample: "3.7"
    platform:
      description: Its platform.
      type: str
      sample: linux_x86_64
    flavour:
      description: V(cpu), V(gpu), V(cuda) or V(cudnn).
      type: str
      sample: cpu
    reason:
      description: The reason.
      type: str
      sample: "numpy==1.23.5 has no usable wheels"
summaries:
  description: A line for each lock, and one for the Pythons that have none for one reason.
  returned: success
  type: list
  elements: str
  sample: ["created  /srv/requirements.locks/tensorflow-2.8.0/cp310-linux_x86_64-cpu.txt"]
without_lock:
  description: Flavours without a lock for any Python, with what would resolve the conflict with the fewest changes.
  returned: success
  type: list
  elements: dict
  contains:
    platform:
      description: The platform.
      type: str
      sample: linux_x86_64
    flavour:
      description: V(cpu), V(gpu), V(cuda) or V(cudnn).
      type: str
      sample: cuda
    reason:
      description: The reason, and what to change.
      type: str
      sample: "nvidia-nccl-cu12 2.21.5 and nvidia-nccl-cu13 2.30.7: both install nvidia/nccl/lib/libnccl.so.2"
refused:
  description: Why O(requirements) was refused, one of the kinds in C(docs/requirements.md).
  returned: if it was refused
  type: str
  sample: index
conflicts:
  description: The lines of O(requirements) that contradict the release, one row for each project.
  returned: if there are any
  type: list
  elements: dict
  contains:
    lines:
      description: The C(text) of each line, and its file and line in C(where).
      type: list
      elements: dict
      sample: [{text: "numpy==1.19.5", where: "/srv/requirements.txt:2"}]
    meets:
      description: The requirement that they contradict, and its origin.
      type: str
      sample: the metadata of tensorflow==2.8.0 require numpy>=1.20
    fitting:
      description: The version that would be chosen with the lines left open, null if there is none.
      type: str
      sample: "1.26.4"
clashes:
  description: Distributions that install the same paths with different contents.
  returned: if there are any
  type: list
  elements: dict
  contains:
    distributions:
      description: The two distributions.
      type: list
      elements: str
      sample: [nvidia-nccl-cu12, nvidia-nccl-cu13]
    paths:
      description: Up to three of the paths, in site-packages.
      type: list
      elements: str
      sample: [nvidia/nccl/lib/libnccl.so.2]
notes:
  description: Ignored parts of O(requirements), and wheels whose files are not known, each with the reason.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.locking import door


def main() -> None:
    module = AnsibleModule(
        argument_spec=door.OPTIONS,
        supports_check_mode=True,
    )
    with failing_by_message(module):
        result = door.answer(module.params, check_mode=module.check_mode)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
