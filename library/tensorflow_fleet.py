#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible action: what a run does to a fleet. The work is in action_plugins."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_fleet
short_description: Decide what is done to a fleet, from the plans of all its nodes
version_added: "1.0.0"
description:
  - Reads C(tensorflow_release_result) of every host of the play, which has its plans, and sorts the hosts. Run it once,
    after all hosts were planned.
  - If a host cannot have what is asked for, C(refusal) says so, and nothing may be changed on any host.
  - The canary is one host of each distinct kind. Two hosts are of one kind if operating system, kernel, GPUs, driver
    and all that is to be done are the same.
  - Runs on the controller, in Ansible's own process, and does not connect to any host.
options:
  reports:
    description: Directory on the controller for the reports. It also has the record of the nodes that are drained.
    type: path
    required: true
  skip_refused:
    description: Leave out hosts that were refused or could not be planned, and go on with the others.
    type: bool
    default: false
  batches:
    description: Sizes of the batches after the canary, numbers of hosts or percentages; the last one is repeated.
    type: list
    elements: str
    default: ["10%", "30%", "100%"]
  fetch:
    description: Whether the controller fetches for all nodes that are changed; then they are in RV(fetching).
    type: str
    choices: [nodes, controller]
    default: nodes
  max_fail_percentage:
    description: The next batch is not begun if more than this percentage of the hosts of a batch failed.
    type: int
    default: 0
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
- name: Decide what is done to the fleet
  tensorflow_fleet:
    reports: "{{ playbook_dir }}/../reports"
  run_once: true
  register: fleet_decision

- name: Leave out what cannot be done
  tensorflow_fleet:
    reports: "{{ playbook_dir }}/../reports"
    skip_refused: true
    batches: [1, "50%"]
  run_once: true
  register: fleet_decision
"""

RETURN = r"""
hosts:
  description: All hosts of the play, in the order of the inventory.
  returned: always
  type: list
  elements: str
  sample: [gpu01, gpu02, gpu03, gpu04, gpu05]
reports:
  description: The option of this name.
  returned: always
  type: str
  sample: /srv/stack/reports
fetching:
  description: Hosts for which the controller fetches.
  returned: success
  type: list
  elements: str
  sample: []
canary:
  description: One host of each distinct kind that has something to do.
  returned: always
  type: list
  elements: str
  sample: [gpu01]
rest:
  description: All other hosts that have something to do.
  returned: always
  type: list
  elements: str
  sample: [gpu02, gpu03]
unchanged:
  description: Hosts that are as planned, with a good verdict.
  returned: always
  type: list
  elements: str
  sample: [gpu04]
environments:
  description: For each host that was planned, how many environments it is to have.
  returned: always
  type: dict
  sample: {gpu01: 1, gpu02: 2}
refused:
  description: For each host that cannot have what is asked for, why not.
  returned: always
  type: dict
  sample: {gpu05: ["driver: ..."]}
unplanned:
  description: Hosts that were not reached, or whose variables are wrong.
  returned: always
  type: list
  elements: str
  sample: []
drained:
  description: Hosts that an earlier run drained and did not undrain, with the time when it drained them.
  returned: always
  type: dict
  sample: {gpu02: "2026-11-26T10:00:00Z"}
refusal:
  description: Why nothing may be changed on any host; empty if there is no reason.
  returned: always
  type: str
  sample: ""
batches:
  description: The option of this name.
  returned: always
  type: list
  elements: str
  sample: ["10%", "30%", "100%"]
max_fail_percentage:
  description: The option of this name.
  returned: always
  type: int
  sample: 0
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.fleet.door import OPTIONS


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    module.fail_json(
        msg="The action plugin tensorflow_fleet was not found. Run the playbook with the ansible.cfg of the "
        "checkout (ANSIBLE_CONFIG)."
    )


if __name__ == "__main__":
    main()
