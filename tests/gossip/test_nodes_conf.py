"""nodes.conf: lines as Redis writes them, damage, and a file that is never half written nor shared."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ConfigError
from cluster.gossip.nodes_conf import (
    CORRUPTED,
    NodesConfFile,
    describe_nodes,
    essence,
    format_flags,
    format_nodes_conf,
    node_line,
    parse,
)
from cluster.gossip.state import NO_FLAGS, ClusterState, Link, Node, NodeFlags, new_state
from cluster.slots.hashing import SLOT_COUNT

A = "a" * 40
B = "b" * 40
C = "c" * 40
NOW_MS = 5_000

WRITTEN_BY_REDIS = f"""\
{B} 127.0.0.1:7001@17001,two.example master - 0 1763649000123 2 connected 5461-10922
{C} 127.0.0.1:7002@17002 slave,fail {B} 1763649000001 1763648999000 2 disconnected
{A} 127.0.0.1:7000@17000 myself,master - 0 1763649000000 7 connected 0-5460 10923 [93->-{B}] [5461-<-{B}]
vars currentEpoch 9 lastVoteEpoch 6
"""


def test_what_redis_writes_is_read() -> None:
    state = parse(WRITTEN_BY_REDIS, NOW_MS).state
    a, b, c = (state.nodes[node_id] for node_id in (A, B, C))

    assert state.myself is a
    assert (state.current_epoch, state.last_vote_epoch) == (9, 6)
    assert (b.ip, b.port, b.cport, b.hostname) == ("127.0.0.1", 7001, 17001, "two.example")
    assert (a.config_epoch, b.config_epoch, c.config_epoch) == (7, 2, 0)
    assert c.master is b
    assert b.replicas == [c]
    assert c.flags == NodeFlags.SLAVE | NodeFlags.FAIL
    assert (c.fail_since_ms, c.ping_sent_ms, c.pong_received_ms) == (NOW_MS, NOW_MS, NOW_MS)
    assert (b.ping_sent_ms, b.pong_received_ms) == (0, NOW_MS)
    assert (a.slot_count, b.slot_count) == (5462, 5462)
    assert state.owners[10923] is a
    assert state.migrating == {93: b}
    assert state.importing == {5461: b}


def test_reading_and_writing_keeps_everything_but_the_times_and_links() -> None:
    state = parse(WRITTEN_BY_REDIS, NOW_MS).state

    assert format_nodes_conf(state) == (
        f"{B} 127.0.0.1:7001@17001,two.example master - 0 5000 2 disconnected 5461-10922\n"
        f"{C} 127.0.0.1:7002@17002 slave,fail {B} 5000 5000 2 disconnected\n"
        f"{A} 127.0.0.1:7000@17000 myself,master - 0 5000 7 connected 0-5460 10923 [93->-{B}] [5461-<-{B}]\n"
        "vars currentEpoch 9 lastVoteEpoch 6\n"
    )


class TestLine:
    def test_times_are_wall_clock(self) -> None:
        state = new_state(A, NOW_MS)
        state.unix_offset_ms = 1_000_000
        state.myself.pong_received_ms = 20

        assert node_line(state, state.myself) == f"{A} :0@0 myself,master - 0 1000020 0 connected"

    def test_a_peer_is_connected_while_i_have_a_link_to_it(self) -> None:
        state = new_state(A, NOW_MS)
        peer = Node(B, NodeFlags.MASTER)
        state.add_node(peer)

        assert node_line(state, peer).endswith(" disconnected")
        peer.link = Link(1, inbound=False, node=peer, created_ms=NOW_MS)
        assert node_line(state, peer).endswith(" connected")

    def test_a_replica_shows_its_masters_epoch(self) -> None:
        state = parse(WRITTEN_BY_REDIS, NOW_MS).state
        assert node_line(state, state.nodes[C]).split()[6] == "2"

    def test_a_handshake_is_shown_but_not_saved(self) -> None:
        state = new_state(A, NOW_MS)
        state.add_node(Node(B, NodeFlags.HANDSHAKE | NodeFlags.MEET, ip="10.0.0.1", port=1, cport=2))

        assert f"{B} 10.0.0.1:1@2 handshake - 0 0 0 disconnected\n" in describe_nodes(state)
        assert B not in format_nodes_conf(state)

    def test_a_slot_that_is_both_migrating_and_importing_shows_as_migrating(self) -> None:
        state = parse(WRITTEN_BY_REDIS, NOW_MS).state
        state.set_importing(93, state.nodes[B])

        assert node_line(state, state.myself).split()[10:] == [f"[93->-{B}]", f"[5461-<-{B}]"]

    @pytest.mark.parametrize(
        ("flags", "text"),
        [
            (NO_FLAGS, "noflags"),
            (NodeFlags.MEET | NodeFlags.MIGRATE_TO, "noflags"),
            (NodeFlags.MASTER | NodeFlags.PFAIL | NodeFlags.NOFAILOVER, "master,fail?,nofailover"),
            (NodeFlags.NOADDR | NodeFlags.HANDSHAKE | NodeFlags.SLAVE, "slave,handshake,noaddr"),
        ],
    )
    def test_flags(self, flags: NodeFlags, text: str) -> None:
        assert format_flags(flags) == text

    @pytest.mark.parametrize("name", ["x\nvars currentEpoch 99", "a b", "a,b", "a\0b", "ü", '"', "a@b"])
    def test_a_peer_cannot_write_into_other_fields_or_lines(self, name: str) -> None:
        state = new_state(A, NOW_MS)
        state.add_node(Node(B, NodeFlags.MASTER, ip=name, hostname=name, port=1, cport=2))

        assert f"{B} :1@2 master - 0 0 0 disconnected\n" in describe_nodes(state)
        assert parse(format_nodes_conf(state), NOW_MS).state.current_epoch == 0


class TestReading:
    ME = f"{A} 127.0.0.1:7000@17000 myself,master - 0 0 1 connected"

    def test_blank_lines_are_skipped(self) -> None:
        assert parse(f"\n\n{self.ME}\n\nvars currentEpoch 1 lastVoteEpoch 0\n\n\n", NOW_MS).state.current_epoch == 1

    def test_without_a_bus_port_it_is_the_port_plus_10000(self) -> None:
        state = parse(self.ME.replace("@17000", ""), NOW_MS).state
        assert state.myself.cport == 17000

    def test_ipv6(self) -> None:
        state = parse(self.ME.replace("127.0.0.1", "2001:db8::7"), NOW_MS).state
        assert (state.myself.ip, state.myself.port) == ("2001:db8::7", 7000)
        assert " 2001:db8::7:7000@17000 " in node_line(state, state.myself)

    def test_what_later_versions_add_to_the_address_is_left_out(self) -> None:
        state = parse(self.ME.replace("@17000", "@17000,me.example,shard-id=123"), NOW_MS).state
        assert state.myself.hostname == "me.example"

    def test_the_current_epoch_is_never_below_a_config_epoch(self) -> None:
        assert parse(self.ME.replace(" 1 conn", " 12 conn"), NOW_MS).state.current_epoch == 12

    def test_unknown_variables_are_skipped_with_a_word(self) -> None:
        loaded = parse(f"{self.ME}\nvars currentEpoch 3 colour 7\n", NOW_MS)
        assert loaded.warnings == ("Skipping unknown cluster config variable 'colour'",)
        assert loaded.state.current_epoch == 3

    def test_a_master_or_a_peer_without_a_line_is_known_all_the_same(self) -> None:
        text = f"{A} 127.0.0.1:7000@17000 myself,slave {B} 0 0 1 connected [7-<-{C}]"
        state = parse(text, NOW_MS).state
        assert state.myself.master is state.nodes[B]
        assert state.importing == {7: state.nodes[C]}
        assert state.nodes[B].flags & ~NodeFlags.MIGRATE_TO == NO_FLAGS

    def test_the_first_line_that_claims_a_slot_has_it(self) -> None:
        other = self.ME.replace(A, B).replace("myself,", "")
        state = parse(f"{self.ME} 5\n{other} 5 6\n", NOW_MS).state
        assert [node and node.node_id for node in state.owners[5:7]] == [A, B]
        assert state.nodes[B].slot_count == 1

    @pytest.mark.parametrize(
        "text",
        [
            "hello",
            "\n",
            ME.replace("myself,", ""),
            f"{ME}\n{ME}",
            ME[1:],
            ME.replace(A, A.upper()),
            ME.replace(":7000@17000", ""),
            ME.replace(":7000", ":x"),
            ME.replace(":7000", ":70000"),
            ME.replace("@17000", "@"),
            ME.replace("master", "boss"),
            ME.replace("- 0", f"{B[1:]} 0"),
            ME.replace("master -", f"slave {A}"),
            ME.replace(" 1 connected", " one connected"),
            ME.replace(" 1 connected", f" {2**64} connected"),
            ME.replace(" connected", ""),
            f"{ME} 16384",
            f"{ME} 7-3",
            f"{ME} x",
            f"{ME} [7]",
            f"{ME} [7->-{B[1:]}]",
            f"{ME}\nvars currentEpoch",
            f"{ME}\nvars currentEpoch x",
            f"{ME}\nvars currentEpoch -1 lastVoteEpoch 0",
        ],
    )
    def test_damage_is_refused_in_the_words_of_redis(self, text: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse(text, NOW_MS)
        assert str(caught.value).startswith(CORRUPTED)

    @given(st.text(max_size=200))
    def test_any_text_is_refused_or_read(self, text: str) -> None:
        with pytest.raises(ConfigError):  # Nobody guesses a node id, and without myself there is no state.
            parse(text, NOW_MS)

    @given(st.data())
    def test_a_damaged_file_is_refused_or_read(self, data: st.DataObject) -> None:
        text = WRITTEN_BY_REDIS
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, len(text) - 1))
            end = data.draw(st.integers(start, min(len(text), start + 12)))
            text = text[:start] + data.draw(st.text("ab09 -,:@[]<>\n\0x", max_size=4)) + text[end:] or "x"
        try:
            state = parse(text, NOW_MS).state
        except ConfigError:
            return
        assert parse(format_nodes_conf(state), NOW_MS).state.myself.node_id == state.myself.node_id


node_ids = st.text("0123456789abcdef", min_size=40, max_size=40)
names = st.text(st.characters(min_codepoint=97, max_codepoint=122), max_size=8)


@st.composite
def states(draw: st.DrawFn) -> ClusterState:
    """Clusters of up to six nodes in any role, with slots in runs, and with open slots."""
    ids = draw(st.lists(node_ids, min_size=1, max_size=6, unique=True))
    state = new_state(ids[0], NOW_MS)
    for node_id in ids[1:]:
        state.add_node(Node(node_id, draw(st.sampled_from([NodeFlags.MASTER, NodeFlags.SLAVE, NO_FLAGS]))))
    nodes = list(state.nodes.values())
    for node in nodes:
        node.ip = draw(st.sampled_from(["", "127.0.0.1", "::1"]))
        node.hostname = draw(names)
        node.port, node.cport = draw(st.integers(0, 65535)), draw(st.integers(0, 65535))
        node.flags |= draw(st.sampled_from([NO_FLAGS, NodeFlags.PFAIL, NodeFlags.FAIL, NodeFlags.NOFAILOVER]))
        masters = [other for other in nodes if other is not node and other.is_master]
        if node.is_replica and masters:
            state.set_replica_of(node, draw(st.sampled_from(masters)))
        else:
            node.config_epoch = draw(st.integers(0, 2**64 - 1))
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, SLOT_COUNT - 1))
        owner = draw(st.sampled_from(nodes))
        for slot in range(start, min(SLOT_COUNT, start + draw(st.integers(1, 40)))):
            state.assign_slot(slot, owner)
    for slot in draw(st.sets(st.integers(0, SLOT_COUNT - 1), max_size=3)):
        draw(st.sampled_from([state.set_importing, state.set_migrating]))(slot, draw(st.sampled_from(nodes)))
    state.current_epoch = draw(st.integers(0, 2**64 - 1))
    state.last_vote_epoch = draw(st.integers(0, 2**64 - 1))
    return state


def lines_of(state: ClusterState) -> list[str]:
    """CLUSTER NODES in an order that means something, without the link states, which are not read back."""
    return sorted(describe_nodes(state).replace(" disconnected", "").replace(" connected", "").splitlines())


@given(states())
def test_round_trip(state: ClusterState) -> None:
    text = format_nodes_conf(state)
    loaded = parse(text, NOW_MS)

    assert loaded.warnings == ()
    assert lines_of(loaded.state) == lines_of(state)  # A master named before its own line comes earlier now.
    assert loaded.state.last_vote_epoch == state.last_vote_epoch
    assert loaded.state.current_epoch == max(
        [state.current_epoch, *(node.config_epoch for node in state.nodes.values())]
    )
    for slot, owner in enumerate(state.owners):
        found = loaded.state.owners[slot]
        assert (found and found.node_id) == (owner and owner.node_id)


@given(states(), states())
def test_essences_are_equal_exactly_when_the_files_say_the_same(one: ClusterState, other: ClusterState) -> None:
    assert essence(one) == essence(one)
    assert (essence(one) == essence(other)) == (format_nodes_conf(one) == format_nodes_conf(other))


CHANGES: list[Callable[[ClusterState], object]] = [
    lambda state: setattr(state, "current_epoch", 10),
    lambda state: setattr(state, "last_vote_epoch", 8),
    lambda state: state.assign_slot(16000, state.nodes[B]),
    lambda state: state.set_importing(93, state.nodes[B]),
    lambda state: state.set_migrating(93, None),
    lambda state: state.remove_replica(state.nodes[C]),
    lambda state: state.nodes[C].set_flag(NodeFlags.FAIL, False),
    lambda state: setattr(state.nodes[B], "ip", "10.0.0.1"),
    lambda state: setattr(state.nodes[B], "port", 1),
    lambda state: setattr(state.nodes[B], "cport", 1),
    lambda state: setattr(state.nodes[B], "hostname", ""),
    lambda state: setattr(state.nodes[B], "config_epoch", 3),
    lambda state: state.remove_node(state.nodes[C]),
]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_a_restart_would_read_is_of_the_essence(change: Callable[[ClusterState], object]) -> None:
    state = parse(WRITTEN_BY_REDIS, NOW_MS).state
    before = essence(state)
    state.nodes[B].pong_received_ms += 1
    state.nodes[B].flags ^= NodeFlags.MEET | NodeFlags.MIGRATE_TO
    state.nodes[B].link = Link(1, inbound=False, node=state.nodes[B], created_ms=1)
    assert essence(state) == before
    change(state)
    assert essence(state) != before


# -- the file -----------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nodes.conf"


def test_no_file_and_an_empty_one_hold_nothing(path: Path) -> None:
    file = NodesConfFile(path)
    assert file.load(NOW_MS) is None
    file.lock()  # Makes an empty one.
    assert path.exists()
    assert file.load(NOW_MS) is None
    file.close()


@pytest.mark.parametrize("fsync", [False, True])
def test_save_and_load(path: Path, fsync: bool) -> None:
    file = NodesConfFile(path)
    file.lock()
    file.save("something much longer than what follows, to be replaced as a whole" * 1000, fsync=fsync)
    file.save(WRITTEN_BY_REDIS, fsync=fsync)

    assert path.read_text() == WRITTEN_BY_REDIS
    loaded = file.load(NOW_MS)
    assert loaded is not None
    assert loaded.state.myself.node_id == A
    assert [entry.name for entry in path.parent.iterdir()] == ["nodes.conf"]
    file.close()


def test_the_lock_keeps_others_out_also_after_saves(path: Path) -> None:
    first, second = NodesConfFile(path), NodesConfFile(path)
    first.lock()
    for _ in range(3):
        with pytest.raises(ConfigError, match=r"^Sorry, the cluster configuration file .* is already used by"):
            second.lock()
        first.save(WRITTEN_BY_REDIS, fsync=False)
    first.close()
    second.lock()
    second.close()


def test_a_lock_won_on_a_file_that_was_replaced_meanwhile_is_not_taken_for_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other node saves and dies between our open and our flock: the lock must end up on the new file."""
    other, ours = NodesConfFile(path), NodesConfFile(path)
    other.lock()
    real_open = os.open
    opened: list[str] = []

    def open_then_lose_the_race(name: str, *arguments: int) -> int:
        fd = real_open(name, *arguments)
        if name == ours.path and not opened:
            opened.append(name)
            other.save(WRITTEN_BY_REDIS, fsync=False)
            other.close()
        return fd

    monkeypatch.setattr(os, "open", open_then_lose_the_race)
    ours.lock()
    monkeypatch.undo()

    with pytest.raises(ConfigError, match="already used"):
        NodesConfFile(path).lock()
    ours.close()


