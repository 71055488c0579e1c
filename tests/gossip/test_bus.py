"""The trio shell of the bus, over real sockets, around an engine that does what the test says."""

from __future__ import annotations

import errno
import functools
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from cluster import clock
from cluster.errors import ConfigError
from cluster.gossip import bus as bus_module
from cluster.gossip.actions import perform_local
from cluster.gossip.bus import SYNC_MS, TICK_SECONDS, ClusterBus, bind_listeners, bus_port
from cluster.gossip.effects import (
    CloseLink,
    DeleteKeysInSlots,
    DropShardChannels,
    Effect,
    EmptyDatabase,
    LocalEffect,
    Log,
    LogLevel,
    OpenLink,
    PauseClients,
    PublishLocal,
    SaveConfig,
    Send,
    StartReplication,
    StopReplication,
    UnpauseClients,
)
from cluster.gossip.messages import EMPTY, Fail, Header, Message, MessageType, Publish
from cluster.gossip.nodes_conf import NodesConfFile, parse
from cluster.gossip.state import ClusterState, Link, NodeFlags, new_state
from cluster.gossip.wire import encode
from cluster.settings import Settings
from tests.support.ports import lease_port

ME = "a" * 40
PEER = "b" * 40
DEADLINE_S = 10
NOBODYS_PORT = 1
UNIX_START_MS = 1_700_000_000_000


def message(kind: MessageType = MessageType.MFSTART, body: Any = EMPTY) -> Message:
    return Message(
        Header(
            type=kind,
            sender=PEER,
            current_epoch=0,
            config_epoch=0,
            repl_offset=0,
            slots=bytes(2048),
            master_id=None,
            flags=NodeFlags.MASTER,
            state=0,
            port=1,
            cport=2,
        ),
        body,
    )


HELLO = message()
HELLO_BYTES = encode(HELLO)


class ScriptedEngine:
    """Writes down every input; says what the test put into ``local`` and ``pending``."""

    def __init__(self) -> None:
        self.state: ClusterState = new_state(ME, 1)
        self.inputs: list[tuple[Any, ...]] = []
        self.links: list[Link] = []
        self.pending: list[Effect] = []
        """What the next before_sleep returns."""
        self.on_each_message: Callable[[Link, Message], list[LocalEffect]] = lambda _link, _message: []
        self.ticks: list[tuple[int, int]] = []
        self.on_each_tick: Callable[[], None] = lambda: None

    def _link(self, inbound: bool) -> Link:
        link = Link(len(self.links) + 1, inbound=inbound, node=None, created_ms=1)
        self.links.append(link)
        return link

    def outbound(self) -> Link:
        return self._link(inbound=False)

    def link_accepted(self, peer_ip: str, local_ip: str, now_ms: int) -> Link:
        link = self._link(inbound=True)
        self.inputs.append(("accepted", link, peer_ip, local_ip))
        return link

    def link_connected(self, link: Link, peer_ip: str, local_ip: str, now_ms: int) -> list[LocalEffect]:
        self.inputs.append(("connected", link, peer_ip, local_ip))
        return []

    def link_failed(self, link: Link, reason: str, now_ms: int) -> list[LocalEffect]:
        self.inputs.append(("failed", link, reason))
        return []

    def link_closed(self, link: Link, now_ms: int) -> list[LocalEffect]:
        self.inputs.append(("closed", link))
        return []

    def on_message(self, link: Link, message: Message, now_ms: int) -> list[LocalEffect]:
        self.inputs.append(("message", link, message))
        return self.on_each_message(link, message)

    def keep_alive(self, now_ms: int) -> list[LocalEffect]:
        return []

    def tick(self, now_ms: int, unix_ms: int) -> list[LocalEffect]:
        self.ticks.append((now_ms, unix_ms))
        self.on_each_tick()
        return []

    def before_sleep(self, now_ms: int) -> list[Effect]:
        effects, self.pending = self.pending, []
        return effects

    def verify_config_with_data(self, now_ms: int) -> list[LocalEffect]:
        self.inputs.append(("verified",))
        return []

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [entry for entry in self.inputs if entry[0] == kind]


