"""CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO: the commands of client-side caching (networking.c).

A pair of prefixes of one request that overlap is refused whatever their place; Redis 7.0 refuses and then obeys when
it is not the first of them.
"""

from __future__ import annotations

from itertools import combinations

from cluster import errors
from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.tracking import Tracking
from cluster.errors import CommandError
from cluster.resp.encode import MINUS_ONE, OK, array, bulk, integer

_SWITCHES = {
    b"bcast": "is_broadcast",
    b"optin": "is_opt_in",
    b"optout": "is_opt_out",
    b"noloop": "is_noloop",
}
_RE_ENABLE = b"before disabling tracking for this client, and then re-enabling it with a different mode."


@command("client|tracking")
def client_tracking(client: Session, argv: list[bytes]) -> bytes:
    wanted, prefixes = _parse_options(client, argv[3:])
    mode = argv[2].lower()
    table = client.server.tracking
    if mode == b"on":
        _check(client.tracking, wanted, prefixes)
        wanted.prefixes = set(prefixes or [b""]) if wanted.is_broadcast else set()
        table.enable(client, wanted)
    elif mode == b"off":
        table.disable(client)
    else:
        raise CommandError(errors.SYNTAX)
    return OK


def _parse_options(client: Session, words: list[bytes]) -> tuple[Tracking, list[bytes]]:
    wanted = Tracking()
    prefixes = []
    rest = iter(words)
    for word in rest:
        option = word.lower()
        if option in _SWITCHES:
            setattr(wanted, _SWITCHES[option], True)
            continue
        value = next(rest, None)
        if value is None or option not in (b"redirect", b"prefix"):
            raise CommandError(errors.SYNTAX)
        if option == b"prefix":
            prefixes.append(value)
            continue
        if wanted.redirect_id:
            raise CommandError(b"ERR A client can only redirect to a single other client")
        wanted.redirect_id = parse_integer(value)
        if wanted.redirect_id not in client.server.sessions:
            raise CommandError(b"ERR The client ID you want redirect to does not exist")
    return wanted, prefixes


def _check(current: Tracking | None, wanted: Tracking, prefixes: list[bytes]) -> None:
    """Refuse options that contradict one another, or what the client asked for before. Raises CommandError."""
    if prefixes and not wanted.is_broadcast:
        raise CommandError(b"ERR PREFIX option requires BCAST mode to be enabled")
    if current is not None and current.is_broadcast != wanted.is_broadcast:
        raise CommandError(b"ERR You can't switch BCAST mode on/off " + _RE_ENABLE)
    if wanted.is_broadcast and (wanted.is_opt_in or wanted.is_opt_out):
        raise CommandError(b"ERR OPTIN and OPTOUT are not compatible with BCAST")
    if wanted.is_opt_in and wanted.is_opt_out:
        raise CommandError(b"ERR You can't specify both OPTIN mode and OPTOUT mode")
    if current is not None and ((wanted.is_opt_in and current.is_opt_out) or (wanted.is_opt_out and current.is_opt_in)):
        raise CommandError(b"ERR You can't switch OPTIN/OPTOUT mode " + _RE_ENABLE)
    if wanted.is_broadcast:
        _check_prefixes(sorted(current.prefixes) if current is not None else [], prefixes)


def _check_prefixes(existing: list[bytes], prefixes: list[bytes]) -> None:
    """Nobody wants to be told of one key twice. Raises CommandError."""
    pairs = [(new, old, b"an existing") for new in prefixes for old in existing]
    pairs += [(one, other, b"another provided") for one, other in combinations(prefixes, 2)]
    for one, other, which in pairs:
        if one.startswith(other) or other.startswith(one):
            raise CommandError(
                b"ERR Prefix '%b' overlaps with %b prefix '%b'. Prefixes for a single client must not overlap."
                % (errors.quoted(one), which, errors.quoted(other))
            )


@command("client|caching")
def client_caching(client: Session, argv: list[bytes]) -> bytes:
    record = client.tracking
    if record is None:
        raise CommandError(
            b"ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode "
            b"enabled"
        )
    answer = argv[2].lower()
    if answer == b"yes":
        if not record.is_opt_in:
            raise CommandError(b"ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    elif answer == b"no":
        if not record.is_opt_out:
            raise CommandError(b"ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    else:
        raise CommandError(errors.SYNTAX)
    record.is_caching = True
    return OK


@command("client|getredir")
def client_getredir(client: Session, argv: list[bytes]) -> bytes:
    return MINUS_ONE if client.tracking is None else integer(client.tracking.redirect_id)


@command("client|trackinginfo")
def client_trackinginfo(client: Session, argv: list[bytes]) -> bytes:
    record = client.tracking
    return client.proto.map(
        [
            *(bulk(b"flags"), client.proto.set([bulk(flag) for flag in _flags(record)])),
            *(bulk(b"redirect"), MINUS_ONE if record is None else integer(record.redirect_id)),
            *(bulk(b"prefixes"), array([] if record is None else [bulk(prefix) for prefix in sorted(record.prefixes)])),
        ]
    )


def _flags(record: Tracking | None) -> list[bytes]:
    if record is None:
        return [b"off"]
    shown = (
        (b"on", True),
        (b"bcast", record.is_broadcast),
        (b"optin", record.is_opt_in),
        (b"caching-yes", record.is_opt_in and record.is_caching),
        (b"optout", record.is_opt_out),
        (b"caching-no", record.is_opt_out and record.is_caching),
        (b"noloop", record.is_noloop),
        (b"broken_redirect", record.is_broken),
    )
    return [flag for flag, holds in shown if holds]
