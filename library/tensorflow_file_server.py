#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible action: a web server of the controller for one run. The work is in action_plugins."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_file_server
short_description: Serve files of the controller to the nodes of a run
version_added: "1.0.0"
description:
  - Starts a web server on the controller that serves the files O(paths) and nothing else. It answers requests for parts
    of files, and for pages of a package index (PEP 503, and PEP 691 to clients that ask for it).
  - It listens at the addresses of the controller that the hosts of the play reach. These are the addresses from which
    the controller reaches them, or the variable C(fleet_fetch_address) of a host.
  - It ends with the run, however that ends.
  - Runs on the controller, in Ansible's own process, and does not connect to any host. Run it once.
options:
  directory:
    description: Directory on the controller. The requests are listed in its file C(.served.log).
    type: path
    required: true
  paths:
    description: The files that are served, by their paths below O(directory).
    type: list
    elements: str
    required: true
  port:
    description: >-
      Port at which it listens. If it is fixed, the addresses are the same in each run, and caches of installers hold.
    type: int
    default: 8790
attributes:
  check_mode:
    support: full
    description: Starts nothing.
  diff_mode:
    support: none
    description: Changes no node, so there is nothing to compare.
  idempotent:
    support: none
    description: Each server that it starts is another one.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Serve what was fetched
  tensorflow_file_server:
    directory: /srv/fleet-files
    paths: "{{ made.paths }}"
  run_once: true
  register: fleet_server
"""

RETURN = r"""
addresses:
  description: Addresses at which it listens.
  returned: success
  type: list
  elements: str
  sample: [10.0.0.1]
port:
  description: Port at which it listens.
  returned: success
  type: int
  sample: 8790
urls:
  description: For each host of the play, the base URL of the files.
  returned: success
  type: dict
  sample: {node1: "http://10.0.0.1:8790"}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.bundle.serving import OPTIONS


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    module.fail_json(
        msg="The action plugin tensorflow_file_server was not found. Run the playbook with the ansible.cfg of the "
        "checkout (ANSIBLE_CONFIG)."
    )


if __name__ == "__main__":
    main()
