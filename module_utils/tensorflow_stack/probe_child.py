"""What runs in the environment's own Python: it observes, `probe.py` judges.

The text of this file is passed to `python -I -c`, so it imports nothing of ours and is ASCII. It runs on
Python 3.6 and newer (TensorFlow 2.4 has no wheel above 3.8) and on TensorFlow 1.15, which is why it has no
`from __future__ import annotations`.

Every stage writes two JSON lines to standard output, one when it begins and one when it ends: an abort or a
time-out still shows how far it came.
"""

import importlib
import json
import os
import platform
import re
import signal
import sys
import time
import traceback
from typing import Any, Callable, Dict, List

Record = Dict[str, Any]

CUDA_LIBRARY = re.compile(
    r"/lib(cuda|cudart|cublas\w*|cudnn\w*|cufft\w*|curand|cusolver\w*|cusparse|nccl|nvinfer\w*|nvidia-ml"
    r"|nvrtc[\w-]*|nvJitLink|cupti|nvToolsExt)\.so[.\d]*$"
)
# TensorFloat-32, on by default from Ampere on, rounds what goes into a product to 11 significant bits.
TENSOR_FLOAT_TOLERANCE = 5e-3


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


def list_devices() -> Record:
    tf = importlib.import_module("tensorflow")
    config = tf.config if hasattr(tf.config, "list_physical_devices") else tf.config.experimental
    details = getattr(tf.config.experimental, "get_device_details", _no_details)
    gpus = config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    # Otherwise an operation that was sent to a GPU runs on the CPU without a word.
    tf.config.set_soft_device_placement(False)
    config.list_logical_devices()  # starts the devices
    devices = [{"name": "/device:CPU:0", "type": "CPU", "description": platform.machine()}]
    for index, gpu in enumerate(gpus):
        described = details(gpu)
        capability = ".".join(str(part) for part in described.get("compute_capability", ()))
        description = f"{described['device_name']}, compute capability {capability}" if described else ""
        devices.append({"name": f"/device:GPU:{index}", "type": "GPU", "description": description})
    return {"devices": devices}


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
    return _compare(found, [np.mean(error**2), *wanted_gradients, *stepped], TENSOR_FLOAT_TOLERANCE)


def libraries() -> Record:
    """What is really mapped: LD_LIBRARY_PATH beats the RUNPATH of the wheels."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        paths = {line.split(None, 5)[5].rstrip("\n") for line in maps if "/" in line}
    found = sorted(path for path in paths if CUDA_LIBRARY.search(path))
    return {"libraries_mapped": [{"name": os.path.basename(path), "path": path} for path in found]}


# Run on every device, in this order. A new proof is one function and one row.
DEVICE_STAGES = {"matmul": matmul, "training_step": training_step}


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


def _compare(tensors: List[Any], wanted: List[Any], tolerance: float) -> Record:
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
        "ran_on": sorted({tensor.device for tensor in tensors}),
        "values": values,
        "wrong": len(wrong),
        "example": wrong[0] if wrong else None,
    }


def main() -> None:
    # The parent enforces the time limit; a child that lost its parent must not hold a GPU for ever.
    signal.alarm(int(sys.argv[1]))
    # What a library prints on standard output belongs to the log, not between the records.
    records = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def run(stage: str, action: Callable[..., Record], *device: str) -> Record:
        record = {"stage": stage, "device": device[0] if device else None, "finished": False}  # type: Record
        records.write(json.dumps(record) + "\n")
        records.flush()
        start = time.monotonic()
        try:
            record.update(action(*device), error=None)
        except Exception as error:  # whatever TensorFlow raises is the observation
            traceback.print_exc()
            record["error"] = f"{type(error).__name__}: {error}"
        record.update(finished=True, seconds=round(time.monotonic() - start, 3))
        records.write(json.dumps(record) + "\n")
        records.flush()
        return record

    if run("import", import_tensorflow)["error"] is None:
        devices = run("devices", list_devices).get("devices", [])
        gpus = [device["name"] for device in devices if device["type"] == "GPU"]
        for device in gpus or [device["name"] for device in devices]:
            for stage, action in DEVICE_STAGES.items():
                run(stage, action, device)
        run("libraries", libraries)


if __name__ == "__main__":
    main()
