#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible action: names and values of an inventory that cannot be meant. The work is in action_plugins."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_inventory
short_description: Refuse misspelt variables, and hosts that cannot name a file
version_added: "1.0.0"
description:
  - Compares the names of all variables of a host, whatever their origin, with the variables of this toolkit, and fails
    if one is nearly a known name, because it would have no effect. The known names are in C(variables.json) next to the
    playbook.
  - Two names are nearly the same if the words in which they differ are similar. C(tensorflow_verison) is misspelt, but
    C(tensorflow_port) is a variable of somebody else.
  - Also fails if a variable of this toolkit has no value (null) or an invalid one, or if the name of the host cannot be
    the name of a file. Values are not templated, and a template is not checked.
  - Runs on the controller, in Ansible's own process, and does not connect to the host.
options: {}
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
- name: Check the names of the inventory
  tensorflow_inventory:

- name: Check the inventory of each node before anything is done
  hosts: all
  gather_facts: false
  tasks:
    - name: Check the names of the inventory
      tensorflow_inventory:

- name: Check the names of one node
  tensorflow_inventory:
  when: inventory_hostname == 'gpu01'
"""

RETURN = r"""
given:
  description: The variables of this toolkit that were set for this run alone (C(-e), as make does), and not by an
    inventory. What is rolled back or removed has to be named so.
  returned: success
  type: list
  elements: str
  sample: [tensorflow_version]
msg:
  description: The errors, one in each line.
  returned: failure
  type: str
  sample: tensorflow_verison is set, but is no variable of this toolkit; tensorflow_version is one.
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.fail_json(
        msg="The action plugin tensorflow_inventory was not found. Run the playbook with the ansible.cfg of the "
        "checkout (ANSIBLE_CONFIG)."
    )


if __name__ == "__main__":
    main()
