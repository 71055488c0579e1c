"""CONFIG REWRITE: comments and order stay, new values go into old lines, and a crash cannot lose the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.errors import CommandError
from cluster.node.config import Config
from cluster.node.config_rewrite import SIGNATURE, ConfText, replace_file
from cluster.settings import MasterAddress
from tests.node.config_support import in_directory, quiet_config

__all__ = ["in_directory"]


def configured(path: Path, text: str) -> Config:
    path.write_text(text)
    config = quiet_config()
    config.read(str(path))
    return config


def test_old_lines_take_the_new_values(in_directory: Path) -> None:
    path = in_directory / "x.conf"
    config = configured(
        path,
        "# top\n\n\n\n  # indented\nPORT 1\nslave-priority 5\nsave 900 1\nsave 300 10\ntimeout 1\ntimeout 2\nhz 10\n"
        "bind * -::*\nlua-replicate-commands yes\nrename-command A B\ninclude nothing*\nloadmodule x\nuser a on\n",
    )
    config.set([(b"port", b"2"), (b"save", b"7 7"), (b"timeout", b"3"), (b"maxmemory", b"1gb")])

    config.rewrite()

    kept, _, added = path.read_bytes().partition(SIGNATURE + b"\n")
    assert kept.split(b"\n") == [
        b"# top",
        b"",
        b"# indented",
        b"port 2",
        b"replica-priority 5",
        b"save 7 7",
        b"",
        b"timeout 3",
        b"",
        b"hz 10",
        b"",
        b"# ??? lua-replicate-commands yes",
        b"rename-command A B",
        b"include nothing*",
        b"loadmodule x",
        b"user a on",
        b"",
        b"",
    ]
    assert set(added.splitlines()) == {
        b"maxmemory 1gb",
        b'dir "%b"' % os.fsencode(os.path.realpath(in_directory)),
        b"latency-tracking-info-percentiles 50 99 99.9",
    }


def test_rewriting_twice_changes_nothing_more(in_directory: Path) -> None:
    path = in_directory / "x.conf"
    config = configured(path, "port 1\n")
    config.set([(b"maxmemory", b"5"), (b"loglevel", b"debug")])
    config.rewrite()
    config.rewrite()
    twice = path.read_bytes()

    config.rewrite()

    assert path.read_bytes() == twice
    assert twice.count(SIGNATURE) == 1


def test_what_was_rewritten_is_read_back(in_directory: Path) -> None:
    path = in_directory / "x.conf"
    config = configured(path, "")
    config.set(
        [
            (b"requirepass", b'a "b" \xff\x00'),
            (b"maxmemory-clients", b"7%"),
            (b"save", b""),
            (b"bind", b""),
            (b"shutdown-on-sigint", b"nosave now"),
            (b"client-output-buffer-limit", b"pubsub 1mb 1 1"),
            (b"notify-keyspace-events", b"KEA"),
        ]
    )

    config.rewrite(force_all=True)

    again = quiet_config()
    again.read(str(path))
    assert again.get([b"*"]) == config.get([b"*"])


def test_the_file_is_found_although_dir_has_changed(in_directory: Path) -> None:
    (in_directory / "sub").mkdir()
    path = in_directory / "x.conf"
    path.write_text("dir sub\nhz 20\n")
    config = quiet_config()
    config.read("x.conf")
    config.set([(b"hz", b"30")])

    config.rewrite()

    assert path.read_text().startswith(f'dir "{os.path.realpath(in_directory / "sub")}"\nhz 30\n')
    assert os.listdir(in_directory / "sub") == []


def test_a_missing_file_is_made(in_directory: Path) -> None:
    path = in_directory / "x.conf"
    config = configured(path, "port 1")
    path.unlink()

    config.rewrite()

    assert path.read_bytes().startswith(SIGNATURE + b"\nport 1\n")


def test_without_a_file() -> None:
    with pytest.raises(CommandError) as error:
        quiet_config().rewrite()

    assert error.value.message == b"ERR The server is running without a config file"


def test_a_directory_that_is_gone(in_directory: Path) -> None:
    (in_directory / "sub").mkdir()
    config = configured(in_directory / "sub" / "x.conf", "")
    (in_directory / "sub" / "x.conf").unlink()
    (in_directory / "sub").rmdir()

    with pytest.raises(CommandError) as error:
        config.rewrite()

    assert error.value.message == b"ERR Rewriting config file: No such file or directory"


def test_the_master_is_written_only_outside_a_cluster(in_directory: Path) -> None:
    path = in_directory / "x.conf"
    config = configured(path, "slaveof old 1\n")
    config.settings.replicaof = MasterAddress("new", 2)  # As the command REPLICAOF does.
    config.rewrite()
    assert b"replicaof new 2\n" in path.read_bytes()

    config.settings.replicaof = None
    config.rewrite()
    assert b"replicaof" not in path.read_bytes()

    config.settings.replicaof = MasterAddress("new", 2)
    config.settings.cluster_enabled = True
    config.rewrite()
    assert b"replicaof" not in path.read_bytes()


def test_others_add_their_lines(in_directory: Path) -> None:
    path = in_directory / "x.conf"
    config = configured(path, "user a on\nport 1\nuser b on\n")
    config.rewriters.append(lambda conf: conf.put(b"user", b"user default on", force=True))

    config.rewrite()

    assert path.read_bytes().startswith(b"user default on\nport 1\n\n" + SIGNATURE)


def test_users_leave_the_file_when_there_is_an_aclfile(in_directory: Path) -> None:
    path = in_directory / "x.conf"
    config = configured(path, "aclfile users.acl\nuser a on\n")

    config.rewrite()

    assert b"user a" not in path.read_bytes()


def test_sentinel_directives_keep_their_sequence() -> None:
    conf = ConfText.parse(b"sentinel monitor a 1\nport 1\nsentinel myid x\nSENTINEL monitor b 1", sentinel_mode=True)

    conf.put(b"sentinel monitor", b"sentinel monitor c 2", force=True)
    conf.put(b"sentinel monitor", b"sentinel monitor d 2", force=True)
    conf.mark(b"sentinel myid")

    assert conf.render() == b"sentinel monitor c 2\nport 1\n\nsentinel monitor d 2\n"


def test_unreadable_lines_become_comments() -> None:
    assert ConfText.parse(b'a "b\nport 1\n').render() == b'# ??? a "b\nport 1\n\n'


def test_the_old_file_stays_when_the_new_one_cannot_be_put_there(in_directory: Path) -> None:
    (in_directory / "taken").mkdir()
    (in_directory / "taken" / "x").touch()

    with pytest.raises(OSError):
        replace_file(str(in_directory / "taken"), b"new")

    assert os.listdir(in_directory) == ["taken"]  # No temporary file is left.


def test_permissions_follow_the_umask(in_directory: Path) -> None:
    before = os.umask(0o027)
    try:
        replace_file("x.conf", b"new\n")
    finally:
        assert os.umask(before) == 0o027

    assert (in_directory / "x.conf").read_bytes() == b"new\n"
    assert (in_directory / "x.conf").stat().st_mode & 0o777 == 0o640


def test_the_new_file_is_on_disk_before_it_replaces_the_old(
    in_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        order.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))[:6]}")
        fsync(descriptor)

    def noted_rename(source: str, target: str) -> None:
        order.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)

    replace_file(str(in_directory / "x.conf"), b"new")

    assert order == ["fsync x.conf", "rename", f"fsync {in_directory.name[:6]}"]
