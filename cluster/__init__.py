"""Hashslot: a Redis-compatible server whose centre is Redis Cluster. The distribution is ``hashslot``."""

from __future__ import annotations

import os as _os

__version__ = "0.1.0"
REDIS_VERSION = "7.0.15"
"""What clients, logs and files are told: the version of Redis whose behaviour this is."""

# PyPI's "cluster" (python-cluster) has the same import name, and pip merges the two folders without a word.
if _os.path.exists(_os.path.join(_os.path.dirname(__file__), "matrix.py")):
    raise ImportError(
        "the package 'cluster' of Hashslot and that of PyPI's 'cluster' (python-cluster) were installed into the same "
        "folder; use a virtual environment of its own for hashslot"
    )
