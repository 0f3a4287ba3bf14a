#!/usr/bin/python
"""Prove that the TensorFlow of one environment computes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_gpu_check
short_description: Prove that the TensorFlow of one environment computes, on the GPU if there is one
version_added: "1.0.0"
description:
  - If a GPU is expected, first tests the driver without TensorFlow, runs a small kernel on every GPU, and finds every
    library that the release opens, by the rules of the loader.
  - Then imports TensorFlow in the environment's own Python and computes a matrix product, a training step, a
    convolution and a function compiled by XLA on every GPU that TensorFlow lists, or on the CPU if it lists none.
    If there are several GPUs, computes a sum across all of them.
  - Each stage runs in a process with a time limit, so a stage that hangs or ends its process has a result as well.
  - Every value is compared with NumPy's. A listed device proves nothing, and neither does an operation that was placed
    on it without an error.
  - Fails unless the verdict is V(ok), V(cpu_only_no_gpu) with O(expect_gpu=false), or V(libraries_ok) with
    O(level=libraries). If TensorFlow falls back to the CPU on a node with a GPU, the module fails.
  - The verdict is stored in C(manifest.json) next to the environment, for environments that are listed there, and
    is reused while O(evidence), the build and this check are unchanged.
options:
  environment:
    description: Absolute path of the environment, a link to its current build.
    type: path
    required: true
  release:
    description: The TensorFlow release that the environment must have.
    type: str
    required: true
  expect_gpu:
    description: Whether TensorFlow must use a GPU on this node.
    type: bool
    required: true
  gpu_count:
    description:
      - The minimum number of GPUs that TensorFlow must list, if O(expect_gpu=true).
      - V(0) requires one.
    type: int
    default: 0
  gpu_addresses:
    description:
      - PCI addresses of the GPUs that the driver must show this environment, if O(expect_gpu=true), and of no other.
      - If empty, O(gpu_count) alone is required, as for GPUs that are on no PCI bus.
    type: list
    elements: str
    default: []
  cudnn_floor:
    description:
      - The cuDNN that the release is built with. TensorFlow refuses an older minor version at the first convolution.
      - If not set, the version of cuDNN is reported but not judged.
    type: str
  level:
    description:
      - V(full) is the complete check.
      - V(libraries) checks only the driver and the libraries, without importing TensorFlow. It is quick enough for a
        health check that runs every few minutes. Its best verdict is V(libraries_ok); it is neither stored nor reused.
    type: str
    choices: [full, libraries]
    default: full
  time_limit:
    description:
      - Time limit of the check in seconds. Then its process and all that it started are killed.
      - One stage may take half of the remaining time, or all of it if TensorFlow reports that it compiles its kernels.
      - Compiling the kernels for a newer GPU can take many minutes the first time, if the driver does not load them one
        by one.
    type: float
    default: 300
  pending:
    description: Set it in check mode if the environment would be changed. Nothing is checked, and the verdict is
      V(not_checked).
    type: bool
    default: false
  reboot_reasons:
    description:
      - Why the node must be rebooted before the driver works.
      - If there are any, nothing is checked and the verdict is V(reboot_required).
    type: list
    elements: str
    default: []
  reuse:
    description: Whether an earlier good verdict may be returned without starting Python.
    type: bool
    default: true
  evidence:
    description:
      - The state for which the verdict is valid, such as driver version, GPUs, boot ID, and the code of the check.
      - C(CUDA_VISIBLE_DEVICES), C(LD_LIBRARY_PATH) and C(NVIDIA_VISIBLE_DEVICES) are always part of it.
      - Without evidence no verdict is reused.
    type: dict
    default: {}
  diagnoses:
    description:
      - Rows of the table C(diagnoses.yml), with which RV(causes) of a bad verdict are found.
      - If empty, no causes are looked for.
    type: list
    elements: dict
    default: []
  unused_gpu:
    description:
      - Signs of a GPU, if the plan uses the CPU because none is on the PCI bus. Added to the reason of a good verdict.
    type: str
attributes:
  check_mode:
    description: The check runs, but its verdict is not stored. Without an environment the verdict is V(not_checked).
    support: full
  diff_mode:
    description: The module changes nothing on the node except the stored verdict.
    support: none
notes:
  - The child process gets no C(PYTHON*) variable and no C(LD_PRELOAD). C(LD_LIBRARY_PATH) is passed on unchanged,
    because users of the environment have it too; it is reported in RV(report.variables).
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Verify an environment on a node with two GPUs
  tensorflow_gpu_check:
    environment: /opt/tensorflow/tensorflow-2.8.0
    release: 2.8.0
    expect_gpu: true
    gpu_count: 2
    evidence:
      driver: "{{ __node.driver.loaded }}"
      gpus: "{{ __node.gpus }}"
      boot_id: "{{ __node.boot_id }}"

- name: Verify the CPU path of a node without a GPU
  tensorflow_gpu_check:
    environment: /opt/tensorflow/tensorflow-2.8.0
    release: 2.8.0
    expect_gpu: false

- name: Look at the driver and the libraries only
  tensorflow_gpu_check:
    environment: /opt/tensorflow/tensorflow-2.8.0
    release: 2.8.0
    expect_gpu: true
    cudnn_floor: 8.1.0
    level: libraries

- name: Verify anew, with time to compile kernels for a newer GPU
  tensorflow_gpu_check:
    environment: /opt/tensorflow/tensorflow-2.8.0
    release: 2.8.0
    expect_gpu: true
    reuse: false
    time_limit: 3600
"""

