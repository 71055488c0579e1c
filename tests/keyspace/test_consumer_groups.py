"""Pending entries against a sorted dict, and the two sides of a group against each other."""

from __future__ import annotations

import gc
import weakref

from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace.consumer_groups import Group, Pending, PendingList

_ids = st.integers(0, 50)


@given(
    st.lists(st.one_of(st.tuples(st.just("add"), _ids), st.tuples(st.just("remove"), _ids), st.tuples(st.just("ack"))))
)
def test_pending_entries_are_kept_in_order(steps: list[tuple[str, int]]) -> None:
    pending, model = PendingList(), dict[int, Pending]()
    for name, *rest in steps:
        entry_id = rest[0] if rest else min(model, default=0)
        if name == "add":
            if entry_id not in model:
                model[entry_id] = Pending(b"", entry_id)
                pending.add(entry_id, model[entry_id])
        else:
            assert pending.remove(entry_id) is model.pop(entry_id, None)
        assert len(pending) == len(model)
        assert list(pending.ascending()) == sorted(model)
        assert list(pending.ascending(20)) == sorted(one for one in model if one >= 20)
        if model:
            assert (pending.first(), pending.last()) == (min(model), max(model))
    assert pending.entries == model


def test_what_is_gone_is_swept_out() -> None:
    pending = PendingList()
    for entry_id in range(10_000):
        pending.add(entry_id, Pending(b"", 0))
    for entry_id in range(9_990):
        pending.remove(entry_id)
    assert len(pending._order) < 200
    assert list(pending.ascending()) == list(range(9_990, 10_000))


def test_entries_may_go_while_they_are_walked_through() -> None:
    pending = PendingList()
    for entry_id in range(1000):
        pending.add(entry_id, Pending(b"", 0))
    seen = []
    for entry_id in pending.ascending(100):
        seen.append(entry_id)
        pending.remove(entry_id)
        pending.remove(entry_id + 1)
    assert seen == list(range(100, 1000, 2))
    assert list(pending.ascending()) == list(range(100))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("deliver", "hand over", "forget", "leave")), _ids, st.sampled_from((b"a", b"b", b"c"))
        )
    )
)
def test_each_pending_entry_belongs_to_one_consumer(steps: list[tuple[str, int, bytes]]) -> None:
    group = Group(0)
    owners: dict[int, bytes] = {}
    for now_ms, (name, entry_id, owner) in enumerate(steps):
        consumer = group.consumers.get(owner) or group.add_consumer(owner, now_ms)
        if name == "deliver":
            pending = group.deliver(entry_id, consumer, now_ms)
            owners[entry_id] = owner
            assert (pending.delivered_ms, pending.delivery_count) == (now_ms, 1)
        elif name == "hand over" and entry_id in owners:
            group.hand_over(entry_id, group.pending.entries[entry_id], consumer)
            owners[entry_id] = owner
        elif name == "forget":
            assert group.forget(entry_id) == (owners.pop(entry_id, None) is not None)
        elif name == "leave":
            theirs = [one for one, who in owners.items() if who == owner]
            assert group.remove_consumer(consumer) == len(theirs)
            for one in theirs:
                del owners[one]
        assert {one: entry.owner for one, entry in group.pending.entries.items()} == owners
        for other, each in group.consumers.items():
            assert list(each.pending.ascending()) == sorted(one for one, who in owners.items() if who == other)
            assert all(group.pending.entries[one] is entry for one, entry in each.pending.entries.items())


def test_nothing_of_a_group_outlives_it() -> None:
    """Without the help of the garbage collector, which does not look at what has been there for long."""
    group = Group(0)
    consumer = group.add_consumer(b"c", 0)
    gone = weakref.ref(consumer)
    for entry_id in range(10):
        group.deliver(entry_id, consumer, 0)
    gc.disable()
    try:
        del group, consumer
        assert gone() is None
    finally:
        gc.enable()
