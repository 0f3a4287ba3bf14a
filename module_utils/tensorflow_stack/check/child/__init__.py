"""What runs in the environment's own Python (3.6 and newer): it observes, the room above judges.

Copied there as a package of its own, so it imports its own files and the standard library only.
"""