def test_a_save_that_fails_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = NodesConfFile(path)
    file.lock()
    file.save(WRITTEN_BY_REDIS, fsync=True)

    def no_space(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", no_space)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: len(data) - 1)
    for fsync in (True, False):
        with pytest.raises(OSError, match="No space left"):
            file.save("new" * 1000, fsync=fsync)
    monkeypatch.undo()

    assert path.read_text() == WRITTEN_BY_REDIS
    assert [entry.name for entry in path.parent.iterdir()] == ["nodes.conf"]
    with pytest.raises(ConfigError, match="already used"):
        NodesConfFile(path).lock()
    file.close()


@pytest.mark.parametrize("fsync", [False, True])
def test_small_saves_overwrite_and_leave_nothing_of_what_was_longer(
    path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    file = NodesConfFile(path)
    file.lock()
    file.save(WRITTEN_BY_REDIS * 2, fsync=True)
    inode = path.stat().st_ino
    for text in ("short\n", WRITTEN_BY_REDIS, "", "x\n"):
        file.save(text, fsync=fsync)
        assert path.read_text() == text
        assert path.stat().st_ino == inode

    # Killed before the rest is cut off: blank lines, which mean nothing.
    file.save(WRITTEN_BY_REDIS * 2, fsync=fsync)
    monkeypatch.setattr(os, "ftruncate", lambda *_: None)
    file.save(WRITTEN_BY_REDIS, fsync=fsync)
    monkeypatch.undo()
    assert path.read_text() == WRITTEN_BY_REDIS + "\n" * len(WRITTEN_BY_REDIS)
    assert format_nodes_conf(parse(path.read_text(), NOW_MS).state) == format_nodes_conf(
        parse(WRITTEN_BY_REDIS, NOW_MS).state
    )
    file.close()


def test_what_does_not_fit_a_block_gets_a_new_file(path: Path) -> None:
    file = NodesConfFile(path)
    file.lock()
    inodes = []
    for text, fsync in (("x", False), ("y" * 4097, False), ("z", False), ("z", True), ("z", False), ("z", True)):
        file.save(text, fsync=fsync)
        assert path.read_text() == text
        inodes.append(path.stat().st_ino)
    replaced = [after != before for before, after in itertools.pairwise(inodes)]
    # From a long file to a short one is a new file too: its first block would be neither. The first save that must be
    # durable makes a new file as well, since nothing says that the old one's name is on disk.
    assert replaced == [True, True, True, False, False]
    file.close()


def test_sync_puts_the_file_and_its_name_on_disk_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = NodesConfFile(path)
    file.sync()  # Nothing is open: nothing to do.
    file.lock()
    file.save("one\n", fsync=False)
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.path.isdir(f"/proc/self/fd/{fd}")))
    file.sync()
    file.save("two\n", fsync=False)
    file.sync()
    assert synced == [False, True, False]
    file.close()


