"""What is on a node: reads files, changes nothing and starts nothing.

Runs on the node (Python 3.7), at the start of every play, so it imports little: no dataclasses, no subprocess.
"""
