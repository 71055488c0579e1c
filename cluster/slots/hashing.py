"""Key → hash slot: CRC16 of the key, or of its hash tag, modulo 16384.

Role        The one place that knows how a key chooses its slot. Used with cluster mode off
            too: the keyspace is kept by slot.
Invariants  0 <= slot < SLOT_COUNT. Total: any bytes have a slot.
Spec        Redis Cluster specification, "Key distribution model" and "Hash tags" (keyHashSlot in cluster.c, crc16.c).

The CRC is CRC16-XMODEM (polynomial 0x1021, initial value 0), which is what ``binascii.crc_hqx`` computes; it costs less
than crcmod's compiled version on keys of usual length. The tests hold it against crcmod and a bit-by-bit version.
"""

from binascii import crc_hqx
from typing import Final

SLOT_COUNT: Final = 16384


_crc: Final = crc_hqx  # A constant is found without a look into the module's dictionary, once compiled.


def key_slot(key: bytes) -> int:
    """Return the slot of ``key``; only what stands between the first ``{`` and the next ``}`` counts, unless empty."""
    if 123 in key:  # 123 is "{". An integer is looked up 150 ns faster than b"{": this line is in every command's path.
        start = key.index(b"{") + 1
        end = key.find(b"}", start)
        if end > start:  # Neither missing (-1) nor directly behind the opening brace.
            key = key[start:end]
    return _crc(key, 0) & 0x3FFF


def through_hash_tag(key: bytes) -> bytes:
    """The beginning of ``key`` up to the end of its hash tag; empty without one.

    Every key that begins so has the same tag, hence the same slot: cheaper to see than to compute.
    """
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    return key[: end + 1] if end > start + 1 else b""
