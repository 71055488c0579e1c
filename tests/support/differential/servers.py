"""One of our nodes and a real server, started alike: what the differential tests talk to."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from tests.support.servers import OurNode, RealRedis, Server
from tests.support.waiting import eventually


class BothServers:
    """A context in which both run: ours first, the real one second.

    Neither looks for expired keys by itself: a key that is over goes when a command meets it, at the same step on both.
    """

    def __init__(self, *, cluster: bool = False, **directives: Any) -> None:
        self.cluster = cluster
        self.servers: list[Server] = [OurNode(cluster=cluster, **directives), RealRedis(cluster=cluster, **directives)]

    def __enter__(self) -> Self:
        try:
            for server in self.servers:
                server.start()
                if self.cluster:
                    server.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                    eventually(lambda server=server: server.cluster_info()["cluster_state"] == "ok")  # type: ignore[misc]
                server.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Both are up: connect to them."""

    def close(self) -> None:
        """End both; hang up first."""
        for server in self.servers:
            server.close()
