"""Loading: files, include, standard input, the command line's lines, and everything that refuses to start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ConfigError
from cluster.node.command_line import LaunchOptions
from cluster.node.config import INCLUDE_DEPTH_MAX, Config
from cluster.node.directives import BY_NAME
from cluster.node.logging import Log
from cluster.settings import MasterAddress, SavePoint, Settings
from tests.node.config_support import in_directory, loaded, quiet_config

__all__ = ["in_directory"]


def reason_of(text: str) -> str:
    """The last line of the report."""
    with pytest.raises(ConfigError) as error:
        loaded(text)
    return str(error.value).rpartition("\n")[2]


def test_the_report_is_redis_s() -> None:
    with pytest.raises(ConfigError) as error:
        loaded("# fine\nport 7000\nPort   7001 7002")

    assert str(error.value) == (
        "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n"
        "Reading the configuration file, at line 4\n"  # The text comes after the (empty) file's own line.
        ">>> 'Port   7001 7002'\n"
        "wrong number of arguments"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no-such 1", "Bad directive or wrong number of arguments"),
        ("include", "Bad directive or wrong number of arguments"),
        ("rename-command a", "Bad directive or wrong number of arguments"),
        ("user", "Bad directive or wrong number of arguments"),
        ("list-max-ziplist-entries 1 2", "Bad directive or wrong number of arguments"),
        ("module.name", "Module config specified without value"),
        ("sentinel monitor a b 1 2", "sentinel directive while not in sentinel mode"),
        ("cluster-enabled yes\nreplicaof a 1", "replicaof directive not allowed in cluster mode"),
        ("logfile /no/such/dir/x", "Can't open the log file: No such file or directory"),
        ("dir /no/such/dir", "No such file or directory"),
        (
            "user alice on\nuser alice on",
            "Error in user declaration 'alice': Duplicate user found. A user can only be defined once in config files",
        ),
    ],
)
def test_reasons(text: str, reason: str) -> None:
    assert reason_of(text) == reason


def test_the_last_word_counts(in_directory: Path) -> None:
    (in_directory / "x.conf").write_text("port 1\ntimeout 1\nhz 20")
    config = quiet_config()

    config.read("x.conf", overrides=b"port 2\nPORT 3")

    assert (config.settings.port, config.settings.timeout, config.settings.hz) == (3, 1, 20)
    assert config.path == str(in_directory / "x.conf")


def test_old_names_are_the_same_directive() -> None:
    settings = loaded("slave-priority 7\nlua-time-limit 8\nslaveof host 1\nhash-max-ziplist-entries 9").settings

    assert settings.replica_priority == 7
    assert settings.busy_reply_threshold == 8
    assert settings.replicaof == MasterAddress("host", 1)
    assert settings.hash_max_listpack_entries == 9


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("", [(3600, 1), (300, 100), (60, 10000)]),
        ("save 900 1", [(900, 1)]),
        ("save 900 1\nsave 300 10", [(900, 1), (300, 10)]),
        ("save 900 1 300 10", [(900, 1), (300, 10)]),
        ('save "900 1 300 10"', [(900, 1), (300, 10)]),
        ("save ''", []),
        ("save", []),
        ('save 900 1\nsave ""', []),
        ('save 900 1\nsave ""\nsave 5 5', [(5, 5)]),
        ("save 900 1\nsave", [(900, 1)]),  # Bare, it says nothing that was not said.
    ],
)
def test_save_lines_add_up(text: str, points: list[tuple[int, int]]) -> None:
    assert loaded(text).settings.save == [SavePoint(*point) for point in points]


def test_save_lines_after_an_include_replace_one_another(in_directory: Path) -> None:
    """Redis 7.0's behaviour, and not what its documentation promises."""
    (in_directory / "empty.conf").touch()

    assert loaded("save 1 1\ninclude empty.conf\nsave 2 2\nsave 3 3").settings.save == [SavePoint(3, 3)]


def test_several_arguments_in_one_word() -> None:
    settings = loaded("bind \"127.0.0.1 -::1\"\nshutdown-on-sigterm 'nosave now'").settings

    assert settings.bind == ["127.0.0.1", "-::1"]
    assert settings.shutdown_on_sigterm == ("nosave", "now")


def test_include_is_relative_to_where_dir_leads(in_directory: Path) -> None:
    (in_directory / "sub").mkdir()
    (in_directory / "sub" / "a.conf").write_text("timeout 1\ninclude b.conf")
    (in_directory / "sub" / "b.conf").write_text("hz 30")

    config = loaded("dir sub\ninclude a.conf\ninclude nothing*.conf")

    assert (config.settings.timeout, config.settings.hz) == (1, 30)
    assert config.settings.dir == os.path.realpath(in_directory / "sub")


