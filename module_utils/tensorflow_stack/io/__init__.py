"""Files, locks, downloads and programs: what touches the machine, for every other room.

Runs on nodes and on the controller (Python 3.7). Knows nothing of TensorFlow, plans or packages, and imports no other
room. Every room that touches the machine imports it.
"""
