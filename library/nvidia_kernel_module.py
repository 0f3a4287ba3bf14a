#!/usr/bin/python
"""Ansible module: the kernel side of the NVIDIA driver."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_kernel_module
short_description: Build and load the kernel module of the installed NVIDIA driver
version_added: "1.0.0"
description:
  - Disables nouveau and nova_core with C(/etc/modprobe.d/tensorflow-gpu-stack-nvidia.conf). Rebuilds each initramfs
    that lacks this file, and checks it afterwards.
  - Makes sure that every kernel has the module of exactly O(version), according to DKMS and modinfo. A missing module
    is built with DKMS once; a package's own module without DKMS is accepted.
  - Loads the module if no other is loaded and nothing blocks it, so that a fresh node needs no reboot. Otherwise
    reports whether a reboot is needed and why. Never reboots.
  - Lists the processes that use the GPU, and ends none.
  - If Secure Boot is on and a module is unsigned, the module fails before it changes anything.
  - With O(state=absent) the file is removed from disk and from every initramfs, so that nouveau drives the GPU again
    from the next boot on. The driver's kernel module itself belongs to the driver's packages.
author: TensorFlow GPU Stack contributors
options:
  time_limit:
    type: float
    default: 7200
    description: Seconds that each program may run for that the module starts; then it is stopped, and the module fails.
  version:
    description: >-
      NVIDIA's own version of the installed driver, as M(nvidia_packages) returns it. Required when
      O(state=present).
    type: str
  modules:
    description: Kind of NVIDIA's kernel modules. Required when O(state=present).
    type: str
    choices: [open, proprietary]
  kernels:
    description:
      - Releases of the kernels that need it, as a plan lists them. Those that no longer exist are left out.
      - The running kernel and all that the node can boot need it, too. So a kernel that was installed after the plan
        was made, perhaps with the driver's own packages, gets its module as well.
    type: list
    elements: str
  services:
    description: Names of services of the driver's packages. Those that have a systemd unit are returned.
    type: list
    elements: str
    default: []
  pending:
    description: >-
      Set it in check mode if the packages are not installed yet. Nothing that depends on them is checked then.
    type: bool
    default: false
  state:
    description:
      - V(present) disables nouveau and builds the module.
      - V(absent) no longer disables nouveau.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Can run in check mode, and then says what it would do without doing it.
  diff_mode:
    support: full
    description: Returns what changed, or in check mode would change, if asked for differences.
  idempotent:
    support: full
    description: Run again in the same state of the node, it changes nothing.
notes:
  - Not for a container, which runs on the kernel of its host.
"""

EXAMPLES = r"""
- name: Bring the kernel side to the installed driver
  nvidia_kernel_module:
    version: 535.309.01
    modules: proprietary
  register: kernel_side

- name: Name the processes that a reboot ends
  ansible.builtin.debug:
    var: kernel_side.processes
  when: kernel_side.reboot_required

- name: Bring the kernel side to a plan, and say which of the services there are
  nvidia_kernel_module:
    version: 535.309.01-0+deb12u1
    modules: open
    kernels: [6.1.0-56-amd64]
    services: [nvidia-persistenced, nvidia-fabricmanager]

- name: Enable nouveau again
  nvidia_kernel_module:
    state: absent
"""

RETURN = r"""
actions:
  description: The actions, in order; in check mode those that would be taken.
  returned: success
  type: list
  elements: str
  sample: [write /etc/modprobe.d/tensorflow-gpu-stack-nvidia.conf, rebuild the initramfs of 6.1.0-56-amd64]
kernels:
  description: >-
    The kernels afterwards. C(dkms) is DKMS's status of that version, null if it has none. C(in_initramfs) says whether
    the initramfs has the blacklist, null if the kernel has no readable initramfs.
  returned: success
  type: list
  elements: dict
  sample: [{release: 6.1.0-56-amd64, dkms: installed, module_version: 535.309.01, in_initramfs: true}]
loaded:
  description: Version of the loaded module afterwards, null if none is loaded.
  returned: success
  type: str
  sample: 535.309.01
reboot_required:
  description: Whether the driver works only after a reboot.
  returned: success
  type: bool
  sample: true
reboot_reasons:
  description: Why a reboot is required.
  returned: success
  type: list
  elements: str
  sample: ["kernel module 470.256.02 is loaded, the libraries have version 535.309.01"]
processes:
  description: Processes that use the GPU.
  returned: success
  type: list
  elements: dict
  sample: [{pid: 4711, command: python3 train.py, devices: [/dev/nvidia-uvm, /dev/nvidia0]}]
services:
  description: Those of O(services) that have a systemd unit.
  returned: success
  type: list
  elements: str
  sample: [nvidia-persistenced]
machine:
  description: C(machine_id) and C(boot_id) of the machine, which show whether it is the one that runs the play.
  returned: success
  type: dict
  sample: {machine_id: 2d2532498ea5954984db1b7668be543a, boot_id: 3a705692-f858-4c9e-982c-58b548ddb6dc}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.io.commands import limit_programs
from ..module_utils.tensorflow_stack.kernel.modules import ensure, give_back
from ..module_utils.tensorflow_stack.kernel.state import ModuleRequest
from ..module_utils.tensorflow_stack.records.component import upstream_version


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "time_limit": {"type": "float", "default": 7200},
            "version": {"type": "str"},
            "modules": {"type": "str", "choices": ["open", "proprietary"]},
            "kernels": {"type": "list", "elements": "str"},
            "services": {"type": "list", "elements": "str", "default": []},
            "pending": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ("version", "modules"))],
        supports_check_mode=True,
    )
    with failing_by_message(module):
        limit_programs(module.params["time_limit"], "package_time_limit")
        result = _run(module)
        module.exit_json(**result)


def _run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    if params["state"] == "absent":
        return give_back(check=module.check_mode)
    request = ModuleRequest(
        version=upstream_version(params["version"]),
        kind=params["modules"],
        kernels=params["kernels"],
        services=params["services"],
        pending=params["pending"],
    )
    return ensure(request, check=module.check_mode)


if __name__ == "__main__":
    main()
