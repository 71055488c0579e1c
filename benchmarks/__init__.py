"""Measurements against redis-server, side by side in one run. Start with `python -m benchmarks --help`."""
