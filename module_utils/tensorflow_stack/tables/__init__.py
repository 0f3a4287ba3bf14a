"""The tables of the role tensorflow_release as typed rows: every fact that ages.

Runs on the controller. Everybody there may import it; it imports nothing.
"""
