"""Random trouble from a seed; then peace, and everybody must come to agree on a sound cluster.

The error names the seed; ``python -m cluster.simulation SEED`` replays it, and tries as many others as you like.
"""

from __future__ import annotations

import pytest

from cluster.simulation.__main__ import SHAPES, survive


@pytest.mark.parametrize("seed", range(len(SHAPES)))
def test_a_cluster_survives_random_faults(seed: int) -> None:
    survive(seed)
