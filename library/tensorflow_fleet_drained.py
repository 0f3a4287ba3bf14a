#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible action: the record of the nodes that are drained. The work is in action_plugins."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_fleet_drained
short_description: Record that a node is drained, or no longer
version_added: "1.0.0"
description:
  - Writes or removes the file C(drained/<host>) among the reports. C(state=present) belongs before the tasks that drain
    a node and C(state=absent) after those that undrain it. So an interrupted run never leaves a drained node unnamed.
  - Does not drain anything, and writes nothing in check mode.
  - Runs on the controller, in Ansible's own process, and does not connect to the host.
options:
  reports:
    description: Directory on the controller for the reports.
    type: path
    required: true
  state:
    description: Whether the node is drained.
    type: str
    choices: [present, absent]
    required: true
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
- name: Record that the node is drained
  tensorflow_fleet_drained:
    reports: "{{ playbook_dir }}/../reports"
    state: present

- name: Record that the node is no longer drained
  tensorflow_fleet_drained:
    reports: "{{ playbook_dir }}/../reports"
    state: absent
"""

RETURN = r"""
since:
  description: When the node was drained, if it was recorded as drained before this task; otherwise null.
  returned: always
  type: str
  sample: "2026-11-26T10:00:00Z"
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.fleet.door import DRAINED_OPTIONS


def main() -> None:
    module = AnsibleModule(argument_spec=DRAINED_OPTIONS, supports_check_mode=True)
    module.fail_json(
        msg="The action plugin tensorflow_fleet_drained was not found. Run the playbook with the ansible.cfg of the "
        "checkout (ANSIBLE_CONFIG)."
    )


if __name__ == "__main__":
    main()
