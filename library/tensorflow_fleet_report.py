#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible action: the report on a fleet from the controller's records. The work is in action_plugins."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_fleet_report
short_description: Report on a fleet from the records on the controller
version_added: "1.0.0"
description:
  - Makes C(fleet.json), C(fleet.html), C(fleet.xml) (JUnit), C(fleet.prom) (Prometheus), C(fleet.csv) and
    C(fleet.txt) again, for every host of the play, from the last C(fleet.json) and the reports of nodes that are newer.
  - Runs on the controller, in Ansible's own process, and does not connect to any host. Run it once. The reports
    describe the fleet, not the controller, so they are never a change.
requirements:
  - jinja2
options:
  reports:
    description: Directory on the controller with the reports. It also has the record of the nodes that are drained.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Nothing is written.
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
- name: Report on the fleet
  tensorflow_fleet_report:
    reports: "{{ playbook_dir }}/../reports"
  run_once: true
  register: fleet_report

- name: Show what needs somebody
  ansible.builtin.debug:
    msg: "{{ fleet_report.lines }}"
  run_once: true

- name: Fail if a node needs somebody
  ansible.builtin.assert:
    that: fleet_report.needs_somebody | length == 0
  run_once: true
"""

RETURN = r"""
lines:
  description: At most 20 lines for a screen.
  returned: success
  type: list
  elements: str
  sample: ["Fleet of 40 nodes: 38 proven, 2 failed"]
page:
  description: Path of the page; empty in check mode.
  returned: success
  type: str
  sample: /srv/stack/reports/fleet.html
needs_somebody:
  description: Hosts that failed, were not reached or refused, are unfinished, were not begun, or have no report.
  returned: success
  type: list
  elements: str
  sample: [gpu07, gpu31]
answer:
  description: How many nodes compute, and how many need somebody.
  returned: success
  type: str
  sample: 38 of 40 nodes compute; 2 need you
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.fleet.reporting import OPTIONS


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    module.fail_json(
        msg="The action plugin tensorflow_fleet_report was not found. Run the playbook with the ansible.cfg of the "
        "checkout (ANSIBLE_CONFIG)."
    )


if __name__ == "__main__":
    main()
