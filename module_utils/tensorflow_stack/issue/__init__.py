"""One file for the report of a fault: what was found, planned and logged, without secrets and without names.

Runs on the controller, which writes it, and on the node, which has logs and names (Python 3.7).
"""
