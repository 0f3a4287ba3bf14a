"""What companions of TensorFlow are proven with. Runs in the Python of an environment (3.6 and newer).

Most that do not fit fail at import, some only once an operation of theirs is called. scripts/prove_companions.py starts
this with the name of one.
"""

import sys

import numpy
import tensorflow

ONES = numpy.ones((2, 3), "float32")


def use_keras_cv() -> None:
    import keras_cv

    keras_cv.layers.Grayscale()


def use_keras_hub() -> None:
    import keras_hub

    keras_hub.layers.SinePositionEncoding()(numpy.ones((1, 4, 6), "float32"))


def use_tensorflow_addons() -> None:
    import tensorflow_addons

    tensorflow_addons.image.euclidean_dist_transform(numpy.ones((4, 4, 1), "uint8"))


def use_tensorflow_datasets() -> None:
    import tensorflow_datasets.public_api  # raises what the import of the whole swallows

    tensorflow_datasets.features.Image()


def use_tensorflow_hub() -> None:
    import tensorflow_hub

    tensorflow_hub.KerasLayer(tensorflow.function(lambda value: value * 2))(ONES)


def use_tensorflow_io() -> None:
    import tensorflow_io

    if tensorflow.__version__.startswith("1."):
        return  # of that time, without the operation below
    assert tensorflow_io.experimental.color.rgb_to_bgr(numpy.ones((2, 2, 3), "uint8")).shape == (2, 2, 3)


def use_tensorflow_probability() -> None:
    import tensorflow_probability

    assert float(tensorflow_probability.distributions.Normal(0.0, 1.0).log_prob(0.5)) < 0


def use_tensorflow_text() -> None:
    import tensorflow_text

    tokens = tensorflow_text.WhitespaceTokenizer().tokenize(["two words"])
    assert tokens.to_list() == [[b"two", b"words"]]


def use_tf_keras() -> None:
    import tf_keras

    assert tf_keras.layers.Dense(2)(ONES).shape == (2, 2)


def use_tf2onnx() -> None:
    import tf2onnx

    if tensorflow.__version__.startswith("1."):
        return  # it converts functions of TensorFlow 2 alone
    signature = [tensorflow.TensorSpec((2,), tensorflow.float32)]
    tf2onnx.convert.from_function(tensorflow.function(lambda value: value * 2.0), input_signature=signature)


if __name__ == "__main__":
    if tensorflow.__version__.startswith("1."):
        tensorflow.compat.v1.enable_eager_execution()
    globals()["use_" + sys.argv[1].replace("-", "_")]()
