"""The proof that TensorFlow computes, and the doctor, who says why it does not.

Runs on the node (Python 3.7); `child` runs in the environment's own Python.
"""
