"""The keyspace: numbered databases, each an array of 16384 hash slots of plain dicts.

Role        Stores keys, values and expiry times; tells observers what changed; collects the effects to replicate.
Invariants  ``slots[s]`` holds only keys whose hash slot is ``s``, or a neighbour with which it shares the dict
            (``slots_per_table``). A key in ``expires`` exists in its slot's dict.
            An unused slot is the one shared empty dict ``EMPTY``, which nobody may write to: use :meth:`Database.put`.
            Only a master removes expired keys; a replica hides them and waits for the master's DEL (is_replica).
Units       ``*_ms``: Unix milliseconds. ``now_ms`` is set by the caller before each batch of commands.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cluster.keyspace.effects import FileOnly
from cluster.keyspace.packed import PackedValue
from cluster.keyspace.reclaim import LAZY_EFFORT, RECLAIMER
from cluster.keyspace.values import effort
from cluster.slots.hashing import key_slot

if TYPE_CHECKING:
    from cluster.keyspace.access import FrequencyRules, UsageTable

Value = Any
"""A string (bytes, int, bytearray: see keyspace.strings) or an instance of one of the value classes; in the tables also
a :class:`PackedValue`."""

SLOT_COUNT: Final = 16384
EMPTY: Final[dict[bytes, Value]] = {}
_RANDOM_KEY_ATTEMPTS: Final = 100
_PACKED: Final = PackedValue  # Compiled, a constant is found sooner than a module's name.


Observer = Callable[["Database", bytes], None]
"""Called as ``observer(database, key)`` after a key changed: WATCH, client-side caching."""

Notifier = Callable[[str, bytes, bytes, int], None]
"""Called as ``notifier(event_class, event, key, database_index)`` for keyspace notifications."""


class Keyspace:
    """All databases of one server, and what they have in common."""

    def __init__(self, database_count: int = 16, *, slots_per_table: int = 1) -> None:
        self.slots_per_table = slots_per_table
        """How many neighbouring slots share a dict: 1 in cluster mode, where slots are asked for one by one; a power of
        two without, so that a few thousand keys do not have as many dicts."""
        self.now_ms = 0
        """Unix ms that every command of the current batch sees as "now"."""
        self.dirty = 0
        """Changes since the last successful save (rdb_changes_since_last_save)."""
        self.is_replica = False
        """Replicas neither delete expired keys nor originate effects."""
        self.is_writable = True
        """False on a replica with replica-read-only; a writable one deletes expired keys that a write meets."""
        self.deletion_word = b"DEL"
        """How replicas are told of an expired key: UNLINK with lazyfree-lazy-expire."""
        self.writes_paused = False
        """CLIENT PAUSE or a failover hold writes back: expired keys are hidden, and go when that is over."""
        self.is_housekeeping = False
        """True while a key goes by nobody's command: its time is over, or memory is short."""
        self.obeying_master = False
        """True while a command of our master runs: expired keys are then visible to it, as in Redis."""
        self.own_expiries: list[tuple[int, int, bytes]] = []
        """On a writable replica, a heap of (when, database index, key) that its own clients have given a time: its
        master does not know of them."""
        self.loading = False
        """True while a data set is being loaded: nothing expires, what is in the file decides."""
        self.followed = False
        """True when somebody (replicas, backlog, AOF) wants effects; otherwise none are collected."""
        self.effects: list[tuple[int, list[bytes]]] = []
        """(database index, command) to replicate for the unit of execution now running, in order."""
        self.has_file_only_effects = False
        """True from the first :class:`FileOnly` on, which hardly anybody ever uses."""
        self.observers: list[Observer] = []
        self.observed = False
        """True when ``observers`` must be called: kept in step by add_observer/remove_observer."""
        self.notifier: Notifier | None = None
        self.hits = 0
        self.misses = 0
        self.expired_keys = 0
        self.evicted_keys = 0
        # Any, not int: so the compiled build stores the one object, too, instead of making another at each use.
        self.access_ms: Any = 0
        """"Now" as access times see it: set by housekeeping, so that many keys share one integer."""
        self.slot_used_ms: list[Any] = [0] * SLOT_COUNT
        """Per slot, of all databases: when a key of it was last used (see keyspace.access)."""
        self.frequency: FrequencyRules
        """Set by whoever evicts."""
        self.peeked_key: bytes | None = None
        """The last key that was peeked, by identity, under an LFU policy."""
        self.rng = random.Random()
        self.databases = [Database(self, index) for index in range(database_count)]

    def observe(self, observer: Observer) -> None:
        """Have ``observer`` called after each change of a key."""
        if observer not in self.observers:
            self.observers.append(observer)
        self.observed = True

    def unobserve(self, observer: Observer) -> None:
        """Stop calling ``observer``."""
        if observer in self.observers:
            self.observers.remove(observer)
        self.observed = bool(self.observers)

    def propagate(self, database_index: int, argv: list[bytes]) -> None:
        """Add a command to the effects of the unit now running."""
        if self.followed:
            self.effects.append((database_index, argv))
            if type(argv) is FileOnly:
                self.has_file_only_effects = True

    def flush_all(self) -> int:
        """Empty every database; returns how many keys went."""
        return sum(database.clear() for database in self.databases)


