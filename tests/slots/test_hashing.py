"""Key → slot, against the specification's examples, crcmod, and a bit-by-bit CRC written here."""

import crcmod.predefined
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.slots.hashing import SLOT_COUNT, key_slot

crcmod_xmodem = crcmod.predefined.mkCrcFun("xmodem")


def crc16_bit_by_bit(data: bytes) -> int:
    """CRC16-XMODEM by its definition: shift in each bit, subtract the polynomial when one falls out."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return crc


def hashed_part(key: bytes) -> bytes:
    """The hash tag rule as the specification states it, byte by byte."""
    for start, byte in enumerate(key):
        if byte == ord("{"):
            for end in range(start + 1, len(key)):
                if key[end] == ord("}"):
                    return key if end == start + 1 else key[start + 1 : end]
            return key
    return key


keys = st.binary(max_size=60) | st.lists(st.sampled_from([b"{", b"}", b"a", b"foo", b"\xff", b"\0"]), max_size=12).map(
    b"".join
)


def test_the_check_value_of_the_specification() -> None:
    """Appendix A of the specification: CRC16 of "123456789" is 0x31C3."""
    assert crc16_bit_by_bit(b"123456789") == 0x31C3
    assert key_slot(b"123456789") == 0x31C3 % SLOT_COUNT


@pytest.mark.parametrize(
    ("key", "slot"),
    [  # What CLUSTER KEYSLOT of redis-server 7.0.15 answers.
        (b"", 0),
        (b"foo", 12182),
        (b"bar", 5061),
        (b"hello", 866),
        (b"{user1000}.following", 3443),
        (b"{user1000}.followers", 3443),
        (b"user1000", 3443),
        (b"foo{}{bar}", 8363),
        (b"foo{{bar}}zap", 4015),
        (b"foo{bar}{zap}", 5061),
    ],
)
def test_known_slots(key: bytes, slot: int) -> None:
    assert key_slot(key) == slot


def test_an_unclosed_brace_is_an_ordinary_byte() -> None:
    assert key_slot(b"{bar") == key_slot(b"foo{{bar}}zap")  # Whose tag is "{bar".


@given(keys)
def test_agrees_with_crcmod_and_with_the_definition(key: bytes) -> None:
    part = hashed_part(key)

    assert key_slot(key) == crcmod_xmodem(part) % SLOT_COUNT == crc16_bit_by_bit(part) % SLOT_COUNT


@given(
    st.binary(min_size=1).filter(lambda tag: b"}" not in tag), st.binary().filter(lambda p: b"{" not in p), st.binary()
)
def test_keys_with_the_same_tag_share_a_slot(tag: bytes, prefix: bytes, suffix: bytes) -> None:
    assert key_slot(prefix + b"{" + tag + b"}" + suffix) == key_slot(b"{" + tag + b"}")
