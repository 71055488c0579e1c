"""Configuration, side by side with redis-server 7.0: names, defaults, values, refusals, rewriting, command lines.

One real server answers CONFIG GET and SET on the wire; ours answers the same questions in this process. Conf files that
are refused are given to ``redis-server`` itself, whose standard error is compared with ours.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cluster.errors import CommandError, ConfigError
from cluster.node.command_line import parse_command_line
from cluster.node.config import Config
from cluster.node.directives import BY_NAME, TABLE, Directive, Flag
from tests.node.config_support import in_directory, quiet_config
from tests.support import processes
from tests.support.ports import lease_port
from tests.support.waiting import eventually
from tests.support.wire import RawConnection, ReplyError

pytestmark = pytest.mark.real_redis

__all__ = ["in_directory"]

# The line after the one under test: both stop there at the latest, so that no server ever starts.
END = "no-such-directive 1"


@contextlib.contextmanager
def bare_server(directory: Path, *words: str) -> Iterator[RawConnection]:
    """A redis-server with nothing but these words on its command line."""
    lease = lease_port()
    command = ["redis-server", *words, "--port", str(lease.port), "--bind", "127.0.0.1"]
    with open(directory / "server.log", "ab") as log:
        process = processes.spawn(command, cwd=directory, output=log)
    try:
        with eventually(lambda: RawConnection(lease.port), message="redis-server to accept") as connection:
            yield connection
    finally:
        processes.end(process)
        lease.release()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawConnection]:
    """One real server for questions that can be asked in any order."""
    directory = tmp_path_factory.mktemp("reference")
    with bare_server(directory, "--enable-protected-configs", "yes", "--save", "") as connection:
        yield connection


def pairs(reply: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def their_stderr(*words: str) -> tuple[int, str]:
    """Exit status and standard error of a redis-server that is expected not to start."""
    done = subprocess.run(
        ["redis-server", *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    return done.returncode, done.stderr.decode(errors="surrogateescape")


def our_stderr(*words: str) -> tuple[int, str]:
    """The same for ours."""
    here = os.getcwd()
    standard_input = os.dup(0)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    try:
        Config.load(parse_command_line(["redis-server", *words]))
    except ConfigError as error:
        return 1, f"{error}\n"
    finally:
        os.dup2(standard_input, 0)
        os.close(standard_input)
        os.chdir(here)
    return 0, ""


# --- Names and defaults -----------------------------------------------------------------------------------------------


def test_every_name_and_every_default_is_the_same(in_directory: Path) -> None:
    """No exceptions: whatever CONFIG GET * says on a server without a conf file, ours says, hidden directives too."""
    hidden = [row.name for row in TABLE if row.flags & Flag.HIDDEN]
    with bare_server(in_directory) as connection:
        theirs = pairs(connection.call("CONFIG", "GET", "*"))
        theirs_hidden = pairs(connection.call("CONFIG", "GET", *hidden))
    words = ["--port", theirs[b"port"].decode(), "--bind", "127.0.0.1"]

    config = Config.load(parse_command_line(["redis-server", *words]))

    assert dict(config.get([b"*"])) == theirs
    assert dict(config.get([name.encode() for name in hidden])) == theirs_hidden


@pytest.mark.parametrize(
    "patterns",
    [
        ["maxmemory", "maxmemory*", "bind", "*of"],
        ["MaxMemory", "maxmemory"],
        ["s[al]*", "?imeout", "[^a-z]*", "*_*"],
        ["key-load-delay", "key-*"],
        ["no-such", "no-such*"],
        ["SLAVE*", "replica-p[a-z]iority"],
        ["h[z-a]"],
        ["h[\\z]", "h[z"],
        ["*[", "\\*", "hz\\"],
        [""],
    ],
)
def test_patterns_select_the_same_names(reference: RawConnection, patterns: list[str]) -> None:
    theirs = reference.call("CONFIG", "GET", *patterns)[::2]

    ours = [name for name, _ in quiet_config().get([pattern.encode() for pattern in patterns])]

    assert sorted(ours) == sorted(theirs)


def test_random_patterns_select_the_same_names(reference: RawConnection) -> None:
    generator = random.Random(7)
    pieces = ["*", "?", "[a-m]", "[^s]", "[", "]", "-", "\\", "^", "a", "S", "max", "re", "y", "[z-A]", "[]", "hz"]
    config = quiet_config()
    for _ in range(600):
        pattern = "".join(generator.choice(pieces) for _ in range(generator.randint(1, 6)))
        theirs = sorted(reference.call("CONFIG", "GET", pattern)[::2])

        ours = sorted(name for name, _ in config.get([pattern.encode()]))

        assert ours == theirs, pattern


# --- Values -----------------------------------------------------------------------------------------------------------

NUMBERS = ["0", "1", "-1", "", "-0", "+1", "01", " 1", "1 ", "1.5", "0x10", "a", "99", "100", "1000", "1001", "65535",
           "65536", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296",
           "9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551615",
           "18446744073709551616", "99999999999999999999999", "1" * 130, "1" * 5000, "1e-400", "0e5", "١"]  # fmt: skip
MEMORY = ["1b", "1k", "1K", "1kb", "1KB", "1m", "1mb", "2g", "2gb", "1gb1", "1tb", "kb", "1 mb", "-1mb", "50%", "0%",
          "100%", "101%", "-5%", "05%", "%", "17179869184gb", "8589934592gb", "36893488147419103232",
          "0000000001mb"]  # fmt: skip
OCTAL = ["700", "0777", "1000", "8", "-7", "777 ", " 77", "0o7"]
WORDS = ["yes", "no", "YES", "No", "true", "local", "LOCAL", "default", "save", "nosave", "now force", "nosave save",
         "nosave  now", "force nosave NOW", "default now", "everysec", "noeviction", "ALLKEYS-LRU", "relative", "debug",
         "Warning", "nothing", "swapdb", "hostname", "unknown-endpoint", "panic", "yes\n", "clients"]  # fmt: skip
SAVES = ["900 1", "900 1 300 10", "900", "0 1", "1 0", "1 -1", "a b", "900 1 300", "900  1", " 900 1", "+9 +1",
         "1 2147483648", "99999999999999999999 1", "900 1a"]  # fmt: skip
LIMITS = ["normal 0 0 0", "slave 1mb 1kb 9", "REPLICA 1 1 1", "pubsub 32mb 8mb 60 normal 1 2 3", "normal 0 0",
          "master 0 0 0", "other 1 1 1", "normal -1 0 0", "normal 1x 0 0", "normal 0 0 -1", "normal 0 0 1x",
          "normal 1 1 4294967297", "normal 18446744073709551615 0 0"]  # fmt: skip
OTHERS = ["0 200 800", "0 200", "-2000 2000 1", "0 0 2001", "a b c", "KEA", "gxE", "Ag$lshzxeKEtmdn", "nA", "AmK", "q",
          "50 99 99.9", "50.50 0.001", "100.1", "-1", "nan", "inf", "1e1", "0x1p3", "1_0", "50 ", "127.0.0.1",
          "* -::*", "a" * 255, "a" * 256, "host_name", "host.name-1", "a b", "é", "../x", "x/y", "x\\y", "file.rdb",
          "{title}", "{title} x", "{port}", "{nope}", "{", "{{", "{unixsocket}", "plain", "  ", '"q"',
          "it's"]  # fmt: skip
VALUES = [*NUMBERS, *MEMORY, *OCTAL, *WORDS, *SAVES, *LIMITS, *OTHERS]

# Left alone on the shared server: they would move or rebind it, or fail there for want of certificates.
NOT_SET = {"port", "bind", "dir", "tls-port", "maxclients", "oom-score-adj", "oom-score-adj-values", "requirepass"}
NOT_SET |= {row.name for row in TABLE if row.name.startswith("tls-")} | {"watchdog-period", "crash-log-enabled"}


@pytest.mark.parametrize("row", [row for row in TABLE if row.name not in NOT_SET], ids=lambda row: row.name)
def test_values_are_accepted_and_refused_alike(reference: RawConnection, row: Directive) -> None:
    """CONFIG SET of every value to every directive: the same reply, and then the same CONFIG GET."""
    name = row.name
    config = quiet_config(enable_protected_configs="yes", save=[])
    for value in VALUES:
        theirs = reference.ask("CONFIG", "SET", name, value)
        theirs_then = reference.call("CONFIG", "GET", name)[1]
        try:
            config.set([(name.encode(), value.encode())])
            ours = b"OK"
        except CommandError as error:
            ours = error.message

        assert ours == (str(theirs).encode() if isinstance(theirs, ReplyError) else theirs), (name, value)
        assert config.get([name.encode()]) == [(name.encode(), theirs_then)], (name, value)
    reference.call("CONFIG", "SET", "timeout", 0)  # Nobody shall hang up while another test takes its time.


# --- CONFIG SET as a whole --------------------------------------------------------------------------------------------

REQUESTS = [
    ["maxmemory", "10000001", "maxmemory-clients", "200%", "client-query-buffer-limit", "invalid"],
    ["maxmemory", "1", "maxmemory", "2"],
    ["maxmemory", "1", "MAXMEMORY", "2"],
    ["replica-priority", "7", "slave-priority", "8"],
    ["no-such", "1", "maxmemory", "x"],
    ["maxmemory", "x", "no-such", "1"],
    ["daemonize", "yes", "no-such", "1"],
    ["no\r\nsuch", "1"],
    ["DAEMONIZE", "yes"],
    ["hz", "7", "Timeout", "x"],
    ["hz", "7", "hz", "x", "daemonize", "no"],
    ["save", "900 1", "hz", "11", "loglevel", "verbose"],
    ["", ""],
]


@pytest.mark.parametrize("words", REQUESTS, ids=" ".join)
def test_requests_with_several_pairs(reference: RawConnection, words: list[str]) -> None:
    """All or nothing, the same reply, and the same values afterwards."""
    names = sorted({word.lower().encode() for word in words[::2]} & set(BY_NAME))
    config = quiet_config()
    for name, value in pairs(reference.call("CONFIG", "GET", *names)).items() if names else ():
        if not BY_NAME[name].flags & Flag.IMMUTABLE:
            config.set([(name, value)])
    theirs = reference.ask("CONFIG", "SET", *words)
    try:
        config.set([(name.encode(), value.encode()) for name, value in zip(words[::2], words[1::2], strict=True)])
        ours = b"OK"
    except CommandError as error:
        ours = error.message

    assert ours == (str(theirs).encode() if isinstance(theirs, ReplyError) else theirs)
    if names:
        assert dict(config.get(names)) == pairs(reference.call("CONFIG", "GET", *names))


def test_protected_directives_and_dir(in_directory: Path) -> None:
    config = quiet_config()
    with bare_server(in_directory) as connection:
        for name, value in (("dir", "/"), ("dbfilename", "x.rdb")):
            theirs = connection.ask("CONFIG", "SET", name, value)
            with pytest.raises(CommandError) as refusal:
                config.set([(name.encode(), value.encode())])
            assert refusal.value.message == str(theirs).encode()


def test_dir_is_entered(in_directory: Path) -> None:
    (in_directory / "sub").mkdir()
    config = quiet_config(enable_protected_configs="local")
    with bare_server(in_directory, "--enable-protected-configs", "local") as connection:
        for value in ("sub", "..", "no-such", "", str(in_directory), "server.log"):
            theirs = connection.ask("CONFIG", "SET", "dir", value)
            try:
                config.set([(b"dir", value.encode())])
                ours = "OK"
            except CommandError as error:
                ours = error.message.decode()
            assert ours == (str(theirs) if isinstance(theirs, ReplyError) else theirs.decode()), value
            assert dict(config.get([b"dir"])) == pairs(connection.call("CONFIG", "GET", "dir"))


# --- Conf files that are refused --------------------------------------------------------------------------------------

BAD_FILES = {
    "unknown": "port 0\nno-such-directive 1\n",
    "unbalanced": 'port 0\n\n# comment\nrequirepass "abc\n',
    "text after quotes": "requirepass 'a'b\n",
    "no value": "port\n",
    "two values": "port 1 2\n",
    "name in capitals": "PORT abc\n",
    "blanks around": "  \t port   abc \t \r\n",
    "carriage returns": "port 0\r\ntimeout x\r\n",
    "not utf-8": "port \udcff\n",
    "save": "save 900\n",
    "save text": "save a b\n",
    "bind": "bind" + " 127.0.0.1" * 17 + "\n",
    "replicaof": "replicaof localhost\n",
    "replicaof port": "replicaof localhost 70000\n",
    "slaveof": "slaveof 127.0.0.1 abc\n",
    "replica in cluster": "cluster-enabled yes\nreplicaof 127.0.0.1 6379\n",
    "logfile": "logfile /no/such/directory/log\n",
    "logfile is a directory": "logfile /tmp\n",
    "dir": "dir /no/such/directory\n",
    "two dirs": "dir /tmp /var\n",
    "include": "include\n",
    "include two": "include a b\n",
    "rename": "rename-command GET\n",
    "user": "user\n",
    "user twice": "user alice on\nuser alice off\n",
    "user rule": "user alice on >secret junk\n",
    "user rule, first": "user alice junk\n",
    "user hash": "user alice on #abc\n",
    "user keys": "user alice ~* ~a\n",
    "user channels": "acl-pubsub-default allchannels\nuser alice &a\n",
    "user selector": "user alice on (+get junk) off\n",
    "user parenthesis": "user alice on (+get\n",
    "user first argument": "user alice +config|get|x\n",
    "user unknown command": f"user alice +nosuch\n{END}\n",
    "loadmodule": "loadmodule\n",
    "module setting": "module.setting\n",
    "module setting with value": f"module.setting 1 2\n{END}\n",
    "sentinel": "sentinel monitor mymaster 127.0.0.1 6379 2\n",
    "sentinel alone": f"sentinel\n{END}\n",
    "retired": f"list-max-ziplist-entries 5\nlua-replicate-commands yes\nlist-max-ziplist-value 1 2\n{END}\n",
    "no shutdown words": "shutdown-on-sigterm\n",
    "shutdown words": "shutdown-on-sigterm save nosave\n",
    "quoted words": f'shutdown-on-sigterm "nosave now"\n{END}\n',
    "unbalanced in quotes": f'shutdown-on-sigterm "\'nosave"\n{END}\n',
    "oom": "oom-score-adj-values 1 2\n",
    "limits": "client-output-buffer-limit normal 0 0\n",
    "percentiles": "latency-tracking-info-percentiles 50 x\n",
    "defrag": "activedefrag yes\n",
    "appenddirname": 'appenddirname ""\n',
    "appendfilename": "appendfilename a/b\n",
    "hostname": "cluster-announce-hostname a_b\n",
    "title": 'proc-title-template "{nope}"\n',
    "vertical tab": "port\v0\n",
    "nul": "port 0\0ignored\ntimeout x\n",
    "nul in quotes": 'port "0\\x00"\n',
    "empty": END,
    "last line without end": "port 0\ntimeout x",
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_refused_files_are_reported_alike(in_directory: Path, text: str) -> None:
    path = in_directory / "redis.conf"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    theirs = their_stderr(str(path))

    assert theirs[0] == 1
    assert our_stderr(str(path)) == theirs


def test_random_lines_are_reported_alike(in_directory: Path) -> None:
    """Lines put together at random from names, values and quotes; what one server takes, the other takes."""
    generator = random.Random(2)
    names = [*(name.decode() for name in BY_NAME), "Bind", "no-such", "a.b", "sentinel", '"hz"', "#port"]
    harmless = [name for name in names if name not in ("dir", "logfile", "aclfile")]
    values = [value for value in VALUES if len(value) < 200 and "\n" not in value]
    path = in_directory / "redis.conf"
    for _ in range(250):
        name = generator.choice(harmless)
        words = [generator.choice(values) for _ in range(generator.choice((0, 1, 1, 1, 1, 2, 3)))]
        quotes = [generator.choice(("", "", '"', "'")) for _ in words]
        line = " ".join([name, *(f"{mark}{word}{mark}" for mark, word in zip(quotes, words, strict=True))])
        path.write_text(f"{line}\n{END}\n")

        assert our_stderr(str(path)) == their_stderr(str(path)), line


# --- Command lines ----------------------------------------------------------------------------------------------------

COMMAND_LINES = [
    ["--port"],
    ["--port", "6380", "--loglevel"],
    ["--port", "6379", "6380"],
    ["--port", "--loglevel", "verbose"],
    ["--port", "--bla", "--loglevel", "verbose"],
    ["--logfile", "--my--log--file", "--loglevel", "--bla"],
    ["--shutdown-on-sigint"],
    ["--shutdown-on-sigint", "now force", "--shutdown-on-sigterm"],
    ["--replicaof", "127.0.0.1", "abc"],
    ["--replicaof", "--127.0.0.1", "abc"],
    ["--replicaof", "--127.0.0.1", "--abc"],
    ["--no-such-directive", "1"],
    ["--port 0", "--timeout x"],
    ["--port 0 1"],
    ["--timeout", "a b", "c"],
    ["--timeout", 'a"b\\c\t\x01é'],
    ["--requirepass 'abc", "--timeout", "x"],
    ["--", "x"],
    ["--save", "--timeout", "x"],
    ["--save", "900", "1", "--timeout", "x"],
    ["--save", "", "--timeout", "x"],
    ["--timeout", "x", "--save"],
    ["--sentinel", "--timeout", "x"],
    ["--timeout", "x", "--sentinel"],
    ["--SAVE", "--timeout", "x"],
    ["-x"],
    ["-x", "--timeout", "x"],
    ["--timeout", "-", "x"],
    ["-", "--timeout", "x"],
    ["--timeout", "x", "-"],
    ["", "--timeout", "x"],
    ["/", "--timeout", "x"],
]


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_command_lines_are_read_alike(in_directory: Path, words: list[str]) -> None:
    theirs = their_stderr(*words)

    assert theirs[0] == 1
    assert our_stderr(*words) == theirs


def test_command_line_after_a_file(in_directory: Path) -> None:
    path = in_directory / "redis.conf"
    path.write_text("port 0\ndir /tmp")
    for words in (["port", "x"], ["--timeout", "x"], ["--timeout", "1", "--timeout", "x", "-"]):
        theirs = their_stderr("redis.conf", *words)

        assert theirs[0] == 1
        assert our_stderr("redis.conf", *words) == theirs


def test_a_missing_file_is_only_logged(in_directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    theirs = subprocess.run(["redis-server", "no.conf"], capture_output=True, text=True, check=False, timeout=60)

    assert our_stderr("no.conf") == (theirs.returncode, "\n")
    assert theirs.stderr == ""
    ours_logged = capfd.readouterr().out
    assert ours_logged.split(" # ")[1] == theirs.stdout.split(" # ")[1]


def test_included_files(in_directory: Path) -> None:
    """Order, relative names after ``dir``, patterns, and what an include does to the save lines that follow it."""
    sub = in_directory / "sub"
    sub.mkdir()
    (sub / "b.conf").write_text("timeout 2\nsave 1 1")
    (sub / "a.conf").write_text("timeout 1\nrequirepass 'se\\'cret'\n")
    (sub / "last.conf").write_text('hz 0\nbind-source-addr "\\x41\\t\\"\\q"\n')
    main = f"include nothing-*.conf\ndir {sub}\ninclude ?.conf\nsave 2 2\nsave 3 3\ninclude last.conf\nsave 4 4\n"
    (in_directory / "main.conf").write_text(main)
    names = ("timeout", "save", "requirepass", "hz", "bind-source-addr", "dir")
    with bare_server(in_directory, "main.conf") as connection:
        connection.call("AUTH", "se'cret")
        theirs = pairs(connection.call("CONFIG", "GET", *names))
    os.chdir(in_directory)

    config = quiet_config()
    config.read("main.conf")

    assert dict(config.get([name.encode() for name in names])) == theirs


# --- CONFIG REWRITE ---------------------------------------------------------------------------------------------------

OLD_FILE = """\
# A comment at the top


   # and one further in