@pytest.mark.parametrize("fsync", [False, True])
def test_a_file_that_was_deleted_or_replaced_is_written_anew(path: Path, fsync: bool) -> None:
    file = NodesConfFile(path)
    file.lock()
    file.save("one\n", fsync=True)
    path.unlink()
    file.save("two\n", fsync=fsync)
    assert path.read_text() == "two\n"

    other = path.with_name("other")
    other.write_text("restored from a backup\n")
    other.rename(path)
    file.save("three\n", fsync=fsync)
    assert path.read_text() == "three\n"
    with pytest.raises(ConfigError, match="already used"):
        NodesConfFile(path).lock()
    file.close()


def test_a_durable_save_in_place_is_on_disk_before_the_rest_is_cut_off(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = NodesConfFile(path)
    file.lock()
    file.save("something longer\n", fsync=True)
    calls: list[str] = []
    for name in ("pwrite", "fsync", "ftruncate", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])
    file.save("x\n", fsync=True)
    assert calls == ["pwrite", "fsync", "ftruncate"]
    calls.clear()

    monkeypatch.setattr(os, "pwrite", lambda *_: 0)  # What cannot be written in place is written anew.
    file.save("yy\n", fsync=True)
    assert calls == ["fsync", "rename", "fsync"]
    assert path.read_text() == "yy\n"
    file.close()


