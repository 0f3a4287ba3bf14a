#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: whether the libraries of CUDA or cuDNN are there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_libraries_info
short_description: Report whether the libraries of CUDA or cuDNN exist
version_added: "1.0.0"
description:
  - Looks for the files that TensorFlow opens, by their names and formats, in the directories of the plan. Does not rely
    on the package manager's database.
  - Only reads.
options:
  component:
    description: The component of the libraries.
    type: str
    choices: [cuda, cudnn]
    required: true
  version:
    description: The required version, as far as it matters. 8.1.0 satisfies V(8.1).
    type: str
    required: true
  directories:
    description: Directories of the libraries, in addition to those that the loader searches by itself.
    type: list
    elements: path
    required: true
attributes:
  check_mode:
    support: full
    description: Can run in check mode, and then says what it would do without doing it.
  diff_mode:
    support: none
    description: Returns what changed, or in check mode would change, if asked for differences.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Look for the libraries of CUDA 11.2
  nvidia_libraries_info:
    component: cuda
    version: "11.2"
    directories: [/usr/local/cuda-11.2/lib64]
  register: cuda_libraries

- name: Look for cuDNN where the distribution has its libraries
  nvidia_libraries_info:
    component: cudnn
    version: 8.1.0.77
    directories: [/usr/lib/x86_64-linux-gnu]
  register: cudnn_libraries

- name: Make sure that all are there
  ansible.builtin.assert:
    that: not cuda_libraries.problems
    fail_msg: "{{ cuda_libraries.problems | join('; ') }}"
"""

RETURN = r"""
version:
  description: The version found; null if there is none.
  returned: success
  type: str
  sample: "11.2"
libraries:
  description: Real paths of the libraries found.
  returned: success
  type: list
  elements: str
  sample: [/usr/local/cuda-11.2/targets/x86_64-linux/lib/libcudart.so.11.2.152]
problems:
  description: Libraries that are missing or have another version; empty if all are as required.
  returned: success
  type: list
  elements: str
  sample: ["libcufft is neither in /usr/local/cuda-11.2/lib64 nor in the loader's directories (/usr/lib64)"]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.node.files import NodeFiles
from ..module_utils.tensorflow_stack.node.libraries import check_libraries
from ..module_utils.tensorflow_stack.node.loader import read_loader
from ..module_utils.tensorflow_stack.records.component import LIBRARIES


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "component": {"type": "str", "choices": [component.name for component in LIBRARIES], "required": True},
            "version": {"type": "str", "required": True},
            "directories": {"type": "list", "elements": "path", "required": True},
        },
        supports_check_mode=True,
    )
    with failing_by_message(module):
        loader = read_loader(NodeFiles("/"))
        version, libraries, problems = check_libraries(
            loader, module.params["component"], module.params["version"], module.params["directories"]
        )
        module.exit_json(changed=False, version=version, libraries=libraries, problems=problems)


if __name__ == "__main__":
    main()
