"""Environments of a root: built beside the live one, checked, switched to, rolled back, removed.

Runs on the node (Python 3.7).
"""
