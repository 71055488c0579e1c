"""The link to the master while the replica has other things to do: an end is never overlooked, the stream waits."""

from __future__ import annotations

import pytest

from tests.support.servers import Kind, OurNode, Server, make_server
from tests.support.waiting import eventually
from tests.support.wire import RawConnection, ReplyError


def is_up(replica: Server) -> bool:
    return replica.info("replication")["master_link_status"] == "up"


def in_step(master: Server, replica: Server) -> bool:
    offsets = replica.info("replication")["slave_repl_offset"], master.info("replication")["master_repl_offset"]
    return offsets[0] == offsets[1]


@pytest.mark.parametrize("question", ["INFO", "ROLE"])
def test_who_asks_after_the_end_of_the_link_is_told_of_it(question: str) -> None:
    """The replica finds both, the end and the question, when it comes round."""
    with OurNode() as master, OurNode(replicaof=f"127.0.0.1 {master.port}") as replica:
        for _ in range(8):
            eventually(lambda: is_up(replica))
            with replica.raw() as client:
                replica.pause()
                try:
                    master.call("CLIENT", "KILL", "TYPE", "replica")
                    eventually(lambda: master.info("replication")["connected_slaves"] == "0")
                    client.send(question)
                finally:
                    replica.resume()
                answer = client.reply()
            if question == "INFO":
                assert b"master_link_status:down" in answer
            else:
                assert answer[3] != b"connected"


@pytest.mark.real_redis
@pytest.mark.parametrize("how", ["RELOAD", "LOADAOF"])
@pytest.mark.parametrize("master_kind", ["real", "ours"])
def test_the_stream_waits_while_the_replica_loads(master_kind: Kind, how: str) -> None:
    """redis-server's replica refuses what comes during DEBUG RELOAD, and never sees it again."""
    log = {"appendonly": "yes", "aof_use_rdb_preamble": "no"} if how == "LOADAOF" else {}
    with make_server(master_kind) as master, OurNode(replicaof=f"127.0.0.1 {master.port}", **log) as replica:
        eventually(lambda: is_up(replica))
        with master.raw() as client:
            for number in range(100):
                client.call("SET", f"key:{number}", "x" * 100)
        eventually(lambda: in_step(master, replica))
        replica.call("CONFIG", "SET", "key-load-delay", 300_000)  # Half a minute, unless it is told otherwise.
        with replica.raw() as loader, replica.raw() as reader, master.raw() as writer:
            loader.send("DEBUG", how)
            eventually(lambda: is_loading(reader))
            writer.call("MULTI")
            for number in range(50):
                writer.call("SET", f"new:{number}", number)
                writer.call("INCR", "count")
            writer.call("EXEC")
            writer.call("DEL", "key:1")
            assert is_loading(reader)
            reader.call("CONFIG", "SET", "key-load-delay", 0)
            assert loader.reply() == b"OK"
        eventually(lambda: in_step(master, replica))
        assert replica.call("GET", "count") == b"50"
        assert replica.call("DEBUG", "DIGEST") == master.call("DEBUG", "DIGEST")
        assert "CRITICAL" not in replica.log_text()
        assert is_up(replica)


def is_loading(connection: RawConnection) -> bool:
    reply = connection.ask("GET", "key:1")
    return isinstance(reply, ReplyError) and str(reply).startswith("LOADING")