RETURN = r"""
verdict:
  description: The result in one word.
  returned: always
  type: str
  choices:
    ok: every GPU that TensorFlow lists, and as many as expected, computed the right numbers
    cpu_only_no_gpu: no GPU was expected and none is listed; the CPU computed the right numbers
    libraries_ok: "driver and libraries are in order; TensorFlow was not started (`level: libraries`)"
    driver_missing: the loader finds no libcuda, the driver's library
    driver_mismatch: the driver's kernel module, libcuda and NVML have different versions
    driver_too_old: the driver is older than the CUDA that the release is built with
    driver_failed: the driver does not start, or does not run a kernel of the check's own on a GPU
    gpu_missing: the driver works and lacks an expected GPU
    gpu_not_expected: the driver shows a GPU that the plan is not for
    library_missing: a library that the release opens is not found or does not load
    cudnn_too_old: the cuDNN that the loader finds first is older than the one that the release is built with
    gpu_not_used: TensorFlow lists fewer GPUs than expected, or an operation did not run on its GPU
    wrong_numbers: an operation, or the check's own kernel, computed other numbers than the CPU
    import_failed: "`import tensorflow` raised or ended the process"
    wrong_release: the environment has another release than the expected one
    op_failed: the devices or an operation raised or ended the process
    compiling_kernels: the time limit passed while kernels were compiled for a GPU that is newer than the release
    timed_out: the check exceeded its time limit and was ended
    killed: a signal ended the process, for example TensorFlow's own abort
    environment_missing: the environment does not exist, or its Python does not start
    reboot_required: the driver works only after a reboot, so nothing was run
    not_checked: "nothing was run: check mode before the environment exists, or the check itself cannot run"
  sample: cpu_only_no_gpu
reason:
  description: Reason of the verdict, in a sentence or two.
  returned: always
  type: str
  sample: TensorFlow 2.8.0 computed the right numbers on /device:CPU:0; no GPU was expected.
reused:
  description: Whether the verdict is from an earlier run.
  returned: always
  type: bool
  sample: false
stored:
  description: Whether the manifest next to the environment holds this verdict.
  returned: always
  type: bool
  sample: true
checked_at:
  description: When the check ran, in UTC. Null when it never did.
  returned: always
  type: str
  sample: "2026-11-22T16:55:01Z"
report:
  description: Observations. Keys of a stage that was not reached are null or empty.
  returned: always
  type: dict
  contains:
    python:
      description: Version of the environment's Python.
      type: str
      sample: 3.10.13
    tensorflow_version:
      description: Version that TensorFlow reports.
      type: str
      sample: 2.8.0
    numpy_version:
      description: Version of NumPy in the environment.
      type: str
      sample: 1.23.5
    build_info:
      description: Build information of TensorFlow. Empty before TensorFlow 2.3.
      type: dict
      sample: {cuda_version: "11.2", cudnn_version: "8", is_cuda_build: true}
    gpu:
      description: V(present) if TensorFlow lists a GPU, otherwise V(absent).
      type: str
      sample: absent
    devices:
      description: The devices that TensorFlow lists.
      type: list
      elements: dict
      sample: [{name: "/device:CPU:0", type: CPU, description: x86_64}]
    driver:
      description:
        - The driver without TensorFlow. C(module) is the kernel module, C(xids) are the last errors of GPUs in the
          kernel's log, C(nvml) has memory, ECC, MIG, fabric and processes of each GPU, C(libcuda) has the driver's CUDA
          version and its GPUs.
        - All null if no GPU is expected.
      type: dict
      sample: {module: null, xids: null, nvml: null, libcuda: null}
    libraries:
      description:
        - Every library that the release opens, the path where the loader finds it and the loader's rule (C(rule)), its
          real file (C(target)), the version that it reports, and other copies (C(others)).
        - Empty if no GPU is expected.
      type: list
      elements: dict
      sample:
        - name: libcudnn.so.8
          path: /opt/tensorflow/tensorflow-2.8.0/lib/python3.10/site-packages/tensorflow/libcudnn.so.8
          target: /usr/lib/x86_64-linux-gnu/libcudnn.so.8.1.0
          rule: RUNPATH
          version: 8.1.0
          error: null
          others: []
    loader:
      description: The directories that the loader searches before its cache, by rule.
      type: dict
      sample: {}
    compiler:
      description: Paths of ptxas and libdevice, which XLA needs on a GPU; null if missing.
      type: dict
      sample: {}
    libraries_mapped:
      description: File name and path of every CUDA and cuDNN library that the process had mapped at its end.
      type: list
      elements: dict
      sample: []
    variables:
      description: The variables that decide which libraries and devices are found, as far as they were set.
      type: dict
      sample: {}
    stages:
      description:
        - The stages in the order in which they ran.
        - C(seconds) is null for a stage that did not end, C(device) for a stage without a device.
      type: list
      elements: dict
      sample:
        - {name: matmul, device: "/device:CPU:0", passed: true, seconds: 0.054, detail: "4096 values equal NumPy's"}
causes:
  description:
    - Causes of a bad verdict, first cause first, from the log and the node; see docs/troubleshooting.md.
    - Empty for a good verdict, without O(diagnoses), or if no known cause applies.
  returned: always
  type: list
  elements: dict
  sample: []
  contains:
    cause:
      description: A stable code.
      type: str
      sample: driver_mismatch
    component:
      description: The component that it concerns.
      type: str
      sample: driver
    says:
      description: What is wrong.
      type: str
      sample: The driver's libraries and its kernel module have different versions.
    do:
      description: What to do.
      type: str
      sample: Reboot, or run `make workstation` with `nvidia_driver_reboot=true`.
    evidence:
      description: The lines and facts that show it.
      type: list
      elements: str
      sample: ["driver_moved: 550.163.01, 535.183.01"]
    follows:
      description: The cause before it that explains it; null if none does.
      type: str
      sample: null
stderr_tail:
  description: Last lines of the child's log. Empty for a reused verdict.
  returned: always
  type: list
  elements: str
  sample: []
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.check import probe
from ..module_utils.tensorflow_stack.check.cpu import read_cpu
from ..module_utils.tensorflow_stack.check.diagnose import diagnose_check
from ..module_utils.tensorflow_stack.errors import StackError
from ..module_utils.tensorflow_stack.node.record import read_node

_TAIL_LINES = 40


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "environment": {"type": "path", "required": True},
            "release": {"type": "str", "required": True},
            "expect_gpu": {"type": "bool", "required": True},
            "gpu_count": {"type": "int", "default": 0},
            "gpu_addresses": {"type": "list", "elements": "str", "default": []},
            "cudnn_floor": {"type": "str"},
            "level": {"type": "str", "choices": ["full", "libraries"], "default": "full"},
            "time_limit": {"type": "float", "default": 300},
            "pending": {"type": "bool", "default": False},
            "reboot_reasons": {"type": "list", "elements": "str", "default": []},
            "reuse": {"type": "bool", "default": True},
            "evidence": {"type": "dict", "default": {}},
            "diagnoses": {"type": "list", "elements": "dict", "default": []},
            "unused_gpu": {"type": "str"},
        },
        supports_check_mode=True,
    )
    with failing_by_message(module):
        rows = module.params.pop("diagnoses")
        unused_gpu = module.params.pop("unused_gpu")
        waiting = probe.not_run(
            module.params["environment"],
            pending=module.params.pop("pending"),
            reboot_reasons=module.params.pop("reboot_reasons"),
        )
        try:
            outcome = waiting or probe.check(**module.params, check_mode=module.check_mode)
        except StackError as error:
            nothing_run = {**dataclasses.asdict(probe.CheckOutcome("not_checked", error.message)), "causes": []}
            module.fail_json(msg=error.message, changed=False, **nothing_run, **error.details)
        if unused_gpu and outcome.is_good:
            # Not kept with the verdict: it is said of this run's plan.
            outcome = dataclasses.replace(outcome, reason=f"{outcome.reason} {unused_gpu}")
        # All of the log is for the diagnosis: a stage that fails early is in it long before the end.
        seen = dataclasses.asdict(outcome)
        result = {**seen, "stderr_tail": outcome.stderr_tail[-_TAIL_LINES:], "causes": []}
        if outcome.is_good or outcome.verdict == "not_checked":
            module.exit_json(changed=False, **result)
        message = f"{outcome.verdict}: {outcome.reason}"
        if rows:
            expect_gpu = module.params["expect_gpu"]
            causes = diagnose_check(rows, seen, node=read_node(), expect_gpu=expect_gpu, cpu=read_cpu())
            result["causes"] = [dataclasses.asdict(cause) for cause in causes]
            message += "".join(f" Cause ({cause.cause}): {cause.says} {cause.do}" for cause in causes[:1])
        module.fail_json(msg=message, changed=False, **result)


if __name__ == "__main__":
    main()
