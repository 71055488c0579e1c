"""The value classes of the keyspace, known to the RDB reader and writer for the time of some tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.persistence import rdb_values, rdb_writer
from cluster.persistence.collection_types import register_collections
from cluster.settings import Settings


@contextmanager
def registered(settings: Settings) -> Iterator[None]:
    """As in a node with these settings; afterwards the tables of both are as before."""
    factories, encoders = dict(rdb_values.FACTORIES), dict(rdb_writer.ENCODERS)
    register_collections(settings)
    yield
    for table, before in ((rdb_values.FACTORIES, factories), (rdb_writer.ENCODERS, encoders)):
        table.clear()
        table.update(before)  # type: ignore[arg-type]
