"""What runs in the environment's own Python: it observes, the room above judges.

This file and its siblings are a package of their own there, so they import nothing else of ours. They run on Python
3.6 and newer (TensorFlow 2.4 has no wheel above 3.8) and on TensorFlow 1.15, which is why they have no
`from __future__ import annotations`.

TensorFlow is imported once, here; what it does on devices is done in forked processes, which start those devices: a
process that has started a GPU cannot be forked.
"""

import functools
import importlib
import json
import math
import os
import platform
import re
import signal
import time
from typing import Any, Callable, List

from . import driver, libraries, stages
from .stages import Record, Stage

CUDA_LIBRARY = re.compile(
    r"/lib(cuda|cudart|cublas\w*|cudnn\w*|cufft\w*|curand|cusolver\w*|cusparse|nccl|nvinfer\w*|nvidia-ml"
    r"|nvrtc[\w-]*|nvJitLink|cupti|nvToolsExt)\.so[.\d]*$"
)
# Of float32, with room for the orders of summation and the algorithms (Winograd) that a GPU chooses from.
ROUNDING = 1e-4


def import_tensorflow() -> Record:
    np = importlib.import_module("numpy")
    tf = importlib.import_module("tensorflow")
    if not tf.executing_eagerly():
        tf.compat.v1.enable_eager_execution()
    build_info = tf.sysconfig.get_build_info() if hasattr(tf.sysconfig, "get_build_info") else {}
    return {
        "python": platform.python_version(),
        "tensorflow_version": tf.__version__,
        "numpy_version": np.__version__,
        "build_info": json.loads(json.dumps(dict(build_info), default=str)),
    }


@functools.lru_cache(maxsize=None)
def start_devices() -> int:
    """Once in each process; gives back the number of GPUs."""
    tf = importlib.import_module("tensorflow")
    config = tf.config if hasattr(tf.config, "list_physical_devices") else tf.config.experimental
    gpus = config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    # Otherwise an operation that was sent to a GPU runs on the CPU without a word.
    tf.config.set_soft_device_placement(False)
    if hasattr(tf.config.experimental, "enable_tensor_float_32_execution"):
        # On by default from Ampere on: it rounds what goes into a product to 11 significant bits.
        tf.config.experimental.enable_tensor_float_32_execution(False)
    config.list_logical_devices()
    return len(gpus)


def list_devices() -> Record:
    tf = importlib.import_module("tensorflow")
    details = getattr(tf.config.experimental, "get_device_details", _no_details)
    config = tf.config if hasattr(tf.config, "list_physical_devices") else tf.config.experimental
    devices = [{"name": "/device:CPU:0", "type": "CPU", "description": platform.machine()}]
    start_devices()
    for index, gpu in enumerate(config.list_physical_devices("GPU")):
        described = details(gpu)
        capability = ".".join(str(part) for part in described.get("compute_capability", ()))
        description = f"{described['device_name']}, compute capability {capability}" if described else ""
        devices.append({"name": f"/device:GPU:{index}", "type": "GPU", "description": description})
    return {"devices": devices}


def expand(record: Record) -> List[Stage]:
    """What follows on the list of devices: every proof on every GPU, or on the CPU where there is none."""
    if record["stage"] != "devices":
        return []
    devices = record.get("devices", [])
    gpus = [device["name"] for device in devices if device["type"] == "GPU"]
    names = gpus or [device["name"] for device in devices]
    stages = [
        Stage(stage, name, functools.partial(_on_device, action, name))
        for name in names
        for stage, action in DEVICE_STAGES.items()
    ]
    if len(gpus) > 1:
        stages.append(Stage("all_reduce", None, functools.partial(all_reduce, gpus)))
    return [*stages, Stage("libraries", None, mapped_libraries)]


def _on_device(action: Callable[[str], Record], device: str) -> Record:
    start_devices()
    return action(device)


