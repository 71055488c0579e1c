"""RESTORE of damaged payloads: refused whatever the settings say; the log tells when they said to trust them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.persistence import listpack
from tests.support.servers import OurNode
from tests.support.wire import ReplyError

WARNING = "is damaged inside, and is refused"
HASH_LISTPACK = 16
QUICKLIST_2 = 18


def payload(code: int, body: bytes) -> bytes:
    """A payload of RDB version 10 whose checksum is not looked at."""
    return bytes((code,)) + body + b"\x0a\x00" + bytes(8)


def text(data: bytes) -> bytes:
    """A string of an RDB file."""
    return bytes((len(data),)) + data


TWICE = payload(HASH_LISTPACK, text(listpack.encode([b"a", b"1", b"a", b"2"])))
ODD = payload(HASH_LISTPACK, text(listpack.encode([b"a", b"1", b"b"])))
SOUND_LIST = listpack.encode([b"aa", b"bb"])
WRONG_LENGTH = payload(QUICKLIST_2, b"\x01\x02" + text(SOUND_LIST.replace(b"\x82bb", b"\x85bb")))
WRONG_FRAME = payload(QUICKLIST_2, b"\x01\x02" + text(b"\x7f" + SOUND_LIST[1:]))


@pytest.fixture
def node() -> Iterator[OurNode]:
    with OurNode() as node:
        node.call("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", 1)
        yield node


def refuse(node: OurNode, damaged: bytes) -> None:
    """The node refuses the payload and is well."""
    with pytest.raises(ReplyError, match=r"^ERR Bad data format$"):
        node.call("RESTORE", "k", 0, damaged)
    assert node.call("EXISTS", "k") == 0


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (TWICE, "listpack with dup elements dump (hexdump of 17 bytes):"),
        (ODD, "listpack with an element too few dump"),
        (WRONG_LENGTH, "listpack: "),
    ],
)
def test_damage_inside_a_trusted_payload_is_in_the_log(node: OurNode, damaged: bytes, reason: str) -> None:
    refuse(node, damaged)
    log = node.log_text()
    assert log.count(WARNING) == 1
    assert reason in log
    assert "crashed by signal" not in log


def test_the_damaged_bytes_are_in_the_log(node: OurNode) -> None:
    refuse(node, TWICE)
    assert TWICE[2:-10].hex() in node.log_text()


def test_a_wrong_frame_is_no_matter_of_trust(node: OurNode) -> None:
    refuse(node, WRONG_FRAME)
    assert WARNING not in node.log_text()


@pytest.mark.parametrize("sanitize", ["yes", "clients"])
def test_what_is_not_trusted_is_simply_refused(node: OurNode, sanitize: str) -> None:
    node.call("CONFIG", "SET", "sanitize-dump-payload", sanitize)
    refuse(node, TWICE)
    assert WARNING not in node.log_text()


def test_clients_whose_payloads_need_no_check_are_trusted(node: OurNode) -> None:
    node.call("CONFIG", "SET", "sanitize-dump-payload", "clients")
    node.call("ACL", "SETUSER", "default", "skip-sanitize-payload")
    refuse(node, TWICE)
    assert WARNING in node.log_text()
