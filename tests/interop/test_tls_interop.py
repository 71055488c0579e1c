"""TLS is asked for where there is none: refused as redis-server refuses it while it has no certificate."""

from __future__ import annotations

import re

import pytest

from tests.support.servers import OurNode, RealRedis, Server

pytestmark = pytest.mark.real_redis


@pytest.mark.parametrize("program", [RealRedis, OurNode])
@pytest.mark.parametrize("directive", ["tls_port", "tls_replication", "tls_cluster"])
def test_a_node_that_cannot_encrypt_does_not_start(program: type[Server], directive: str) -> None:
    server = program(**{directive: 16380 if directive == "tls_port" else "yes"})
    try:
        server.start(wait=False)
        assert server.wait_exit() == 1
        assert "# Failed to configure TLS. Check logs for more info.\n" in server.log_text()
        assert "Ready to accept" not in server.log_text()
    finally:
        server.close()


def test_config_set_refuses_alike() -> None:
    requests = [
        ["CONFIG", "SET", "tls-port", "16380"],
        ["CONFIG", "SET", "tls-replication", "yes"],
        ["CONFIG", "SET", "tls-cluster", "yes"],
        ["CONFIG", "SET", "tls-port", "0", "tls-cluster", "no", "maxmemory", "1gb"],
        ["CONFIG", "SET", "maxmemory", "2gb", "tls-cluster", "yes"],
        ["CONFIG", "SET", "tls-protocols", "TLSv1.3"],
        ["CONFIG", "GET", "tls-port"],
        ["CONFIG", "GET", "tls-cluster"],
        ["CONFIG", "GET", "tls-replication"],
        ["CONFIG", "GET", "maxmemory"],
    ]
    with RealRedis() as theirs, OurNode() as ours:
        for request in requests:
            with theirs.raw() as there, ours.raw() as here:
                assert repr(here.ask(*request)) == repr(there.ask(*request)), request
        assert re.search(r"# This server was built without TLS, which tls-port asks for\.", ours.log_text())