def matmul(device: str) -> Record:
    """Integers below 64: every sum is exact in float32, and in TensorFloat-32, whatever the order."""
    tf = importlib.import_module("tensorflow")
    left, right = _integers(64, 64, seed=1), _integers(64, 64, seed=2)
    with tf.device(device):
        product = tf.matmul(tf.constant(left, tf.float32), tf.constant(right, tf.float32))
    return _compare([product], [left @ right], tolerance=0.0)


def training_step(device: str) -> Record:
    """One step of gradient descent on a dense network of two layers."""
    np = importlib.import_module("numpy")
    tf = importlib.import_module("tensorflow")
    rate = 0.5
    # Multiples of 1/32 below 1: the hidden layer is exact, so no rounding flips a unit of the ReLU.
    x, y, *start = (
        (_integers(rows, columns, seed) - 32) / 32
        for seed, (rows, columns) in enumerate([(32, 8), (32, 1), (8, 16), (1, 16), (16, 1), (1, 1)], 3)
    )

    with tf.device(device):
        variables = [tf.Variable(tf.constant(value, tf.float32)) for value in start]
        w1, b1, w2, b2 = variables
        with tf.GradientTape() as tape:
            hidden = tf.nn.relu(tf.matmul(tf.constant(x, tf.float32), w1) + b1)
            error = tf.matmul(hidden, w2) + b2 - tf.constant(y, tf.float32)
            loss = tf.reduce_mean(tf.square(error))
        gradients = tape.gradient(loss, variables)
        for variable, gradient in zip(variables, gradients):
            variable.assign_sub(rate * gradient)
        found = [loss, *gradients, *(variable.read_value() for variable in variables)]

    w1, b1, w2, b2 = start
    hidden = np.maximum(x @ w1 + b1, 0)
    error = hidden @ w2 + b2 - y
    to_output = 2 * error / error.size
    to_hidden = (to_output @ w2.T) * (hidden > 0)
    wanted_gradients = [
        x.T @ to_hidden,
        to_hidden.sum(axis=0, keepdims=True),
        hidden.T @ to_output,
        to_output.sum(axis=0, keepdims=True),
    ]
    stepped = [value - rate * gradient for value, gradient in zip(start, wanted_gradients)]
    return _compare(found, [np.mean(error**2), *wanted_gradients, *stepped], ROUNDING)


def convolution(device: str) -> Record:
    """The first use of cuDNN, which TensorFlow loads and compares with its own not before."""
    np = importlib.import_module("numpy")
    tf = importlib.import_module("tensorflow")
    images = _integers(4 * 16 * 16, 8, seed=11).reshape(4, 16, 16, 8)
    filters = _integers(3 * 3 * 8, 16, seed=12).reshape(3, 3, 8, 16)
    with tf.device(device):
        found = tf.nn.conv2d(tf.constant(images, tf.float32), tf.constant(filters, tf.float32), 1, "SAME")
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="constant")
    wanted = sum(
        padded[:, row : row + 16, column : column + 16, :] @ filters[row, column]
        for row in range(3)
        for column in range(3)
    )
    return _compare([found], [wanted], ROUNDING)


def xla(device: str) -> Record:
    """One function that XLA compiles: exp and tanh need its ptxas and libdevice on a GPU."""
    np = importlib.import_module("numpy")
    tf = importlib.import_module("tensorflow")
    if tf.__version__.startswith("1."):
        # fact: docs/check.md, 2026-11-22
        return {"skipped": "TensorFlow 1.15 has no option to compile one function"}
    # fact: the documentation of tf.function, 2026-11-22
    option = "experimental_compile" if tf.__version__.startswith(("2.3.", "2.4.")) else "jit_compile"
    values = (_integers(32, 32, seed=13) - 32) / 16

    @functools.partial(tf.function, autograph=False, **{option: True})
    def compiled(x: Any) -> Any:
        return tf.tanh(x) * tf.exp(-x) + x

    with tf.device(device):
        found = compiled(tf.constant(values, tf.float32))
    return _compare([found], [np.tanh(values) * np.exp(-values) + values], ROUNDING)


