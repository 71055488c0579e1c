"""Look for trouble: ``python -m cluster.simulation FIRST [LAST]`` runs one simulation for each seed.

Every run breaks things for a while, mends them, and expects the cluster to come to its senses. What went wrong, when
and where is printed for the first seed that fails.
"""

from __future__ import annotations

import sys
from typing import Final

from cluster.simulation.faults import Troublemaker
from cluster.simulation.world import World

TROUBLE_MS: Final = 20_000

SHAPES: Final[list[tuple[int, int, dict[str, int | bool]]]] = [
    (3, 1, {}),
    (3, 2, {}),
    (5, 1, {}),
    (3, 1, {"cluster_require_full_coverage": False}),
    (4, 1, {"cluster_node_timeout": 2000}),
    (3, 3, {"cluster_node_timeout": 500}),
    (3, 2, {"cluster_allow_replica_migration": False}),
    (3, 1, {"cluster_replica_validity_factor": 0}),
]
"""Masters, replicas of each, settings."""


def survive(seed: int) -> int:
    """One run; how many milliseconds the cluster needed to heal. Raises AssertionError, having printed the history."""
    masters, replicas_each, settings = SHAPES[seed % len(SHAPES)]
    world = World(seed, masters * (1 + replicas_each), **settings)
    troublemaker = Troublemaker(world, operator=seed % 3 != 0, takeover=seed % 5 == 0)
    world.create_cluster(masters, replicas_each)
    try:
        troublemaker.trouble(TROUBLE_MS)
        world.heal()
        return world.check_healed()
    except BaseException:
        print(*troublemaker.history, sep="\n")
        for node in world.nodes:
            print(node, *node.log[-20:], sep="\n  ")
        raise


def main(arguments: list[str]) -> int:
    """Run the seeds from FIRST up to (not including) LAST."""
    if not arguments or len(arguments) > 2 or not all(argument.isdecimal() for argument in arguments):
        print("usage: python -m cluster.simulation FIRST [LAST]", file=sys.stderr)
        return 2
    first = int(arguments[0])
    for seed in range(first, int(arguments[1]) if len(arguments) == 2 else first + 1):
        print(f"seed {seed}: healed after {survive(seed)} ms", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
