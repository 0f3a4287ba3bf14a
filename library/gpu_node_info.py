#!/usr/bin/python
"""Ansible module: what a node has of the stack under TensorFlow."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_node_info
short_description: Report the stack below TensorFlow that a node has
version_added: "1.0.0"
description:
  - Reads the node, from its NVIDIA GPUs up to its TensorFlow environments, and changes nothing.
  - Only files are read. No command is run, and no file is created.
  - GPUs are found on the PCI bus, so they are reported even without a driver.
  - A fact that cannot be read is null, and RV(node.unread) has a row that says why.
author: TensorFlow GPU Stack contributors
options:
  filesystem_root:
    description:
      - Absolute path at which the file system of the node is mounted.
      - Set it to read a mounted image. Paths in the result are paths of that system.
    type: path
    default: /
  environments_root:
    description:
      - Absolute path on the node of the directory of the TensorFlow environments.
      - If not set, it is C(/opt/tensorflow) for root, and C(tensorflow-gpu-stack) in
        C($XDG_DATA_HOME) or C(~/.local/share) for another user.
      - It may be missing and is never created.
    type: path
  environment:
    description:
      - Name of the environment whose files are compared with what was installed.
      - If not set, the one applied last.
    type: str
  environments:
    description: Names of several such environments. O(environment) is then ignored.
    type: list
    elements: str
    default: []
  images:
    description: Look for what mounts an image of an environment, for RV(node.images).
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and return the same result.
    support: full
  diff_mode:
    description: The module changes nothing.
    support: none
notes:
  - Facts that only root may read are missing for another user. The reason is in RV(node.unread).
"""

EXAMPLES = r"""
- name: Read the node
  gpu_node_info:
  register: node_facts

- name: Stop where there is no NVIDIA GPU
  ansible.builtin.assert:
    that: node_facts.node.gpus | length > 0
    fail_msg: "No NVIDIA GPU on the PCI bus of {{ inventory_hostname }}"

- name: Read the environments in a directory of one's own
  gpu_node_info:
    environments_root: /srv/tensorflow

- name: Compare the files of one environment
  gpu_node_info:
    environment: tensorflow-2.8.0

- name: Compare the files of two environments
  gpu_node_info:
    environments: [tensorflow-2.8.0, vision]

- name: Read a root file system that is mounted on this machine
  gpu_node_info:
    filesystem_root: /mnt/image
"""

