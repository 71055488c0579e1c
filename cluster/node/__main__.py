"""``python -m cluster.node`` and the console script ``redis-cluster-node``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a node; returns only after a clean stop (exit 0)."""
    from cluster.node.process import run_process

    sys.exit(run_process(sys.argv))


if __name__ == "__main__":
    main()
