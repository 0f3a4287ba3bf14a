"""What a user's requirements file asks for, in each format that is taken.

Runs on the controller. Imports nothing of ours.
"""
