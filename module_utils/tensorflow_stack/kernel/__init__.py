"""Kernel modules: nouveau kept out, and the driver's module built for every kernel and loaded if that is possible.

Runs on the node (Python 3.7).
"""
