"""Access times and counters, the choice of victims, and freeing in pieces."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace.access import LFU_INITIAL, FrequencyRules, Learner, Usage, frequency_of, usage_of
from cluster.keyspace.database import Database, Keyspace
from cluster.keyspace.eviction import POOL_SIZE, Evictor, Policy
from cluster.keyspace.hashes import HashValue
from cluster.keyspace.reclaim import LARGE, RECLAIMER, Reclaimer
from cluster.keyspace.scan_table import ScanTable
from cluster.slots.hashing import key_slot

NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000


def keyspace_at(now_ms: int = NOW_MS, databases: int = 2) -> Keyspace:
    keyspace = Keyspace(databases)
    keyspace.rng = random.Random(1)
    keyspace.frequency = FrequencyRules(keyspace.rng)
    set_time(keyspace, now_ms)
    return keyspace


def set_time(keyspace: Keyspace, now_ms: int) -> None:
    keyspace.now_ms = keyspace.access_ms = now_ms
    keyspace.frequency.set_time(now_ms)


def store(database: Database, key: bytes, expire_at_ms: int | None = None) -> None:
    database.put(key, key_slot(key), b"x")
    if expire_at_ms is not None:
        database.set_expiry(key, expire_at_ms)


def noted(database: Database) -> list[bytes]:
    assert database.usage is not None
    return list(database.usage.entries)


def idle_ms(database: Database, key: bytes) -> int:
    return database.keyspace.now_ms - database.last_used_ms(key, key_slot(key))


# Access -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("usage", [Usage.SLOTS, Usage.RECENCY])
def test_reading_and_writing_is_a_use_and_looking_is_none(usage: Usage) -> None:
    keyspace = keyspace_at()
    Learner(keyspace).switch(usage)
    database = keyspace.databases[0]
    store(database, b"k")
    set_time(keyspace, NOW_MS + 5000)
    assert database.glance(b"k", key_slot(b"k")) == b"x"
    assert database.exists(b"k", key_slot(b"k"))
    assert idle_ms(database, b"k") == 5000
    database.read(b"k", key_slot(b"k"))
    assert idle_ms(database, b"k") == 0
    set_time(keyspace, NOW_MS + 7000)
    database.learn(b"k", 1000, 77)
    assert idle_ms(database, b"k") == 1_000_000
    database.peek(b"k", key_slot(b"k"))
    assert idle_ms(database, b"k") == 0


def test_keys_of_one_slot_are_told_apart_once_a_policy_needs_it() -> None:
    keyspace = keyspace_at()
    database = keyspace.databases[0]
    learner = Learner(keyspace)
    learner.switch(Usage.RECENCY)
    store(database, b"{t}a")
    set_time(keyspace, NOW_MS + 9000)
    store(database, b"{t}b")
    assert (idle_ms(database, b"{t}a"), idle_ms(database, b"{t}b")) == (9000, 0)


KEYS = st.sampled_from([b"a", b"b", b"c", b"{a}1", b"{a}2"])


@given(st.lists(st.tuples(st.sampled_from(["put", "remove", "clear", "swap", "expire", "grow", "many"]), KEYS)))
def test_the_table_has_exactly_the_keys(steps: list[tuple[str, bytes]]) -> None:
    """Whatever happened before the policy was switched on, and after."""
    keyspace = keyspace_at()
    first, second = keyspace.databases
    learner = Learner(keyspace)
    for number, (step, key) in enumerate(steps):
        slot = key_slot(key)
        if number == len(steps) // 2:
            learner.switch(Usage.FREQUENCY)
            learner.advance(1_000_000)
        if step == "put":
            store(first, key)
        elif step == "remove":
            first.remove(key, slot)
        elif step == "clear":
            second.clear()
        elif step == "swap":
            first.swap_contents(second)
        elif step == "expire" and first.exists(key, slot):
            first.set_expiry(key, NOW_MS - 1)
            first.peek(key, slot)
        elif step == "grow" and first.exists(key, slot):
            first.changed(key)
        elif step == "many":
            first.put_many([key], [b"y"], slot)
    learner.switch(Usage.RECENCY)
    learner.advance(1_000_000)
    assert not learner
    for database in keyspace.databases:
        assert sorted(noted(database)) == sorted(key for key, _value in database.items())


def test_learning_goes_slot_by_slot() -> None:
    keyspace = keyspace_at()
    database = keyspace.databases[1]
    for number in range(500):
        store(database, b"key:%d" % number)
    learner = Learner(keyspace)
    learner.switch(Usage.RECENCY)
    learner.advance(0)
    assert learner
    assert 0 < len(noted(database)) < 500
    while learner:
        learner.advance(0)
    assert len(noted(database)) == 500
    learner.switch(Usage.SLOTS)
    assert usage_of(database) is Usage.SLOTS
    assert database.usage is None


# Frequency ----------------------------------------------------------------------------------------------------------


def test_a_counter_grows_with_the_logarithm_of_the_uses() -> None:
    """evict.c gives such a table: with a factor of 10, 100 hits make about 10 and 100,000 about 141 to 145."""
    rules = FrequencyRules(random.Random(7))
    entry = rules.pack(LFU_INITIAL)
    seen = {}
    for hits in range(1, 100_001):
        entry = rules.used(entry)
        if hits in (100, 1000, 100_000):
            seen[hits] = rules.counter(entry)
    assert 8 <= seen[100] <= 14
    assert 14 <= seen[1000] <= 24
    assert 125 <= seen[100_000] <= 160


def test_a_counter_decays_by_one_each_period() -> None:
    rules = FrequencyRules(random.Random(7))
    rules.set_time(NOW_MS)
    entry = rules.pack(50)
    rules.set_time(NOW_MS + 10 * MINUTE_MS)
    assert rules.counter(entry) == 40
    rules.decay_minutes = 5
    assert rules.counter(entry) == 48
    rules.decay_minutes = 0
    assert rules.counter(entry) == 50
    rules.decay_minutes = 1
    rules.set_time(NOW_MS + 500 * MINUTE_MS)
    assert rules.counter(entry) == 0


def test_one_command_is_one_use() -> None:
    keyspace = keyspace_at()
    Learner(keyspace).switch(Usage.FREQUENCY)
    database = keyspace.databases[0]
    keyspace.frequency.log_factor = 0  # Every use counts.
    key = b"counter"
    store(database, key)
    assert frequency_of(database, key) == LFU_INITIAL
    database.peek(key, key_slot(key))
    database.put(key, key_slot(key), 2)
    assert frequency_of(database, key) == LFU_INITIAL + 1
    store(database, bytes(bytearray(key)))
    assert frequency_of(database, key) == LFU_INITIAL + 2


# Victims ------------------------------------------------------------------------------------------------------------


def evict(keyspace: Keyspace, policy: Policy, count: int, samples: int = 5) -> list[bytes]:
    learner = Learner(keyspace)
    learner.switch(policy.usage)
    learner.advance(1_000_000)
    evictor = Evictor(keyspace)
    victims = []
    for _ in range(count):
        victim = evictor.choose(policy, samples)
        if victim is None:
            break
        database, key = victim
        assert database.remove(key, key_slot(key))
        victims.append(key)
    return victims


@pytest.mark.parametrize("policy", [policy for policy in Policy if policy is not Policy.NOEVICTION])
def test_only_what_the_policy_allows_goes(policy: Policy) -> None:
    keyspace = keyspace_at()
    for number in range(40):
        store(keyspace.databases[number % 2], b"stays:%d" % number)
        store(keyspace.databases[number % 2], b"expires:%d" % number, NOW_MS + 100_000 + number)
    victims = evict(keyspace, policy, 1000)
    assert len(victims) == len(set(victims)) == (80 if policy.takes_all_keys else 40)
    assert evict(keyspace, Policy.NOEVICTION, 1) == []


def test_soonest_first() -> None:
    keyspace = keyspace_at()
    order = list(range(50))
    random.Random(3).shuffle(order)
    for number in order:
        store(keyspace.databases[number % 2], b"%d" % number, NOW_MS + 1000 + number)
    assert evict(keyspace, Policy.VOLATILE_TTL, 50) == [b"%d" % number for number in range(50)]


@pytest.mark.parametrize("policy", [Policy.ALLKEYS_LRU, Policy.VOLATILE_LRU])
def test_what_was_not_used_goes_first(policy: Policy) -> None:
    keyspace = keyspace_at()
    Learner(keyspace).switch(Usage.RECENCY)
    database = keyspace.databases[0]
    for number in range(1000):
        set_time(keyspace, NOW_MS + number * 1000)
        store(database, b"%d" % number, NOW_MS * 2)
    victims = [int(key) for key in evict(keyspace, policy, 300)]
    assert sum(victims) / len(victims) < 300
    assert sum(number < 500 for number in victims) > 270


def test_what_is_seldom_used_goes_first() -> None:
    keyspace = keyspace_at()
    Learner(keyspace).switch(Usage.FREQUENCY)
    database = keyspace.databases[0]
    for number in range(1000):
        store(database, b"%d" % number)
        for _ in range(0 if number % 2 else 60):
            database.read(b"%d" % number, key_slot(b"%d" % number))
    victims = [int(key) for key in evict(keyspace, Policy.ALLKEYS_LFU, 300)]
    assert sum(number % 2 for number in victims) > 290


def test_random_means_each_with_the_same_chance_also_in_one_slot() -> None:
    found: Counter[bytes] = Counter()
    for seed in range(400):
        keyspace = keyspace_at()
        keyspace.rng = random.Random(seed)
        for number in range(8):
            store(keyspace.databases[0], b"{one}%d" % number)
        found.update(evict(keyspace, Policy.ALLKEYS_RANDOM, 1))
    assert len(found) == 8
    assert min(found.values()) > 20


def test_a_candidate_that_was_used_meanwhile_is_spared() -> None:
    keyspace = keyspace_at()
    Learner(keyspace).switch(Usage.RECENCY)
    database = keyspace.databases[0]
    for number in range(POOL_SIZE):
        set_time(keyspace, NOW_MS + number)
        store(database, b"%d" % number)
    evictor = Evictor(keyspace)
    first = evictor.choose(Policy.ALLKEYS_LRU, 1000)
    assert first == (database, b"0")
    set_time(keyspace, NOW_MS + 1000)
    database.read(b"0", key_slot(b"0"))
    database.read(b"1", key_slot(b"1"))
    assert evictor.choose(Policy.ALLKEYS_LRU, 1) == (database, b"2")


# Freeing ------------------------------------------------------------------------------------------------------------


def test_large_containers_are_freed_in_pieces() -> None:
    reclaimer = Reclaimer()
    big: dict[bytes, bytes] = {b"%d" % number: b"x" for number in range(3 * LARGE)}
    slots: list[dict[bytes, bytes]] = [{b"a": b"b"}, big]
    reclaimer.bury(slots, objects=7)
    assert reclaimer.drain(0)
    assert reclaimer.pending_objects == 7
    rounds = 1
    while reclaimer.drain(0):
        rounds += 1
    assert rounds > 50
    assert not big
    assert not slots
    assert (reclaimer.pending_objects, reclaimer.freed_objects) == (0, 7)


def test_a_large_value_ends_in_pieces_however_it_ends() -> None:
    while RECLAIMER.drain(1_000_000):
        pass
    table: ScanTable[bytes] | None = ScanTable((b"%d" % number, b"x") for number in range(2 * LARGE))
    assert table
    table = None
    assert RECLAIMER
    RECLAIMER.drain(1_000_000)
    small: ScanTable[bytes] | None = ScanTable((b"%d" % number, b"x") for number in range(300))
    assert small
    small = None
    assert not RECLAIMER


def test_unlink_counts_values_of_many_elements() -> None:
    while RECLAIMER.drain(1_000_000):
        pass
    before = RECLAIMER.freed_objects
    database = keyspace_at().databases[0]
    value = HashValue()
    value.fields = {b"%d" % number: b"x" for number in range(100)}
    value.is_compact = False
    database.put(b"big", key_slot(b"big"), value)
    store(database, b"small")
    assert database.unlink(b"big", key_slot(b"big"))
    assert database.unlink(b"small", key_slot(b"small"))
    assert not database.unlink(b"none", key_slot(b"none"))
    assert RECLAIMER.pending_objects == 1
    RECLAIMER.drain(1_000_000)
    assert RECLAIMER.freed_objects - before == 1
