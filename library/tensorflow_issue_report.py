#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible action: one file for the report of a fault. The work is in action_plugins."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_issue_report
short_description: Write one file for the report of a fault, without secrets and names
version_added: "1.0.0"
description:
  - Writes versions, what the doctor found, the node record, the plan and the ends of logs to O(path), which only its
    owner can read.
  - Takes out passwords, tokens, keys, credentials and queries of addresses, names of users and machines, network
    addresses and home directories, as far as they can be recognised. A person reads the file before sending it.
  - Runs on the controller, in Ansible's own process, and does not connect to the host.
options:
  path:
    description: File to write.
    type: path
    required: true
  repository:
    description: Directory of this toolkit, for its version.
    type: path
    required: true
  doctor:
    description: Result of M(tensorflow_doctor), also if it failed.
    type: dict
    default: {}
  node:
    description: Result of M(gpu_node_info), also if it failed.
    type: dict
    default: {}
  plan:
    description: Result of M(tensorflow_stack_info), also if it failed.
    type: dict
    default: {}
  info:
    description: Result of M(tensorflow_issue_info).
    type: dict
    default: {}
  names:
    description: Names of hosts to take out, besides those in O(info).
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Writes the file in any mode, because it changes no node.
    support: full
  diff_mode:
    support: none
    description: Changes no node, so there is nothing to compare.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Write the report
  tensorflow_issue_report:
    path: "{{ playbook_dir }}/../reports/issue.md"
    repository: "{{ playbook_dir }}/.."
    doctor: "{{ doctor_result }}"
    names: "{{ ansible_play_hosts_all }}"
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /srv/tensorflow-gpu-stack/reports/issue.md
lines:
  description: How many lines it has.
  returned: success
  type: int
  sample: 240
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.issue.collect import OPTIONS


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    module.fail_json(
        msg="The action plugin tensorflow_issue_report was not found. Run the playbook with the ansible.cfg of the "
        "checkout (ANSIBLE_CONFIG)."
    )


if __name__ == "__main__":
    main()