class Database:
    """One numbered database. Every method takes the key's slot when the caller knows it already."""

    __slots__ = (
        "_expiry_heap",
        "announces_new",
        "avg_ttl_ms",
        "expires",
        "index",
        "is_attended",
        "keyspace",
        "slot_used_ms",
        "slots",
        "usage",
    )

    def __init__(self, keyspace: Keyspace, index: int) -> None:
        self.keyspace = keyspace
        self.index = index
        self.slots: list[dict[bytes, Value]] = [EMPTY] * SLOT_COUNT
        self.expires: dict[bytes, int] = {}
        self._expiry_heap: list[tuple[int, bytes]] = []
        self.avg_ttl_ms = 0
        self.slot_used_ms = keyspace.slot_used_ms
        self.usage: UsageTable | None = None
        """Per key, when or how often it is used, under policies that need it: see keyspace.access and attend()."""
        self.announces_new = False
        """The event ``new`` is wanted (notify-keyspace-events n), for which each write looks at what was there."""
        self.is_attended = False
        """One of the two above: the one question of whoever stores."""

    def attend(self, usage: UsageTable | None, *, announces_new: bool) -> None:
        """Note the use of each key in ``usage`` from now on, and tell of new keys, or not."""
        self.usage = usage
        self.announces_new = announces_new
        self.is_attended = usage is not None or announces_new

    # Reading ------------------------------------------------------------------------------------------------

    def read(self, key: bytes, slot: int) -> Value | None:
        """The value for a command that reads it, or None; counts a hit or a miss, and as a use of the key."""
        value = self.glance(key, slot)
        if value is not None:
            if type(value) is _PACKED:
                value = self.stored(key, slot)
            self.slot_used_ms[slot] = self.keyspace.access_ms
            if self.usage is not None:
                self.usage.read(key)
        return value

    def glance(self, key: bytes, slot: int) -> Value | None:
        """Like :meth:`read` for a command that does not use the value (TTL, TYPE): its idle time goes on.

        It may be packed.
        """
        value = self.slots[slot].get(key)
        if value is not None and self.expires and key in self.expires and self._hide_if_expired(key, slot):
            value = None
        if value is None:
            self.keyspace.misses += 1
            self.notify("m", b"keymiss", key)
        else:
            self.keyspace.hits += 1
        return value

    def peek(self, key: bytes, slot: int) -> Value | None:
        """The value for a command that will change it (no hit or miss is counted), or None. Counts as a use."""
        self.slot_used_ms[slot] = self.keyspace.access_ms
        value = self.slots[slot].get(key)
        if value is None:
            return None
        if self.expires and key in self.expires and self._hide_if_expired(key, slot, for_write=True):
            return None
        if self.usage is not None:
            self.usage.peeked(key)
        if type(value) is _PACKED:
            value = self.stored(key, slot)
        return value

    def stored(self, key: bytes, slot: int) -> Value | None:
        """The value, expired or not, unpacked from now on; None for no key. Nothing is counted."""
        value = self.slots[slot].get(key)
        if type(value) is PackedValue:
            value = self.slots[slot][key] = value.unpacked()
        return value

    def exists(self, key: bytes, slot: int) -> bool:
        """True when the key is there and not expired. Not a use of it."""
        if key not in self.slots[slot]:
            return False
        return not (self.expires and key in self.expires and self._hide_if_expired(key, slot, for_write=True))

    def holds(self, key: bytes, slot: int) -> bool:
        """Like :meth:`exists`, but changes nothing: an expired key stays where it is."""
        return key in self.slots[slot] and not self.is_expired(key)

    def expire_at(self, key: bytes) -> int | None:
        """When the key expires (Unix ms), or None."""
        return self.expires.get(key)

    def _hide_if_expired(self, key: bytes, slot: int, *, for_write: bool = False) -> bool:
        """True when the key is past its time; a master then deletes it and says so (expireIfNeeded in db.c)."""
        keyspace = self.keyspace
        if self.expires[key] > keyspace.now_ms or keyspace.loading:
            return False
        if keyspace.is_replica:
            if keyspace.obeying_master:
                return False
            if not (for_write and keyspace.is_writable):
                return True
        if not keyspace.writes_paused:
            self.expire_now(key, slot)
        return True

    def expire_now(self, key: bytes, slot: int) -> None:
        """Delete a key whose time has come, tell replicas (DEL) and observers (expired)."""
        if self.keyspace.deletion_word == b"UNLINK":
            self.unlink(key, slot)
        else:
            self.remove(key, slot)
        self._say_expired(key)
        if self.keyspace.observed:
            self.keyspace.is_housekeeping = True
            self.touched(key)
            self.keyspace.is_housekeeping = False

    def _say_expired(self, key: bytes) -> None:
        keyspace = self.keyspace
        keyspace.expired_keys += 1
        keyspace.propagate(self.index, [keyspace.deletion_word, key])
        self.notify("x", b"expired", key)

    # Writing ------------------------------------------------------------------------------------------------

    def put(self, key: bytes, slot: int, value: Value, *, keep_ttl: bool = False) -> None:
        """Store ``value``, replacing what was there; drops the TTL unless told otherwise. Signals the change."""
        if self.is_attended:
            self._before_put(key, slot)
        values = self.slots[slot]
        if values is EMPTY:
            values = self.table_to_fill(slot)
        values[key] = value
        keyspace = self.keyspace
        self.slot_used_ms[slot] = keyspace.access_ms
        if self.expires and not keep_ttl:
            at_ms = self.expires.pop(key, None)
            if at_ms is not None and at_ms <= keyspace.now_ms and not (keyspace.obeying_master or keyspace.loading):
                self._say_expired(key)
        keyspace.dirty += 1
        if keyspace.observed:
            self.touched(key)

    def _before_put(self, key: bytes, slot: int) -> None:
        if self.announces_new and self.peek(key, slot) is None:
            self.notify("n", b"new", key)
        if self.usage is not None:
            self.usage.stored(key)

    def put_many(self, keys: list[bytes], values: list[Value], slot: int) -> None:
        """Store several values in one slot, as :meth:`put` would one after another."""
        if self.expires or self.keyspace.observed or self.is_attended:
            for key, value in zip(keys, values, strict=True):
                self.put(key, slot, value)
            return
        stored = self.table_to_fill(slot)
        stored.update(zip(keys, values, strict=True))
        self.keyspace.dirty += len(keys)

    def delete(self, key: bytes, slot: int, *, lazily: bool = False) -> bool:
        """Remove a key and signal the change; False when it was not there. (An expired key must be peeked first.)"""
        if not (self.unlink(key, slot) if lazily else self.remove(key, slot)):
            return False
        self.keyspace.dirty += 1
        self.touched(key)
        return True

    def remove(self, key: bytes, slot: int) -> bool:
        """Remove a key without telling anybody; False when it was not there."""
        if self.usage is not None:
            self.usage.removed(key)
        values = self.slots[slot]
        if values.pop(key, None) is None:
            return False
        if not values:
            self._set_table(slot, EMPTY)
        if self.expires:
            self.expires.pop(key, None)
        return True

    def unlink(self, key: bytes, slot: int) -> bool:
        """Like :meth:`remove`; a value of many elements is freed later, and counted (freeObjAsync)."""
        value = self.slots[slot].get(key)
        if value is not None and effort(value) > LAZY_EFFORT:
            RECLAIMER.bury([value], objects=1)
        return self.remove(key, slot)

    def changed(self, key: bytes, count: int = 1) -> None:
        """Say that a value was changed in place: counts ``count`` changes and tells observers."""
        if self.usage is not None:
            self.usage.changed(key)
        keyspace = self.keyspace
        keyspace.dirty += count
        if keyspace.observed:
            self.touched(key)

    def touched(self, key: bytes) -> None:
        """Tell observers that the key changed, without counting a change."""
        for observer in tuple(self.keyspace.observers):
            observer(self, key)

    def set_expiry(self, key: bytes, at_ms: int) -> None:
        """Give an existing key a time to expire (Unix ms)."""
        self.expires[key] = at_ms
        keyspace = self.keyspace
        if keyspace.is_replica and keyspace.is_writable and not (keyspace.obeying_master or keyspace.loading):
            heapq.heappush(keyspace.own_expiries, (at_ms, self.index, key))
        heap = self._expiry_heap
        heapq.heappush(heap, (at_ms, key))
        if len(heap) > 64 + 2 * len(self.expires):
            self._rebuild_heap()

    def _rebuild_heap(self) -> None:
        """Leave out what is not true any more."""
        self._expiry_heap = [(when, name) for name, when in self.expires.items()]
        heapq.heapify(self._expiry_heap)

    def persist(self, key: bytes) -> bool:
        """Take a key's expiry away; False when it had none."""
        return self.expires.pop(key, None) is not None

    def clear(self, *, lazily: bool = False) -> int:
        """Remove every key without telling anybody; returns how many there were. ``lazily``: counts as lazy freeing.

        Either way the memory of many keys is freed bit by bit.
        """
        if self.usage is not None:
            self.usage.clear()
        count = len(self)
        if count:
            RECLAIMER.bury(self.tables(), count if lazily else 0)
            RECLAIMER.bury(self._expiry_heap)
            RECLAIMER.bury(self.expires)
            self.slots = [EMPTY] * SLOT_COUNT
            self.expires = {}
            self._expiry_heap = []
        return count

    def swap_contents(self, other: Database) -> None:
        """SWAPDB: exchange everything the two hold."""
        self.slots, other.slots = other.slots, self.slots
        self.expires, other.expires = other.expires, self.expires
        self._expiry_heap, other._expiry_heap = other._expiry_heap, self._expiry_heap
        mine, theirs = self.usage, other.usage
        if mine is not None and theirs is not None:
            mine.entries, theirs.entries = theirs.entries, mine.entries
        elif mine is not None:
            mine.clear()
        elif theirs is not None:
            theirs.clear()

    def last_used_ms(self, key: bytes, slot: int) -> int:
        """When the key was last used, or at the latest: see keyspace.access."""
        at_ms = self.usage.last_used_ms(key) if self.usage is not None else None
        used_ms: int = self.slot_used_ms[slot] if at_ms is None else at_ms
        return used_ms

    def learn(self, key: bytes, idle_s: int | None, frequency: int | None) -> None:
        """Take over what RESTORE or a snapshot tells of the use of a key; both None: there is a key."""
        if self.usage is not None:
            self.usage.learn(key, idle_s, frequency)
        elif idle_s is not None:
            self.slot_used_ms[key_slot(key)] = self.keyspace.access_ms - idle_s * 1000

    def notify(self, event_class: str, event: bytes, key: bytes) -> None:
        """Publish a keyspace event if anybody asked for its class (``g $ l s h z x e t m d n``)."""
        notifier = self.keyspace.notifier
        if notifier is not None:
            notifier(event_class, event, key, self.index)

    # Walking ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        tables = self.tables()
        # Most databases of most servers have no keys, which is seen sixty times faster than counted.
        return 0 if tables.count(EMPTY) == len(tables) else sum(map(len, tables))

    def tables(self) -> list[dict[bytes, Value]]:
        """Every dict of keys once, also the unused ``EMPTY``, by slot. Not to be changed."""
        width = self.keyspace.slots_per_table
        return self.slots if width == 1 else self.slots[::width]

    def table_to_fill(self, slot: int) -> dict[bytes, Value]:
        """The dict for the keys of a slot, a new one where there was none."""
        values = self.slots[slot]
        if values is EMPTY:
            values = {}
            self._set_table(slot, values)
        return values

    def _set_table(self, slot: int, values: dict[bytes, Value]) -> None:
        width = self.keyspace.slots_per_table
        if width == 1:
            self.slots[slot] = values
        else:
            first = slot - slot % width
            self.slots[first : first + width] = [values] * width

    def items(self) -> Iterator[tuple[bytes, Value]]:
        """Every key and value, expired ones included, slot by slot."""
        for values in self.tables():
            yield from values.items()

    def keys_in_slot(self, slot: int) -> list[bytes]:
        """The keys of one slot, expired ones included."""
        if self.keyspace.slots_per_table == 1:
            return list(self.slots[slot])
        return [key for key in self.slots[slot] if key_slot(key) == slot]

    def is_expired(self, key: bytes) -> bool:
        """True when the key has an expiry that has passed (it may still be stored)."""
        at_ms = self.expires.get(key)
        return at_ms is not None and at_ms <= self.keyspace.now_ms

    def random_key(self) -> bytes | None:
        """A random key that is not expired, or None; an expired one where only such are left and none may go."""
        occupied = [slot for slot in range(0, SLOT_COUNT, self.keyspace.slots_per_table) if self.slots[slot]]
        rng = self.keyspace.rng
        attempts = 0
        while occupied:
            slot = rng.choice(occupied)
            held = self.slots[slot]
            key = next(islice(held, int(rng.random() * len(held)), None))
            if key not in self.expires or not self._hide_if_expired(key, key_slot(key)):
                return key
            if not self.slots[slot]:
                occupied.remove(slot)
            attempts += 1
            if key in self.expires and attempts >= _RANDOM_KEY_ATTEMPTS:
                return key
        return None

    def random_expiring_key(self) -> bytes | None:
        """A random key among those with an expiry, or None; in O(1)."""
        heap, expires = self._expiry_heap, self.expires
        rng = self.keyspace.rng
        while expires:
            for _ in range(_RANDOM_KEY_ATTEMPTS):
                at_ms, key = heap[int(rng.random() * len(heap))]
                if expires.get(key) == at_ms:
                    return key
            self._rebuild_heap()
            heap = self._expiry_heap
        return None

    def soonest_expiring_key(self) -> bytes | None:
        """The key that expires before all others, or None."""
        heap, expires = self._expiry_heap, self.expires
        while heap:
            at_ms, key = heap[0]
            if expires.get(key) == at_ms:
                return key
            heapq.heappop(heap)
        return None

    def take_due(self, now_ms: int, limit: int) -> list[bytes]:
        """Up to ``limit`` keys whose expiry has passed, soonest first; the caller deletes them."""
        heap = self._expiry_heap
        due: list[bytes] = []
        while heap and heap[0][0] <= now_ms and len(due) < limit:
            at_ms, key = heapq.heappop(heap)
            if self.expires.get(key) == at_ms:
                due.append(key)
        return due