def test_fsync_comes_before_the_new_file_has_the_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("write", "fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])

    NodesConfFile(path).save("x\n", fsync=True)
    assert calls == ["write", "fsync", "rename", "fsync"]  # The last one is the directory's.
    calls.clear()
    NodesConfFile(path).save("x\n", fsync=False)
    assert calls == ["write", "rename"]


def test_a_symbolic_link_is_followed_and_stays(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "real.conf"
    target.parent.mkdir()
    path.symlink_to(target)
    file = NodesConfFile(path)
    file.lock()
    file.save("x\n", fsync=False)
    file.close()

    assert path.is_symlink()
    assert target.read_text() == "x\n"


def test_a_directory_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Can't open .*nodes.conf in order to acquire a lock: No such file"):
        NodesConfFile(tmp_path / "nowhere" / "nodes.conf").lock()


def test_a_forked_child_does_not_keep_the_lock(path: Path) -> None:
    """BGSAVE's child may outlive a killed node; the node must be able to start again."""
    file = NodesConfFile(path)
    file.lock()
    context = multiprocessing.get_context("fork")
    running, release = context.Event(), context.Event()
    child = context.Process(target=lambda: (running.set(), release.wait()))
    child.start()
    try:
        assert running.wait(10)
        file.close()  # As the death of this process would.
        again = NodesConfFile(path)
        again.lock()
        again.close()
    finally:
        release.set()
        child.join()
