"""CONFIG GET and CONFIG SET: patterns, permissions, all or nothing, and listeners that may refuse."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.errors import CommandError, ConfigError
from cluster.node.config import Config
from cluster.settings import SavePoint
from tests.node.config_support import in_directory, quiet_config

__all__ = ["in_directory"]


def refusal(config: Config, *words: str, **options: bool) -> str:
    with pytest.raises(CommandError) as error:
        config.set([(a.encode(), b.encode()) for a, b in zip(words[::2], words[1::2], strict=True)], **options)
    return error.value.message.decode()


# --- GET --------------------------------------------------------------------------------------------------------------


def test_names_are_answered_as_they_were_asked() -> None:
    config = quiet_config(maxmemory=5)

    assert config.get([b"MaxMemory", b"maxmemory", b"no-such"]) == [(b"MaxMemory", b"5")]


def test_patterns_list_old_names_as_well() -> None:
    names = [name for name, _ in quiet_config().get([b"*of", b"replicaof"])]

    assert names == [b"replicaof", b"slaveof"]


def test_hidden_directives_answer_only_to_their_full_name() -> None:
    config = quiet_config(key_load_delay=7)

    assert config.get([b"key-load-*"]) == []
    assert config.get([b"key-load-delay"]) == [(b"key-load-delay", b"7")]


# --- SET --------------------------------------------------------------------------------------------------------------


def test_several_directives_at_once() -> None:
    config = quiet_config()

    config.set([(b"maxmemory", b"1mb"), (b"SAVE", b"3000 5"), (b"slave-priority", b"7")])

    assert config.settings.maxmemory == 1 << 20
    assert config.settings.save == [SavePoint(3000, 5)]
    assert config.settings.replica_priority == 7


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["x", "1"], "ERR Unknown option or number of arguments for CONFIG SET - 'x'"),
        (["a\r\nb", "1"], "ERR Unknown option or number of arguments for CONFIG SET - 'a  b'"),
        (["Port", "x"], "ERR CONFIG SET failed (possibly related to argument 'port') - "
                        "argument couldn't be parsed into an integer"),
        (["Daemonize", "x"], "ERR CONFIG SET failed (possibly related to argument 'Daemonize') - "
                             "can't set immutable config"),
        (["dir", "/"], "ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config"),
        (["hz", "1", "HZ", "2"], "ERR CONFIG SET failed (possibly related to argument 'HZ') - duplicate parameter"),
        (["hz", "x", "no-such", "1"], "ERR Unknown option or number of arguments for CONFIG SET - 'no-such'"),
    ],
)  # fmt: skip
def test_refusals(words: list[str], text: str) -> None:
    assert refusal(quiet_config(), *words) == text


def test_one_bad_value_leaves_all_as_it_was() -> None:
    config = quiet_config(maxmemory=7)

    text = refusal(config, "maxmemory", "8", "maxmemory-clients", "200%", "client-query-buffer-limit", "invalid")

    assert text == (
        "ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - "
        "percentage argument must be less or equal to 100"
    )
    assert config.settings.maxmemory == 7


@pytest.mark.parametrize(
    ("permission", "is_local", "allowed"),
    [("no", True, False), ("local", True, True), ("local", False, False), ("yes", False, True)],
)
def test_protected_directives(permission: str, is_local: bool, allowed: bool) -> None:
    config = quiet_config(enable_protected_configs=permission)
    if allowed:
        config.set([(b"dbfilename", b"x")], is_local_client=is_local)
    else:
        assert "can't set protected config" in refusal(config, "dbfilename", "x", is_local_client=is_local)
    assert (config.settings.dbfilename == "x") is allowed


def test_some_directives_are_denied_while_loading() -> None:
    assert refusal(quiet_config(), "appendonly", "yes", loading=True) == (
        "LOADING Redis is loading the dataset in memory"
    )


def test_sensitive_values_are_known() -> None:
    config = quiet_config()

    assert config.is_sensitive(b"RequirePass")
    assert not config.is_sensitive(b"port")
    assert not config.is_sensitive(b"no-such")


def test_dir_is_entered_and_left_again_when_the_rest_fails(in_directory: Path) -> None:
    (in_directory / "sub").mkdir()
    config = quiet_config(enable_protected_configs="yes")

    refusal(config, "dir", "sub", "hz", "x")
    assert os.getcwd() == config.settings.dir == os.path.realpath(in_directory)

    config.set([(b"dir", b"sub")])
    assert os.getcwd() == config.settings.dir == os.path.realpath(in_directory / "sub")


# --- Listeners --------------------------------------------------------------------------------------------------------


def recorder(calls: list[str], name: str, config: Config, refuse_at: str | None = None) -> Callable[[], None]:
    """A listener that notes what port it saw and refuses one of them."""

    def listener() -> None:
        calls.append(f"{name}:{config.settings.port}")
        if str(config.settings.port) == refuse_at:
            raise ConfigError("Unable to listen on this port. Check server logs.")

    return listener


def test_listeners_see_all_new_values_and_are_called_once() -> None:
    config = quiet_config()
    calls: list[str] = []
    listener = recorder(calls, "a", config)
    for name in ("maxmemory", "port", "hz"):
        config.on_change(name, listener)

    config.set([(b"maxmemory", b"1"), (b"port", b"7")])

    assert calls == ["a:7"]


def test_listeners_are_called_only_for_changes() -> None:
    config = quiet_config()
    calls: list[str] = []
    config.on_change("port", recorder(calls, "port", config))
    config.on_change("tls-key-file", recorder(calls, "tls", config))

    config.set([(b"port", b"6379"), (b"tls-key-file", b"")])

    assert calls == ["tls:6379"]  # The file may be another one under the same name.


def test_old_names_reach_the_listener_of_the_new_one() -> None:
    config = quiet_config()
    calls: list[str] = []
    config.on_change("replica-priority", recorder(calls, "p", config))

    config.set([(b"slave-priority", b"1")])

    assert calls == ["p:6379"]


def test_a_listener_that_refuses_undoes_everything(caplog: pytest.LogCaptureFixture) -> None:
    config = quiet_config()
    calls: list[str] = []
    config.on_change("maxmemory", recorder(calls, "first", config))
    config.on_change("port", recorder(calls, "second", config, refuse_at="7"))
    config.on_change("hz", recorder(calls, "never", config))

    text = refusal(config, "maxmemory", "1", "port", "7", "hz", "20")

    assert text == (
        "ERR CONFIG SET failed (possibly related to argument 'port') - "
        "Unable to listen on this port. Check server logs."
    )
    # The first is told again, with the old values; the one that refused has changed nothing, and is not.
    assert calls == ["first:7", "second:7", "first:6379"]
    assert (config.settings.maxmemory, config.settings.port, config.settings.hz) == (0, 6379, 10)


def test_a_refusal_without_reason() -> None:
    config = quiet_config()

    def listener() -> None:
        raise ConfigError("")

    config.on_change("hz", listener)

    assert refusal(config, "hz", "20") == "ERR CONFIG SET failed (possibly related to argument 'hz')"


def test_listeners_are_registered_by_modern_names() -> None:
    with pytest.raises(AssertionError, match="old name"):
        quiet_config().on_change("slave-priority", lambda: None)
