"""Every error the server knows, and the texts that are part of the protocol.

``CommandError`` is answered and the connection stays; ``ProtocolError`` is answered and the connection closes;
``BusError`` drops one bus link; ``ConfigError`` refuses to start; ``RdbError`` refuses a file or payload.
Texts: Redis 7.0.15, ``createSharedObjects`` in server.c and the replies of each command.
"""

from __future__ import annotations


class HashslotError(Exception):
    """Base of everything this package raises on purpose."""


class CommandError(HashslotError):
    """A command was refused: the client gets ``-<message>`` and stays connected.

    ``message`` includes the code word (``b"ERR syntax error"``) and neither the dash nor the line end.
    """

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.message = message


class ProtocolError(HashslotError):
    """The peer's bytes are not RESP: the client gets ``-ERR Protocol error: <message>`` and is closed."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.message = message


class BusError(HashslotError):
    """A malformed cluster bus packet: the link that carried it is dropped, the node lives on."""


class ConfigError(HashslotError):
    """A directive, a conf file or nodes.conf cannot be accepted; the text is the one Redis prints."""


class AofError(HashslotError):
    """A file of the append only file cannot be loaded; the text names the file and the offset."""


class RdbError(HashslotError):
    """An RDB file or a DUMP payload is damaged or of an unknown version; the text names the offset."""


class UnknownRdbFormat(RdbError):
    """No RDB file at all, or one of a version that cannot be read: nothing of it has been."""


class DeepDamage(RdbError):
    """A compact structure whose frame is right and whose inside is not: what Redis finds by its deep checks only."""

    def __init__(self, reason: str, structure: bytes) -> None:
        super().__init__(reason)
        self.structure = structure


SYNTAX = b"ERR syntax error"
WRONGTYPE = b"WRONGTYPE Operation against a key holding the wrong kind of value"
NO_SUCH_KEY = b"ERR no such key"
SAME_OBJECT = b"ERR source and destination objects are the same"
INDEX_OUT_OF_RANGE = b"ERR index out of range"
NOT_AN_INTEGER = b"ERR value is not an integer or out of range"
NOT_A_FLOAT = b"ERR value is not a valid float"
OUT_OF_RANGE_POSITIVE = b"ERR value is out of range, must be positive"
OVERFLOW = b"ERR increment or decrement would overflow"
LOADING = b"LOADING Redis is loading the dataset in memory"
MASTERDOWN = b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
READONLY = b"READONLY You can't write against a read only replica."
NOAUTH = b"NOAUTH Authentication required."
WRONGPASS = b"WRONGPASS invalid username-password pair or user is disabled."
OOM = b"OOM command not allowed when used memory > 'maxmemory'."
EXECABORT = b"EXECABORT Transaction discarded because of previous errors."
NOREPLICAS = b"NOREPLICAS Not enough good replicas to write."
BUSYKEY = b"BUSYKEY Target key name already exists."
MISCONF = (
    b"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. "
    b"Commands that may modify the data set are disabled, because this instance is configured to report "
    b"errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). "
    b"Please check the Redis logs for details about the RDB error."
)
CROSSSLOT = b"CROSSSLOT Keys in request don't hash to the same slot"
TRYAGAIN = b"TRYAGAIN Multiple keys request during rehashing of slot"
CLUSTER_DISABLED = b"ERR This instance has cluster support disabled"
INVALID_DB_INDEX = b"ERR invalid DB index"
DB_INDEX_OUT_OF_RANGE = b"ERR DB index is out of range"
INVALID_CURSOR = b"ERR invalid cursor"


def quoted(argument: bytes) -> bytes:
    """An argument as error texts quote it: C's ``%s`` ends at a NUL byte."""
    return argument.split(b"\0", 1)[0]


def wrong_arity(name: bytes) -> CommandError:
    """The refusal of a known command with too few or too many arguments."""
    return CommandError(b"ERR wrong number of arguments for '%b' command" % name)
