"""From a release and a user's wishes to a lock: inputs, resolution by uv, and why a file cannot be had.

Runs on the controller. Planning looks up locks through it; only the module tensorflow_lock makes them.
"""
