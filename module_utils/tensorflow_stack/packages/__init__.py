"""One component (driver, CUDA, cuDNN) as packages of apt or dnf, at one closure of versions, held there.

Runs on the node (Python 3.7).
"""