port {port}
bind 127.0.0.1 -::1
slave-priority 50
lua-time-limit 777
save 900 1
save 300 10
save 60 10000
enable-protected-configs yes
timeout 3
timeout 4
TIMEOUT 5
client-output-buffer-limit replica 1mb 1mb 1
rename-command FLUSHALL ""
list-max-ziplist-entries 5
requirepass   "with blank"

maxmemory 100mb
hz 10
"""

CHANGES = {
    "maxmemory-policy": "allkeys-lru",
    "maxmemory": "1234567",
    "maxmemory-clients": "20%",
    "save": "900 1 10 5",
    "requirepass": "",
    "masterauth": 'a"b\x01',
    "replica-priority": "100",
    "timeout": "0",
    "notify-keyspace-events": "KEA",
    "shutdown-on-sigterm": "nosave now",
    "latency-tracking-info-percentiles": "",
    "oom-score-adj-values": "0 0 1",
    "cluster-announce-hostname": "here",
    "client-output-buffer-limit": "pubsub 1mb 512kb 60",
    "proto-max-bulk-len": "1gb",
}


@pytest.mark.parametrize("times", [1, 2])
def test_rewritten_files_are_the_same(in_directory: Path, times: int) -> None:
    """Every line at its place; lines that are appended may come in another order, as they do in Redis by chance."""
    for who in ("theirs", "ours"):
        (in_directory / f"{who}.conf").write_text(OLD_FILE.format(port=0))
    with bare_server(in_directory, "theirs.conf") as connection:
        connection.call("AUTH", "with blank")
        port = pairs(connection.call("CONFIG", "GET", "port"))[b"port"]
        for name, value in CHANGES.items():
            connection.call("CONFIG", "SET", name, value)
        for _ in range(times):
            connection.call("CONFIG", "REWRITE")

    config = quiet_config()
    config.read("ours.conf", overrides=b"port %b\nbind 127.0.0.1" % port)
    for name, value in CHANGES.items():
        config.set([(name.encode(), value.encode())])
    for _ in range(times):
        config.rewrite()

    theirs_kept, theirs_added = split_file(in_directory / "theirs.conf")
    ours_kept, ours_added = split_file(in_directory / "ours.conf")
    assert ours_kept == theirs_kept
    # The users are the business of the ACL, which adds its own lines.
    assert sorted(ours_added) == sorted(line for line in theirs_added if not line.startswith("user "))


def split_file(path: Path) -> tuple[list[str], list[str]]:
    """The lines up to CONFIG REWRITE's signature, and those after it."""
    kept, _, added = path.read_text().partition("# Generated by CONFIG REWRITE\n")
    return kept.split("\n"), [line for line in added.split("\n") if line]


def test_redis_starts_on_the_file_we_rewrite(in_directory: Path) -> None:
    """Everything forced into the file: redis-server reads it back to the same values."""
    (in_directory / "ours.conf").write_text("# mine\n")
    config = quiet_config()
    config.read("ours.conf")
    for name, value in CHANGES.items():
        config.set([(name.encode(), value.encode())])
    config.rewrite(force_all=True)

    with bare_server(in_directory, "ours.conf") as connection:
        theirs = pairs(connection.call("CONFIG", "GET", "*"))

    ours = dict(config.get([b"*"]))
    del theirs[b"port"], ours[b"port"], theirs[b"bind"], ours[b"bind"]  # Given on the command line.
    assert ours == theirs
