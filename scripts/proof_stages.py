"""What an environment is proven with. Runs in its own Python (3.6 and newer).

Prints `ok <stage>` for each stage that did what it should, and ends with the traceback of the first that did not.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from typing import Any, Tuple

TENSORBOARD_START_S = 60


def main() -> None:
    directory = tempfile.mkdtemp(prefix="tensorflow-proof-")
    try:
        import numpy
        import tensorflow

        done("import")
        if tensorflow.__version__.startswith("1."):
            tensorflow.compat.v1.enable_eager_execution()
        multiply(numpy, tensorflow)
        done("multiply")
        model, inputs = train(numpy, tensorflow, os.path.join(directory, "logs"))
        done("train")
        save_and_load(numpy, tensorflow, model, inputs, directory)
        done("save_and_load")
        start_tensorboard(os.path.join(directory, "logs"))
        done("tensorboard")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def done(stage: str) -> None:
    print("ok " + stage, flush=True)


def multiply(numpy: Any, tensorflow: Any) -> None:
    left = numpy.arange(12, dtype="float32").reshape(3, 4) - 5
    right = numpy.arange(20, dtype="float32").reshape(4, 5) % 7
    product = tensorflow.matmul(tensorflow.constant(left), tensorflow.constant(right)).numpy()
    assert (product == left.dot(right)).all(), product


def train(numpy: Any, tensorflow: Any, logs: str) -> Tuple[Any, Any]:
    """One step must lower the loss of a small convolutional model; its summaries are what TensorBoard shows."""
    keras = tensorflow.keras
    numpy.random.seed(1)
    inputs = numpy.random.rand(32, 8, 8, 1).astype("float32")
    targets = inputs.mean(axis=(1, 2, 3)).reshape(32, 1) * 3 + 1
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(4, 3, activation="relu", input_shape=(8, 8, 1)),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
    before = model.evaluate(inputs, targets, verbose=0)
    model.fit(
        inputs, targets, batch_size=32, epochs=1, verbose=0, callbacks=[keras.callbacks.TensorBoard(log_dir=logs)]
    )
    after = model.evaluate(inputs, targets, verbose=0)
    assert after < before, (before, after)
    return model, inputs


def save_and_load(numpy: Any, tensorflow: Any, model: Any, inputs: Any, directory: str) -> None:
    wanted = model.predict(inputs, verbose=0)
    # Keras 3 saves .keras and .h5, older ones a SavedModel directory and .h5.
    formats = ["model.h5", "model.keras" if hasattr(tensorflow.keras, "version") else "saved_model"]
    for name in formats:
        path = os.path.join(directory, name)
        model.save(path)
        found = tensorflow.keras.models.load_model(path, compile=False).predict(inputs, verbose=0)
        assert numpy.allclose(found, wanted), name


def start_tensorboard(logs: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = os.path.join(os.path.dirname(sys.executable), "tensorboard")
    server = subprocess.Popen(
        [program, "--logdir", logs, "--host", "127.0.0.1", "--port", port],
        stdout=subprocess.DEVNULL,
    )
    address = "http://127.0.0.1:" + port + "/data/environment"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.time() + TENSORBOARD_START_S
    try:
        while True:
            try:
                answer = opener.open(address, timeout=5).read().decode("utf-8")
                assert "data_location" in answer, answer
                return
            except (urllib.error.URLError, OSError):
                if server.poll() is not None or time.time() > deadline:
                    raise
                time.sleep(0.5)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