def test_an_included_file_that_is_missing_is_logged(in_directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = Settings()
    config = Config(settings, Log(settings))

    with pytest.raises(ConfigError) as error:
        config.read(overrides=b"include none.conf")

    assert str(error.value) == ""
    assert capfd.readouterr().out.endswith(
        " # Fatal error, can't open config file 'none.conf': No such file or directory\n"
    )


def test_an_error_in_an_included_file_names_its_own_line(in_directory: Path) -> None:
    (in_directory / "a.conf").write_text("\n\nport x")

    with pytest.raises(ConfigError, match="at line 3\n>>> 'port x'"):
        loaded("include a.conf")


def test_an_endless_include_is_refused(in_directory: Path) -> None:
    (in_directory / "a.conf").write_text("include a.conf")

    assert reason_of("include a.conf") == f"include is nested more than {INCLUDE_DEPTH_MAX} deep"


def test_standard_input_comes_after_the_file(in_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (in_directory / "a.conf").write_text("port 1\ntimeout 1\nhz 20\n")
    monkeypatch.setattr("cluster.node.config_file.read_standard_input", lambda: b"timeout 2\nhz 30")
    config = quiet_config()

    config.read("a.conf", from_stdin=True, overrides=b"hz 40")

    assert (config.settings.port, config.settings.timeout, config.settings.hz) == (1, 2, 40)


def test_commands_are_renamed_one_after_another() -> None:
    settings = Settings()
    config = Config(settings, Log(Settings(logfile=os.devnull)), command_names=[b"get", b"set", b"flushall"])

    config.read(overrides=b'rename-command GET fetch\nrename-command flushall ""\nrename-command set GET')

    assert settings.rename_command == [(b"get", b"fetch"), (b"flushall", b""), (b"set", b"get")]
    for line, reason in (
        (b"rename-command flushall x", "No such command in rename-command"),
        (b"rename-command fetch Get", "Target command name already exists"),
    ):
        with pytest.raises(ConfigError, match=reason):
            config.read(overrides=line)


def test_users_are_kept_for_the_acl_and_checked_by_it() -> None:
    settings = Settings()
    config = Config(settings, Log(Settings(logfile=os.devnull)))

    config.read(overrides=b"user alice on '>pass word' ~*")

    assert settings.user == [[b"alice", b"on", b">pass word", b"~*"]]
    with pytest.raises(ConfigError, match="Error in user declaration 'user': Syntax error"):
        config.read(overrides=b"user bob nope")


def test_modules_and_retired_directives_are_noted_and_forgotten() -> None:
    config = loaded("loadmodule /x.so a b\nmod.name 1 2\nlua-replicate-commands yes\nlist-max-ziplist-value 3")

    assert config.settings.loadmodule == [[b"/x.so", b"a", b"b"]]
    assert config.module_settings == {"mod.name": "1 2"}


def test_sentinel_mode() -> None:
    config = Config.load(
        LaunchOptions(sentinel_mode=True, overrides=b"sentinel \nsentinel monitor m 127.0.0.1 6379 2\nsentinel myid x")
    )

    assert (config.settings.port, config.settings.protected_mode) == (26379, False)
    assert [(line.number, line.arguments[1]) for line in config.sentinel_lines] == [(3, b"monitor"), (4, b"myid")]


# Not logfile: it would create one wherever chance says.
NAMES = [name for name in BY_NAME if name != b"logfile"]
TEXTS = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.builds(
            lambda name, words, quote: name + b" " + b" ".join(quote + word + quote for word in words),
            st.sampled_from([*NAMES, b"include", b"user", b"rename-command", b"loadmodule", b"sentinel", b"a.b"]),
            st.lists(st.binary(max_size=20), max_size=4),
            st.sampled_from([b"", b'"', b"'"]),
        ),
    ),
    max_size=6,
).map(b"\n".join)


@given(TEXTS)
def test_any_text_is_taken_or_refused(text: bytes) -> None:
    """Nothing but ConfigError, whatever a file holds; and what was taken can be shown."""
    here = os.getcwd()
    config = quiet_config()
    try:
        config.read(overrides=text)
    except ConfigError:
        pass
    finally:
        os.chdir(here)
    assert len(config.get([b"*"])) > 180
