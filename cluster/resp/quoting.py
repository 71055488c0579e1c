"""Text in double quotes, as conf files and the AOF's manifest hold it (``sdscatrepr`` in sds.c).

The way back is ``split_inline`` of cluster.resp.parser.
"""

from __future__ import annotations

_ESCAPES = {
    ord("\n"): b"\\n",
    ord("\r"): b"\\r",
    ord("\t"): b"\\t",
    ord("\b"): b"\\b",
    ord("\a"): b"\\a",
    ord("\\"): b"\\\\",
    ord('"'): b'\\"',
}


def quote(value: bytes) -> bytes:
    """``value`` in double quotes, printable, so that ``split_inline`` gives it back."""
    return b'"%b"' % b"".join(
        _ESCAPES.get(byte) or (bytes([byte]) if 32 <= byte < 127 else b"\\x%02x" % byte) for byte in value
    )


def needs_quotes(value: bytes) -> bool:
    """Whether ``value`` as it is would not survive ``split_inline``, or not be printable (``sdsneedsrepr``)."""
    return any(byte in _ESCAPES or not 32 < byte < 127 for byte in value)