class RecordingActions:
    """A node that writes down what it is made to do."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: self.calls.append((name, *arguments, *named.values()))

    def logged(self, text: str) -> bool:
        return any(call[0] == "log" and text in call[2] for call in self.calls)


@attrs.define
class Bench:
    """A running bus with everything around it at hand."""

    bus: ClusterBus
    engine: ScriptedEngine
    actions: RecordingActions
    conf: NodesConfFile
    port: int

    def peer(self) -> socket.socket:
        """A plain connection to the bus port, as a peer opens it."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)
        sock.setblocking(False)
        return sock

    def say(self, *effects: Effect) -> None:
        """Have the engine ask for this, outside any message, as a command does."""
        self.engine.pending.extend(effects)
        self.bus.before_sleep()


async def until(condition: Callable[[], object]) -> None:
    """Let the bus work until ``condition`` holds."""
    with trio.fail_after(DEADLINE_S):
        while not condition():
            await trio.sleep(0.002)


async def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes, or less if the peer closes."""
    data = b""
    with trio.fail_after(DEADLINE_S):
        while len(data) < size:
            await trio.lowlevel.wait_readable(sock)
            chunk = sock.recv(size - len(data))
            if not chunk:
                break
            data += chunk
    return data


def is_quiet(sock: socket.socket) -> bool:
    """True when nothing has arrived (yet)."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True


@asynccontextmanager
async def running(path: Path, settings: Settings | None = None, *, loaded: bool = True) -> Any:
    settings = settings or Settings()
    engine, actions = ScriptedEngine(), RecordingActions()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    conf = NodesConfFile(path / "nodes.conf")
    conf.lock()
    bus = ClusterBus(engine, settings, conf, actions, [listener])
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(bus.run))
        if loaded:
            bus.data_loaded()
        yield Bench(bus, engine, actions, conf, listener.getsockname()[1])
        nursery.cancel_scope.cancel()
    bus.close()


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """A clock, the bus's too, on which time passes at once when everybody sleeps, and at no other time."""
    virtual = trio.testing.MockClock(autojump_threshold=0)
    monkeypatch.setattr(clock, "monotonic_ms", lambda: round(virtual.current_time() * 1000))
    monkeypatch.setattr(clock, "unix_ms", lambda: UNIX_START_MS + round(virtual.current_time() * 1000))
    return virtual