def all_reduce(devices: List[str]) -> Record:
    """Every device adds its own numbers to those of all others, by NCCL between GPUs."""
    np = importlib.import_module("numpy")
    tf = importlib.import_module("tensorflow")
    start_devices()
    # For what belongs to the sum on no GPU; numbers that went through the CPU are no worse proof of the sum.
    tf.config.set_soft_device_placement(True)
    given = [_integers(16, 16, seed=20 + index) for index in range(len(devices))]
    is_gpu = "GPU" in devices[0]
    operations = tf.distribute.NcclAllReduce() if is_gpu else tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=operations)

    def add() -> Any:
        context = tf.distribute.get_replica_context()
        own = tf.gather(tf.constant(np.stack(given), tf.float32), context.replica_id_in_sync_group)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

    sums = strategy.experimental_local_results(tf.function(strategy.run, autograph=False)(add))
    return _compare(list(sums), [sum(given)] * len(devices), tolerance=0.0, places=False)


def mapped_libraries() -> Record:
    """What is really mapped: LD_LIBRARY_PATH beats the RUNPATH of the wheels."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        paths = {line.split(None, 5)[5].rstrip("\n") for line in maps if "/" in line}
    found = sorted(path for path in paths if CUDA_LIBRARY.search(path))
    return {"libraries_mapped": [{"name": os.path.basename(path), "path": path} for path in found]}


# Run on every device, in this order. A new proof is one function and one row.
DEVICE_STAGES = {
    "matmul": matmul,
    "training_step": training_step,
    "convolution": convolution,
    "xla": xla,
}


def _no_details(_: Any) -> Record:
    """Stands in before TensorFlow 2.4."""
    return {}


def _integers(rows: int, columns: int, seed: int) -> Any:
    """The same varied integers from 0 to 63 everywhere, by a linear congruential generator."""
    np = importlib.import_module("numpy")
    values = []
    for _ in range(rows * columns):
        seed = (seed * 1103515245 + 12345) % 2**31
        values.append((seed >> 16) % 64)
    return np.array(values, dtype=np.int64).reshape(rows, columns)


def _compare(tensors: List[Any], wanted: List[Any], tolerance: float, places: bool = True) -> Record:
    """Compare with NumPy's results; the tolerance is relative to the largest value of each array."""
    np = importlib.import_module("numpy")
    values = 0
    wrong = []  # type: List[str]
    for tensor, want in zip(tensors, wanted):
        got = tensor.numpy().astype(np.float64)
        # Not `>`: a NaN has to count as wrong.
        bad = np.logical_not(np.abs(got - want) <= tolerance * np.abs(want).max())
        values += bad.size
        pairs = zip(got[bad].tolist(), np.asarray(want)[bad].tolist())
        wrong.extend(f"{found}, not {right}" for found, right in pairs)
    return {
        "ran_on": sorted({tensor.device for tensor in tensors}) if places else [],
        "values": values,
        "wrong": len(wrong),
        "example": wrong[0] if wrong else None,
    }


def main(level: str, seconds: str, processor: str) -> None:
    # The parent enforces the time limit; a child that lost its parent must not hold a GPU for ever.
    signal.alarm(math.ceil(float(seconds)) + 60)
    # What a library prints on standard output belongs to the log, not between the records.
    records = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    runner = stages.Stages(records, time.monotonic() + float(seconds))
    if processor == "gpu":
        # A kernel needs a context, which takes memory of the GPU and, in exclusive mode, the GPU itself.
        runner.run(driver.stages(), (lambda record: []) if level == "health" else driver.expand)
        runner.run(libraries.stages(), libraries.expand)
    if level == "full" and runner.run_here(Stage("import", None, import_tensorflow))["error"] is None:
        runner.run([Stage("devices", None, list_devices)], expand)
