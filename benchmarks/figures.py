"""What was measured, as values: our figure, the same figure for redis-server, and the bound it is held to.

Every section of the benchmark yields `Row`s; `report` prints and writes them. A figure is the median of its samples;
the spread is shown beside it, because one number from a shared machine says little.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import attrs

Progress = Callable[[str], None]


@attrs.frozen
class Samples:
    """Repetitions of one measurement, in one unit."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@attrs.frozen
class Row:
    """One line of a table. `met` is None where nothing was promised."""

    name: str
    ours: Samples
    real: Samples
    target: str = ""
    met: bool | None = None
    notes: Sequence[str] = ()

    @property
    def ratio(self) -> float:
        return self.ours.median / self.real.median


@attrs.frozen
class Section:
    """A table with its heading; `form` prints a value in the section's unit."""

    title: str
    unit: str
    form: str
    rows: Sequence[Row]
    command: str
    remark: str = ""
    note_titles: Sequence[str] = ()


def at_least(name: str, ours: Samples, real: Samples, share: float, notes: Sequence[str] = ()) -> Row:
    """A row that promises at least `share` of redis-server's figure."""
    met = ours.median >= share * real.median
    return Row(name, ours, real, f"≥ {share} × redis-server", met, notes)


def at_most_real(name: str, ours: Samples, real: Samples) -> Row:
    """A row that promises not to be slower than redis-server."""
    return Row(name, ours, real, "≤ redis-server", ours.median <= real.median)


def at_most_share(name: str, ours: Samples, real: Samples, share: float) -> Row:
    """A row that promises at most `share` times redis-server's figure."""
    return Row(name, ours, real, f"≤ {share} × redis-server", ours.median <= share * real.median)


def at_most(name: str, ours: Samples, real: Samples, bound: float, text: str) -> Row:
    """A row that promises an absolute bound, whatever redis-server does."""
    return Row(name, ours, real, f"≤ {text}", ours.median <= bound)