RETURN = r"""
node:
  description: The node record.
  returned: success
  type: dict
  contains:
    architecture:
      description: Architecture of user space, V(x86_64), V(aarch64) or null.
      type: str
      returned: always
      sample: x86_64
    os:
      description: >-
        C(id), C(version_id), C(codename) and C(name) as in os-release, each null if missing,
        C(family), which is V(debian), V(rhel), V(suse) or null, and C(base_codename), the release of Ubuntu or Debian
        that the distribution says it is built on.
      type: dict
      returned: always
      sample:
        id: debian
        version_id: "12"
        codename: bookworm
        name: Debian GNU/Linux 12 (bookworm)
        family: debian
        base_codename: null
    c_library:
      description: >-
        Which C library has its loader where programs from elsewhere look for it, glibc or musl; null if neither has,
        as on NixOS.
      type: str
      returned: always
      sample: glibc
    glibc:
      description: Version of the C library.
      type: str
      returned: always
      sample: "2.36"
    kernel:
      description: The running kernel and the directory of its headers. C(headers) is null if they are not installed.
      type: dict
      returned: always
      sample: {release: 6.1.0-28-amd64, headers: /usr/src/linux-headers-6.1.0-28-amd64}
    kernels:
      description: >-
        Every kernel that has a directory of modules, and its headers. C(needs_driver) is true if the node runs the
        kernel or can boot it.
      type: list
      elements: dict
      returned: always
      sample: [{release: 6.1.0-28-amd64, headers: null, needs_driver: true}]
    kinds:
      description: >-
        What the node is, at most one row for each C(aspect), which is V(container), V(platform) (such as V(wsl)),
        V(system) (such as V(bootc)) or V(driver) (who installed it, if no package did). C(by) is what tells it. Empty
        for a usual machine. docs/nodes.md lists the kinds.
      type: list
      elements: dict
      returned: always
      sample: [{aspect: container, kind: podman, by: /run/.containerenv}]
    boot_id:
      description: Changes with each boot.
      type: str
      returned: always
      sample: 1f0c2d9e-6f0e-4a4e-9b62-0a4b7d2f3c11
    user:
      description: The user who ran the module.
      type: dict
      returned: always
      sample: {name: root, uid: 0, home: /root}
    secure_boot:
      description: Whether Secure Boot is on. Null if the node was not booted by EFI, or if it cannot be read.
      type: bool
      returned: always
      sample: false
    gpus:
      description: >-
        NVIDIA GPUs (PCI class 0300 or 0302) in order of PCI address, or those that are reached without a PCI bus.
        C(bound_to) is a driver or null. C(listed) is false if the driver does not show the GPU here, and null if it
        shows no list. C(device_file) is what a process opens; null if there is none. C(mig_instances) is the number of
        its compute instances.
      type: list
      elements: dict
      returned: always
      sample:
        - {index: 0, pci_address: "0000:01:00.0", device_id: 20b0, pci_class: "0302", bound_to: nvidia,
           uuid: GPU-2c1f4a7e-3b1d-4c1c-9a57-5d0f8e6b9c21, listed: true, excluded: false, device_file: /dev/nvidia0,
           mig_instances: 0}
    nvswitches:
      description: How many NVSwitches (PCI class 0680) there are.
      type: int
      returned: always
      sample: 0
    other_gpus:
      description: GPUs of AMD (vendor V(1002)) and Intel (V(8086)), which TensorFlow's wheels do not use.
      type: list
      elements: dict
      returned: always
      sample: [{pci_address: "0000:00:02.0", vendor: "8086"}]
    driver:
      description: The NVIDIA driver.
      type: dict
      returned: always
      contains:
        loaded:
          description: Version of the loaded kernel module.
          type: str
          returned: always
          sample: 535.183.01
        kind:
          description: Kind of the loaded module, V(open), V(proprietary) or null.
          type: str
          returned: always
          sample: proprietary
        installed:
          description: Version of the libcuda that the loader finds first.
          type: str
          returned: always
          sample: 535.183.01
        libcuda:
          description: The file that the loader finds first for C(libcuda.so.1).
          type: str
          returned: always
          sample: /usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01
        other_libcuda:
          description: Other copies of libcuda for this architecture.
          type: list
          elements: path
          returned: always
          sample: []
    modules:
      description: Which kernel modules are loaded.
      type: dict
      returned: always
      sample: {nouveau: false, nova_core: false, nvidia: true, nvidia_uvm: true}
    pythons:
      description:
        - CPython 3 interpreters on which an environment can be built, one row for each real file.
        - C(version) is null if only the minor version is known without running a command.
        - C(origin) is V(path), V(system), V(pyenv), V(uv) or V(opt).
        - M(tensorflow_stack_info) starts the interpreter that it chooses, and adds C(fault) if it does not start.
      type: list
      elements: dict
      returned: always
      sample:
        - {version: 3.10.13, minor: "3.10", path: /opt/pyenv/versions/3.10.13/bin/python3.10, origin: pyenv,
           ensurepip: true, distutils: true, public: true}
    cuda:
      description: >-
        CUDA runtimes of toolkits and of the distribution. C(libraries) are the CUDA libraries in the
        directory, by the names that TensorFlow opens.
      type: list
      elements: dict
      returned: always
      sample:
        - {version: "11.2", prefix: /usr/local/cuda-11.2, library_directory: /usr/local/cuda-11.2/lib64,
           libraries: [libcublas.so.11, libcudart.so.11.0]}
    cudnn:
      description: cuDNN libraries. C(libraries) are cuDNN and its parts in the directory.
      type: list
      elements: dict
      returned: always
      sample:
        - {version: 8.1.0, library: /usr/lib/x86_64-linux-gnu/libcudnn.so.8.1.0,
           library_directory: /usr/lib/x86_64-linux-gnu, libraries: [libcudnn.so.8, libcudnn_ops_infer.so.8]}
    package_managers:
      description: The installed ones of C(apt), C(dnf) and C(zypper).
      type: list
      elements: str
      returned: always
      sample: [apt]
    dkms:
      description: Whether DKMS, which builds kernel modules, is installed.
      type: bool
      returned: always
      sample: true
    yum_repositories:
      description: Names of the enabled repositories of dnf, from C(/etc/yum.repos.d).
      type: list
      elements: str
      returned: always
      sample: [baseos, epel]
    managed:
      description: >-
        The records of components that this toolkit installed (C(driver), C(cuda), C(cudnn)), from
        C(/etc/tensorflow-gpu-stack/<component>.json). C(kind) is V(packages) or V(archives). Empty if there are none.
      type: dict
      returned: always
      sample: {cuda: {kind: archives, component: cuda, source: redist, version: 11.2.2, prefix: /opt/nvidia/cuda-11.2}}
    images:
      description: >-
        Whether the node can mount images of environments, with C(systemd) and C(squashfs), and whether the kernel can
        compare them while they are read (C(verity)). Null unless O(images=true).
      type: dict
      returned: always
      sample: {systemd: true, squashfs: true, verity: false}
    variables:
      description: Variables of the environment, as far as they are set, that decide which GPUs and libraries are found.
      type: dict
      returned: always
      sample: {LD_LIBRARY_PATH: /usr/local/cuda/lib64}
    environments_root:
      description: >-
        The directory of the environments. C(writable) is also true if this user could create it;
        C(free_bytes) is of its file system.
      type: dict
      returned: always
      sample: {path: /opt/tensorflow, exists: true, writable: true, free_bytes: 81234567890}
    environments:
      description: >-
        Every environment with a current build, from the record of that build. C(requirements) is the requirements file
        of its lock with its lines, C(added) are requirements that were added to this lock, C(additions) what somebody
        installed that no lock has, C(visible_gpus) is what its Python sets CUDA_VISIBLE_DEVICES to, or null, C(also_in)
        the digests of builds with the same additions. C(damage) lists the differences from what was installed, and
        C(unfinished) the steps that a stopped run left over; both are read only for O(environment), O(environments) and
        those with additions. Elsewhere C(damage) is null.
      type: list
      elements: dict
      returned: always
      sample:
        - name: tensorflow-2.10.1
          release: 2.10.1
          flavour: cpu
          digest: 9f86d081884c7d659a2feaa0c55ad015
          build: tensorflow-2.10.1-9f86d081884c-1
          python: {minor: "3.10", path: /usr/bin/python3.10, real_path: /usr/bin/python3.10}
          cuda: null
          cudnn: null
          lock_sha256: 2c26b46b68ffc68ff99b453c1d304134
          packages: {numpy: 1.23.5, tensorflow: 2.10.1}
          requirements: {path: null, is_recorded: true, lines: [tensorflow==2.10.1], inputs_sha256: null}
          added: []
          additions:
            - {name: pandas, version: 2.3.3, replaces: null, origin: null, listing: null, is_required: false}
          damage: []
          unfinished: []
          visible_gpus: null
          also_in: []
    manifest:
      description: >-
        Content of C(manifest.json) in the directory of the environments, null if it does not exist. C(current) is what
        the links say was applied last. Instead of the history, C(rollback) is what a rollback would switch to.
      type: dict
      returned: always
      sample: null
    unread:
      description: Facts that could not be read, and interpreters and libraries that were left out, with the reason.
      type: list
      elements: dict
      returned: always
      sample: [{fact: cuda, reason: "/usr/local/cuda-11.2: no libcudart for this architecture under it"}]
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.node.record import read_node


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "filesystem_root": {"type": "path", "default": "/"},
            "environments_root": {"type": "path"},
            "environment": {"type": "str"},
            "environments": {"type": "list", "elements": "str", "default": []},
            "images": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    with failing_by_message(module):
        filesystem_root = module.params["filesystem_root"]
        environments_root = module.params["environments_root"]
        for name in ("filesystem_root", "environments_root"):
            value = module.params[name]
            if value is not None and not os.path.isabs(value):
                module.fail_json(msg=f"{name} is {value!r}; set it to an absolute path, such as /{value}")
        if not os.path.isdir(filesystem_root):
            module.fail_json(
                msg=f"filesystem_root is {filesystem_root!r}, which is no directory; set it to the mount point of the "
                "node's file system, or leave it out to read this node"
            )
        module.exit_json(
            changed=False,
            node=read_node(
                filesystem_root=filesystem_root,
                environments_root=environments_root,
                environment=module.params["environment"],
                environments=module.params["environments"],
                images=module.params["images"],
            ),
        )


if __name__ == "__main__":
    main()
