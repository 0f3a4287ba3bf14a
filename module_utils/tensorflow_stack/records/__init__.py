"""The shape of what is kept or travels: a lock, a build, the manifest of a root, what is in a site-packages.

Runs on nodes and on the controller (Python 3.7). Parsing and rendering are pure; a record's own reader and writer
open its file.
"""
