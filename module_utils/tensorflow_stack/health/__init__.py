"""The health check of a node: looks at driver and libraries every few minutes and writes what it found. Runs on nodes.

It runs without Ansible, from one file that `program.py` packs.
"""
