"""What listening sockets are given beside an address."""

from __future__ import annotations

import socket

import pytest

from cluster.node.listening import listen_on_tcp
from cluster.node.logging import Log
from cluster.settings import Settings
from tests.support.ports import lease_port


def is_allowed(mark: int) -> bool:
    """Whether this process may mark sockets."""
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        except OSError:
            return False
        return True


@pytest.mark.parametrize("mark", [0, 7])
def test_listeners_are_marked_where_that_is_allowed_and_open_in_any_case(mark: int) -> None:
    lease = lease_port()
    settings = Settings(bind=["127.0.0.1"], port=lease.port, socket_mark_id=mark)
    try:
        listeners = listen_on_tcp(settings, Log(settings))
        assert listeners is not None
        (listener,) = listeners
        with listener:
            seen = listener.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)
    finally:
        lease.release()

    assert seen == (mark if is_allowed(7) else 0)
