"""NVIDIA's redistributable archives, unpacked as one tree at a versioned prefix.

Runs on the node (Python 3.7).
"""
