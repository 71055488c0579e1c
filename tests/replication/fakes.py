"""A server that only notes what replication asks of it, and the pieces around it."""

from __future__ import annotations

from random import Random

import attrs

from cluster.replication.host import LogLevel, ReplicaSession, SaveInfo
from cluster.replication.manager import Replication
from cluster.replication.replica import Announcement, Capability, RdbRequirement, Replica, ReplicaState
from cluster.settings import Settings

BOTH = Capability.EOF | Capability.PSYNC2


@attrs.define(eq=False)
class FakeSession:
    """A connection; while it is ``stuck`` nothing that is pushed leaves."""

    id: int = 1
    address: str = "10.0.0.9:50000"
    last_active_ms: int = 0
    sent: bytearray = attrs.field(factory=bytearray)
    stuck: bool = False
    closed: bool = False
    unsent: list[bytes | memoryview] = attrs.field(factory=list)

    def push(self, data: bytes) -> None:
        self.sent += data
        if self.stuck:
            self.unsent.append(data)

    def output_bytes(self) -> int:
        return sum(map(len, self.unsent))

    def drain(self) -> None:
        self.unsent.clear()


@attrs.define(eq=False)
class FakeHost:
    """Implements ReplicationHost; what happened is in its fields."""

    lines: list[tuple[LogLevel, str]] = attrs.field(factory=list)
    calls: list[str] = attrs.field(factory=list)
    to_master: bytearray = attrs.field(factory=bytearray)
    child: str = ""
    """disk, stream, other, or empty."""
    fork_fails: bool = False
    file_missing: bool = False
    paused: bool = False
    flush_wanted: bool = False
    holding_still: bool = False
    saved: list[tuple[str, SaveInfo, list[Replica]]] = attrs.field(factory=list)
    replication: Replication | None = None

    def log(self, level: LogLevel, text: str) -> None:
        self.lines.append((level, text))

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.lines]

    def flush_soon(self) -> None:
        self.flush_wanted = True

    def close_replica(self, replica: Replica) -> None:
        session = replica.session
        assert isinstance(session, FakeSession)
        session.closed = True
        assert self.replication is not None
        self.replication.session_closed(session.id, replica)

    def close_when_sent(self, replica: Replica) -> None:
        self.calls.append(f"close {replica.session.id} when sent")

    def refuse_replica(self, replica: Replica, message: bytes) -> None:
        replica.session.push(b"-%b\r\n" % message)
        self.close_replica(replica)

    def describe_session(self, session: ReplicaSession) -> str:
        return f"id={session.id}"

    def feed_activity_changed(self, active: bool) -> None:
        self.calls.append(f"feed active: {active}")

    def writes_paused(self) -> bool:
        return self.paused

    def manual_failover_in_progress(self) -> bool:
        return self.holding_still

    def child_is_active(self) -> bool:
        return bool(self.child)

    def disk_snapshot_is_running(self) -> bool:
        return self.child == "disk"

    def stream_snapshot_is_running(self) -> bool:
        return self.child == "stream"

    def start_disk_snapshot(self, info: SaveInfo) -> bool:
        if self.fork_fails:
            return False
        self.child = "disk"
        self.saved.append(("disk", info, []))
        return True

    def start_stream_snapshot(self, info: SaveInfo, replicas: list[Replica], requirement: RdbRequirement) -> bool:
        if self.fork_fails:
            return False
        self.child = "stream"
        self.saved.append(("stream", info, list(replicas)))
        return True

    def send_snapshot_file(self, replica: Replica) -> bool:
        self.calls.append(f"send file to {replica.session.id}")
        return not self.file_missing

    def remove_snapshot_file(self) -> None:
        self.calls.append("remove file")

    def delay_small_packets(self, replica: Replica) -> None:
        self.calls.append(f"delay {replica.session.id}")

    def kill_snapshot_child(self) -> None:
        self.calls.append("kill child")
        self.child = ""

    def connect_to_master(self) -> None:
        self.calls.append("connect")

    def drop_master_link(self) -> None:
        self.calls.append("drop link")

    def notice_end_of_link(self) -> None:
        self.calls.append("look at link")

    def send_to_master(self, data: bytes) -> None:
        self.to_master += data

    def role_changed(self) -> None:
        self.calls.append("role changed")

    def unblock_clients(self) -> None:
        self.calls.append("unblock")

    def pause_writes(self) -> None:
        self.paused = True

    def resume_writes(self) -> None:
        self.paused = False


@attrs.define(eq=False)
class World:
    """One server's replication, a clock to turn, and its fake surroundings."""

    settings: Settings = attrs.field(factory=Settings)
    host: FakeHost = attrs.field(factory=FakeHost)
    now_ms: int = 1_000_000
    replication: Replication = attrs.field(init=False)
    _session_ids: int = 0

    def __attrs_post_init__(self) -> None:
        self.replication = Replication(self.settings, self.host, Random(7), lambda: self.now_ms)
        self.host.replication = self.replication

    def session(self) -> FakeSession:
        self._session_ids += 1
        return FakeSession(id=self._session_ids, last_active_ms=self.now_ms)

    def replica(
        self,
        state: ReplicaState = ReplicaState.ONLINE,
        port: int = 7001,
        capabilities: Capability = BOTH,
        **announced: object,
    ) -> Replica:
        """A replica that is not known to the feed yet."""
        return Replica(
            session=self.session(),
            announced=Announcement(listening_port=port, capabilities=capabilities, **announced),  # type: ignore[arg-type]
            state=state,
            since_ms=self.now_ms,
            ack_ms=self.now_ms,
        )

    def online_replica(self, port: int = 7001) -> Replica:
        """A replica that has everything up to now."""
        replica = self.replica(port=port)
        feed = self.replication.feed
        if feed.backlog is None:
            feed.create_backlog()
        feed.settle()
        assert feed.backlog is not None
        replica.cursor = feed.backlog.next_offset
        feed.add(replica)
        return replica

    def write(self, *words: bytes, database: int = 0) -> None:
        """One command's effect."""
        self.replication.feed.feed([(database, list(words))])

    def sleep(self) -> None:
        """The step before the loop sleeps."""
        self.replication.before_sleep(self.now_ms)

    def seconds(self, count: int) -> None:
        """Let time pass, with the cron and the step before sleeping once a second."""
        for _ in range(count):
            self.now_ms += 1000
            self.replication.cron()


def sent(replica: Replica) -> bytes:
    """Everything that went to a replica."""
    session = replica.session
    assert isinstance(session, FakeSession)
    return bytes(session.sent)


def session_of(replica: Replica) -> FakeSession:
    session = replica.session
    assert isinstance(session, FakeSession)
    return session


def command(*words: bytes) -> bytes:
    """A command as it stands in the stream."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
