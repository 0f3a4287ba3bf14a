"""Decides what is done to many nodes, in which order, and reports on them together.

Runs on the controller. May import io.
"""
