"""NVIDIA's repository and the distribution's components for apt and dnf: the source, its key, its index.

Runs on the node (Python 3.7).
"""
