"""Tables, a node record and a policy become a plan, or every reason against it.

Runs on the controller. Pure but for `door`, which reads tables, requirements and locks and is the one entrance.
"""