def in_trio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test within a deadline."""

    @functools.wraps(test)
    def wrapper(*arguments: Any, **named: Any) -> None:
        async def bounded() -> None:
            with trio.fail_after(3 * DEADLINE_S):
                await test(*arguments, **named)

        trio.run(bounded, clock=named.get("virtual_time"))

    return wrapper


class TestInboundLinks:
    @in_trio
    async def test_messages_reach_the_engine_and_answers_the_peer(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:

            def answer(link: Link, received: Message) -> list[LocalEffect]:
                bench.engine.pending.append(Send((link,), message(MessageType.FAIL, Fail(ME))))
                return [Log(LogLevel.NOTICE, "answering")]

            bench.engine.on_each_message = answer
            peer = bench.peer()
            peer.send(HELLO_BYTES)
            reply = encode(message(MessageType.FAIL, Fail(ME)))

            assert await receive(peer, len(reply)) == reply
            [(_, link, peer_ip, local_ip)] = bench.engine.of("accepted")
            assert (link.inbound, peer_ip, local_ip) == (True, "127.0.0.1", "127.0.0.1")
            assert bench.engine.of("message") == [("message", link, HELLO)]
            assert ("log", LogLevel.NOTICE, "answering") in bench.actions.calls
            assert bench.actions.logged("Accepting cluster node connection from 127.0.0.1:")
            peer.close()
            await until(lambda: bench.engine.of("closed") == [("closed", link)])

    @in_trio
    async def test_nobody_is_let_in_before_the_data_is_loaded(self, tmp_path: Path) -> None:
        async with running(tmp_path, loaded=False) as bench:
            peer = bench.peer()
            peer.send(HELLO_BYTES)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert bench.engine.inputs == []
            assert bench.engine.ticks == []

            bench.bus.data_loaded()

            await until(lambda: bench.engine.of("message"))
            assert bench.engine.inputs[0] == ("verified",)
            peer.close()

    @in_trio
    async def test_bad_bytes_cost_the_link_and_nothing_else(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            good, bad = bench.peer(), bench.peer()
            good.send(HELLO_BYTES)
            await until(lambda: len(bench.engine.of("message")) == 1)
            bad.send(HELLO_BYTES + b"GET / HTTP/1.1\r\n\r\n")

            assert await receive(bad, 1) == b""
            assert len(bench.engine.of("message")) == 2, "what came before the damage counts"
            await until(lambda: len(bench.engine.of("closed")) == 1)
            assert bench.actions.logged("Bad message length or signature received from Cluster bus.")
            good.send(HELLO_BYTES)
            await until(lambda: len(bench.engine.of("message")) == 3)

    @in_trio
    async def test_a_packet_that_does_not_add_up_is_counted_logged_and_skipped(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            longer = bytearray(HELLO_BYTES + b"\0")
            longer[4:8] = len(longer).to_bytes(4, "big")
            peer = bench.peer()
            peer.send(bytes(longer) + HELLO_BYTES)

            await until(lambda: bench.engine.of("message"))
            assert bench.actions.logged("Received invalid mfstart packet of length 2257 but expected length 2256")
            assert bench.engine.state.messages_received[MessageType.MFSTART] == 1
            assert bench.engine.of("closed") == []

    @in_trio
    async def test_after_the_engine_closed_a_link_the_rest_of_its_bytes_are_dropped(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:

            def close(link: Link, received: Message) -> list[LocalEffect]:
                link.is_open = False
                bench.engine.pending.append(CloseLink(link))
                return []

            bench.engine.on_each_message = close
            peer = bench.peer()
            peer.send(HELLO_BYTES * 3)

            assert await receive(peer, 1) == b""
            assert len(bench.engine.of("message")) == 1
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert bench.engine.of("closed") == [], "the engine has forgotten the link already"

    @in_trio
    async def test_a_reset_is_a_closed_link(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            peer = bench.peer()
            await until(lambda: bench.engine.of("accepted"))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()
            await until(lambda: len(bench.engine.of("closed")) == 1)


class TestOutboundLinks:
    @in_trio
    async def test_what_was_queued_while_connecting_leaves_first(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            listener = socket.create_server(("127.0.0.1", 0))
            link = bench.engine.outbound()
            bench.say(
                OpenLink(link, "127.0.0.1", listener.getsockname()[1]),
                Send((link,), message(MessageType.PUBLISH, Publish(b"c", b"first"))),
            )
            await until(lambda: bench.engine.of("connected"))
            bench.say(Send((link,), message(MessageType.PUBLISH, Publish(b"c", b"second"))))

            accepted, _ = listener.accept()
            accepted.setblocking(False)
            expected = b"".join(
                encode(message(MessageType.PUBLISH, Publish(b"c", word))) for word in (b"first", b"second")
            )
            assert await receive(accepted, len(expected)) == expected
            assert bench.engine.of("connected") == [("connected", link, "127.0.0.1", "127.0.0.1")]
            accepted.send(HELLO_BYTES)
            await until(lambda: bench.engine.of("message") == [("message", link, HELLO)])
            accepted.close()
            listener.close()
            await until(lambda: bench.engine.of("closed") == [("closed", link)])

    @in_trio
    async def test_a_refused_connection_is_reported(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            link = bench.engine.outbound()
            bench.say(OpenLink(link, "127.0.0.1", NOBODYS_PORT))
            await until(lambda: bench.engine.of("failed") == [("failed", link, "Connection refused")])
            assert bench.engine.of("closed") == []

    @pytest.mark.parametrize("host", ["", "no such host", "\0", "ü" * 70, "a" * 300])
    @in_trio
    async def test_any_address_a_peer_may_have_announced_fails_in_order(self, tmp_path: Path, host: str) -> None:
        async with running(tmp_path) as bench:
            link = bench.engine.outbound()
            bench.say(OpenLink(link, host, 1))
            await until(lambda: bench.engine.of("failed"))

    @in_trio
    async def test_closing_while_connecting_ends_the_attempt(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            full = socket.socket()
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]  # Once the queue is full, the kernel answers nobody.
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            link = bench.engine.outbound()
            bench.say(OpenLink(link, "127.0.0.1", full.getsockname()[1]))
            await trio.testing.wait_all_tasks_blocked(0.02)
            bench.say(CloseLink(link))
            await trio.testing.wait_all_tasks_blocked(0.02)

            assert bench.bus._connections == {}
            assert bench.engine.inputs == [("verified",)]
            for sock in (full, *fillers):
                sock.close()

    @in_trio
    async def test_bind_source_addr(self, tmp_path: Path) -> None:
        async with running(tmp_path, Settings(bind_source_addr="127.0.0.2")) as bench:
            listener = socket.create_server(("127.0.0.1", 0))
            link = bench.engine.outbound()
            bench.say(OpenLink(link, "127.0.0.1", listener.getsockname()[1]))
            await until(lambda: bench.engine.of("connected"))
            assert listener.accept()[1][0] == "127.0.0.2"
            assert bench.engine.of("connected")[0][3] == "127.0.0.2"
            listener.close()


class TestDurability:
    @in_trio
    async def test_the_config_is_on_disk_before_anything_is_said(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            peer = bench.peer()
            await until(lambda: bench.engine.of("accepted"))
            [link] = bench.engine.links
            saves: list[tuple[bool, bool]] = []
            real_save = bench.conf.save

            def save(text: str, *, fsync: bool) -> None:
                real_save(text, fsync=fsync)
                saves.append((fsync, is_quiet(peer)))

            bench.conf.save = save
            bench.engine.state.current_epoch = 7
            bench.say(Log(LogLevel.NOTICE, "x"), SaveConfig(fsync=True), Send((link,), HELLO))

            assert saves == [(True, True)]
            assert await receive(peer, len(HELLO_BYTES)) == HELLO_BYTES
            assert parse((tmp_path / "nodes.conf").read_text(), 1).state.current_epoch == 7

    @in_trio
    async def test_what_is_on_disk_already_is_not_saved_again(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            saves: list[bool] = []
            bench.conf.save = lambda text, *, fsync: saves.append(fsync)
            state = bench.engine.state

            bench.say(SaveConfig(fsync=False))
            bench.say(SaveConfig(fsync=False))
            assert saves == [False]
            bench.say(SaveConfig(fsync=True))  # Written, but not known to be on disk.
            bench.say(SaveConfig(fsync=True))
            state.myself.pong_received_ms = 99  # A time, which no restart would read.
            bench.say(SaveConfig(fsync=True), SaveConfig(fsync=False))
            assert saves == [False, True]
            state.last_vote_epoch = 1
            bench.say(SaveConfig(fsync=False))
            bench.say(SaveConfig(fsync=True))
            assert saves == [False, True, False, True]
            bench.bus.save_config(fsync=True)  # CLUSTER SAVECONFIG means it.
            assert saves == [False, True, False, True, True]

    @in_trio
    async def test_what_was_not_synced_is_synced_within_a_second(
        self, tmp_path: Path, virtual_time: trio.testing.MockClock
    ) -> None:
        syncs: list[int] = []
        longest_ms = SYNC_MS + round(TICK_SECONDS * 1000)  # It is the ticks that look.
        async with running(tmp_path) as bench:
            real_sync = bench.conf.sync
            bench.conf.sync = lambda: (syncs.append(clock.monotonic_ms()), real_sync())[1]
            bench.say(SaveConfig(fsync=True))
            await trio.sleep(3 * longest_ms / 1000)  # Of virtual time, exactly: nothing happens in it.
            assert not syncs, "it was synced"
            for number in (1, 2):  # The first one long after the last sync, the second at once.
                bench.engine.state.current_epoch += 1
                bench.say(SaveConfig(fsync=False))
                saved_ms = clock.monotonic_ms()
                await until(lambda number=number: len(syncs) == number)
                assert syncs[-1] - saved_ms <= longest_ms
            assert syncs[1] - syncs[0] >= SYNC_MS
            bench.say(SaveConfig(fsync=True))  # Is on disk already.
            await trio.sleep(3 * longest_ms / 1000)  # Of virtual time, exactly: nothing happens in it.
            assert len(syncs) == 2

            bench.conf.sync = lambda: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))
            bench.engine.state.current_epoch += 1
            bench.say(SaveConfig(fsync=False))
            await until(lambda: bench.actions.logged("Fatal: can't update cluster config file."))

    @in_trio
    async def test_after_a_save_that_failed_the_next_one_is_made(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            bench.say(SaveConfig(fsync=True))
            real_save = bench.conf.save
            bench.conf.save = lambda text, *, fsync: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))
            with pytest.raises(OSError, match="Input/output"):
                bench.bus.save_config(fsync=True)
            bench.conf.save = real_save
            (tmp_path / "nodes.conf").unlink()
            bench.say(SaveConfig(fsync=True))
            assert (tmp_path / "nodes.conf").exists()

    @in_trio
    async def test_what_cannot_be_saved_is_not_said(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            peer = bench.peer()
            await until(lambda: bench.engine.of("accepted"))
            [link] = bench.engine.links

            def save(text: str, *, fsync: bool) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            bench.conf.save = save
            bench.say(SaveConfig(fsync=True), Send((link,), HELLO))
            bench.say(Send((link,), HELLO))
            await trio.testing.wait_all_tasks_blocked(0.02)

            assert is_quiet(peer)
            assert bench.actions.logged("Fatal: can't update cluster config file.")
            assert [call[0] for call in bench.actions.calls].count("config_not_saved") == 1

    @in_trio
    async def test_saveconfig_reports_what_went_wrong(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            bench.bus.save_config(fsync=True)
            assert ME in (tmp_path / "nodes.conf").read_text()
            (tmp_path / "nodes.conf").unlink()
            (tmp_path / "nodes.conf.tmp").mkdir()
            with pytest.raises(OSError, match="Is a directory"):
                bench.bus.save_config(fsync=True)


class TestWriting:
    @in_trio
    async def test_one_write_per_link_and_batch_and_one_encoding_per_message(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with running(tmp_path) as bench:
            peers = [bench.peer(), bench.peer()]
            await until(lambda: len(bench.engine.links) == 2)
            writes: list[int] = []
            encoded: list[Message] = []
            real_write = bench.bus._write

            def write(connection: Any) -> None:
                writes.append(connection.link.link_id)
                real_write(connection)

            def count(message: Message) -> bytes:
                encoded.append(message)
                return encode(message)

            monkeypatch.setattr(bench.bus, "_write", write)
            monkeypatch.setattr(bus_module, "encode", count)
            both = tuple(bench.engine.links)
            messages = [message(MessageType.PUBLISH, Publish(b"c", b"%d" % n)) for n in range(3)]
            bench.say(*[Send(both, each) for each in messages])

            assert sorted(writes) == [1, 2]
            assert encoded == messages
            expected = b"".join(map(encode, messages))
            for peer in peers:
                assert await receive(peer, len(expected)) == expected

    @in_trio
    async def test_what_the_kernel_does_not_take_waits_in_order_and_shows_in_the_link(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            peer = bench.peer()
            await until(lambda: bench.engine.of("accepted"))
            [link] = bench.engine.links
            messages = [message(MessageType.PUBLISH, Publish(b"c", bytes([n]) * 3_000_000)) for n in range(4)]
            for each in messages:
                bench.say(Send((link,), each))
            assert link.send_buffer_bytes > 1_000_000
            assert link.has_write_handler

            expected = b"".join(map(encode, messages))
            assert await receive(peer, len(expected)) == expected
            await until(lambda: link.send_buffer_bytes == 0 and not link.has_write_handler)

    @in_trio
    async def test_a_link_that_breaks_under_a_write_is_reported_once(self, tmp_path: Path) -> None:
        async with running(tmp_path) as bench:
            peer = bench.peer()
            await until(lambda: bench.engine.of("accepted"))
            [link] = bench.engine.links
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()
            bench.say(Send((link,), HELLO))
            bench.say(Send((link,), HELLO))
            await until(lambda: bench.engine.of("closed"))
            bench.say(Send((link,), HELLO))  # To a link that is gone: no one to tell.
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert bench.engine.of("closed") == [("closed", link)]


class TestTicks:
    @in_trio
    async def test_ten_times_a_second_with_both_clocks_and_missed_ones_are_not_made_up_for(
        self, tmp_path: Path, virtual_time: trio.testing.MockClock
    ) -> None:
        async with running(tmp_path) as bench:
            await until(lambda: len(bench.engine.ticks) >= 3)
            assert bench.engine.ticks[:3] == [(at_ms, UNIX_START_MS + at_ms) for at_ms in (0, 100, 200)]

            def stall_once() -> None:
                bench.engine.on_each_tick = lambda: None
                virtual_time.jump(0.33)

            bench.engine.on_each_tick = stall_once
            await until(lambda: len(bench.engine.ticks) >= 6)
            assert [now_ms for now_ms, _unix_ms in bench.engine.ticks[3:6]] == [300, 730, 830]


@contextmanager
def bound(settings: Settings) -> Iterator[list[socket.socket]]:
    listeners = bind_listeners(settings)
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


class TestListening:
    @pytest.fixture
    def port(self) -> Iterator[int]:
        lease = lease_port()
        yield lease.port
        lease.release()

    def test_on_every_bind_address(self, port: int) -> None:
        with bound(Settings(bind=["127.0.0.1", "127.0.0.2"], cluster_port=port)) as listeners:
            assert [listener.getsockname() for listener in listeners] == [("127.0.0.1", port), ("127.0.0.2", port)]

    def test_an_optional_address_may_be_missing(self, port: int) -> None:
        with bound(Settings(bind=["127.0.0.1", "-203.0.113.9"], cluster_port=port)) as listeners:
            assert len(listeners) == 1

    def test_the_port_is_10000_above_the_clients(self) -> None:
        assert bus_port(Settings(port=7000)) == 17000
        assert bus_port(Settings(port=7000, cluster_port=555)) == 555
        assert bus_port(Settings(port=60000, cluster_port=555)) == 555

    def test_no_room_for_the_port(self) -> None:
        with pytest.raises(ConfigError, match="Redis port number too high"):
            bind_listeners(Settings(port=55536))

    def test_no_address(self) -> None:
        with pytest.raises(ConfigError, match="No bind address is configured, but it is required for the Cluster bus"):
            bind_listeners(Settings(bind=[]))

    def test_a_port_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match=rf"^Failed listening on port {port} \(cluster\), aborting\.$"):
                bind_listeners(Settings(bind=["127.0.0.1"], cluster_port=port))


def test_every_local_effect_has_its_action() -> None:
    actions = RecordingActions()
    perform_local(
        actions,
        [
            Log(LogLevel.DEBUG, "text"),
            StartReplication("10.0.0.1", 7000),
            StopReplication(),
            PauseClients(99),
            UnpauseClients(),
            DeleteKeysInSlots((1, 2)),
            DropShardChannels((3,)),
            EmptyDatabase(),
            PublishLocal(b"c", b"p", True),
        ],
    )
    assert actions.calls == [
        ("log", LogLevel.DEBUG, "text"),
        ("start_replication", "10.0.0.1", 7000),
        ("stop_replication",),
        ("pause_clients", 99),
        ("unpause_clients",),
        ("delete_keys_in_slots", (1, 2)),
        ("drop_shard_channels", (3,)),
        ("empty_database",),
        ("publish_local", b"c", b"p", True),
    ]


@in_trio
async def test_maxclients_counts_two_links_for_every_other_node(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        assert bench.bus.connection_count() == 0
        state = parse(
            f"{ME} 127.0.0.1:1@2 myself,master - 0 0 0 connected\n{PEER} 127.0.0.1:3@4 master - 0 0 0 connected\n", 1
        ).state
        bench.engine.state = state
        assert bench.bus.connection_count() == 2
