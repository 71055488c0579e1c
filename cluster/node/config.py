"""The live configuration: loading it, CONFIG GET, CONFIG SET and CONFIG REWRITE.

Role        The only writer of Settings. Loading raises ConfigError with the very text that goes to standard error;
            CONFIG SET and REWRITE raise CommandError with the reply. Nothing else escapes, whatever the input.
Invariants  CONFIG SET is all or nothing: every new value is checked and set, then the listeners are told; if a value or
            a listener refuses, the old values are put back and the listeners already told are told again.
Source      ``loadServerConfig*``, ``configSetCommand``, ``configGetCommand``, ``rewriteConfig`` in config.c.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from cluster.errors import LOADING, CommandError, ConfigError
from cluster.node import config_file
from cluster.node.command_line import LaunchOptions, absolute_path
from cluster.node.config_file import ConfigLine, decode, encode
from cluster.node.config_rewrite import ConfText, replace_file
from cluster.node.directive_kinds import RewriteLine, c_text
from cluster.node.directives import BY_NAME, RETIRED, TABLE, Directive, Flag
from cluster.node.logging import Log
from cluster.node.name_pattern import is_pattern, matches
from cluster.resp.parser import split_inline
from cluster.settings import SavePoint, Settings

SENTINEL_PORT: Final = 26379
INCLUDE_DEPTH_MAX: Final = 32
BAD_DIRECTIVE: Final = "Bad directive or wrong number of arguments"
WRONG_NUMBER: Final = "wrong number of arguments"

Listener = Callable[[], None]
"""Told after a directive has changed. May refuse by raising ConfigError, and must then leave everything as it was."""


class Config:
    """The configuration of one process."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        *,
        sentinel_mode: bool = False,
        command_names: Iterable[bytes] | None = None,
    ) -> None:
        """``command_names`` (lower case) lets rename-command be checked."""
        self.settings = settings
        self.log = log
        self.sentinel_mode = sentinel_mode
        self.path: str | None = None
        """The file that CONFIG REWRITE writes; absolute. None: started without one."""
        self.sentinel_lines: list[ConfigLine] = []
        """``sentinel ...`` directives in the order of the file, for Sentinel to read once it is there."""
        self.module_settings: dict[str, str] = {}
        """``module.name value`` directives: settings of modules, which this server does not load."""
        self.rewriters: list[Callable[[ConfText], None]] = []
        """Called by CONFIG REWRITE for what is not in Settings: the users of the ACL, Sentinel's state."""
        self._listeners: dict[str, list[Listener]] = {}
        self._defaults = Settings()
        self._known_commands = command_names
        self._command_names: set[bytes] | None = None
        self._save_seen = False
        self._in_file = False
        self._include_depth = 0
        settings.dir = _working_directory()
        if sentinel_mode:
            settings.port = SENTINEL_PORT
            settings.protected_mode = False

    # --- Loading ------------------------------------------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        options: LaunchOptions,
        *,
        command_names: Iterable[bytes] | None = None,
    ) -> Config:
        """The configuration a process was started with. Raises ConfigError, see :meth:`read`."""
        settings = Settings()
        config = cls(
            settings,
            Log(settings),
            sentinel_mode=options.sentinel_mode,
            command_names=command_names,
        )
        config.read(options.config_path, from_stdin=options.from_stdin, overrides=options.overrides)
        return config

    def read(self, path: str | None = None, *, from_stdin: bool = False, overrides: bytes = b"") -> None:
        """Read the file, then standard input, then the command line's lines: the last word on a directive counts.

        Raises ConfigError with what is to be printed on standard error, or with "" when the log says it already.
        """
        if path is not None:
            self.path = absolute_path(path)
        self._read_text(self._file_text(self.path) if self.path else b"", from_stdin, overrides)

    def _read_text(self, text: bytes, from_stdin: bool = False, overrides: bytes = b"") -> None:
        if from_stdin:
            self.log.warning("Reading config from stdin")
            text += config_file.read_standard_input()
        if overrides:
            text += b"\n" + overrides
        self._in_file = True
        for line in config_file.directives(text):
            if line.arguments[0] == b"include" and len(line.arguments) == 2:
                self._include(line)
                continue
            try:
                self._apply(line)
            except ConfigError as refusal:
                raise config_file.fatal(str(refusal), line) from None
        self._check_whole()
        # Said of the whole reading also by an included file: `save` lines after an `include` replace one another
        # instead of adding up. That is what Redis 7.0 does.
        self._in_file = False

    def _include(self, line: ConfigLine) -> None:
        if self._include_depth == INCLUDE_DEPTH_MAX:
            # Redis would recurse until it crashes.
            raise config_file.fatal(f"include is nested more than {INCLUDE_DEPTH_MAX} deep", line)
        self._include_depth += 1
        self._read_text(self._file_text(decode(c_text(line.arguments[1]))))
        self._include_depth -= 1

    def _file_text(self, name: str) -> bytes:
        """The text of a file, or of all files that match a pattern."""
        texts = []
        for path in config_file.expand(name):
            try:
                texts.append(config_file.read(path))
            except OSError as error:
                self.log.warning(f"Fatal error, can't open config file '{path}': {error.strerror}")
                raise ConfigError("") from None
        return b"".join(texts)

    def _apply(self, line: ConfigLine) -> None:
        name, *arguments = line.arguments
        row = BY_NAME.get(name)
        if row is not None:
            if not row.kind.takes_many and len(arguments) != 1:
                raise ConfigError(WRONG_NUMBER)
            if row.kind.takes_many and len(arguments) == 1 and arguments[0]:
                arguments = split_inline(c_text(arguments[0])) or []
            self._assign(row, arguments)
        elif name in RETIRED and len(arguments) == 1:
            pass
        elif name in _FILE_DIRECTIVES and len(arguments) in _FILE_DIRECTIVES[name][0]:
            _FILE_DIRECTIVES[name][1](self, arguments)
        elif b"." in name:
            if not arguments:
                raise ConfigError("Module config specified without value")
            self.module_settings[decode(name)] = decode(b" ".join(arguments))
        elif name == b"sentinel":
            self._queue_sentinel_line(line)
        else:
            raise ConfigError(BAD_DIRECTIVE)

    def _rename_command(self, arguments: list[bytes]) -> None:
        old, new = arguments[0].lower(), arguments[1].lower()
        if self._command_names is None and self._known_commands is not None:
            self._command_names = set(self._known_commands)  # Only now: few files rename, and the names cost a moment.
        if self._command_names is not None:
            if old not in self._command_names:
                raise ConfigError("No such command in rename-command")
            self._command_names.remove(old)
            if new in self._command_names:
                raise ConfigError("Target command name already exists")
            if new:
                self._command_names.add(new)
        self.settings.rename_command = [*self.settings.rename_command, (old, new)]

    def _add_user(self, arguments: list[bytes]) -> None:
        name = arguments[0]
        if any(name == known[0] for known in self.settings.user):
            raise ConfigError(
                f"Error in user declaration '{decode(name)}': "
                "Duplicate user found. A user can only be defined once in config files"
            )
        # Imported only now: few files define users, and what rules may name costs a moment.
        from cluster.node.configured_users import check_user_line

        check_user_line(self.settings, arguments)
        self.settings.user = [*self.settings.user, arguments]

    def _queue_module(self, arguments: list[bytes]) -> None:
        self.settings.loadmodule = [*self.settings.loadmodule, arguments]

    def _queue_sentinel_line(self, line: ConfigLine) -> None:
        if len(line.arguments) == 1:
            return  # What --sentinel leaves behind.
        if not self.sentinel_mode:
            raise ConfigError("sentinel directive while not in sentinel mode")
        self.sentinel_lines.append(line)

    def _check_whole(self) -> None:
        """What can only be judged once all is read."""
        settings = self.settings
        if settings.logfile:
            try:
                os.close(
                    os.open(encode(settings.logfile), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
                )
            except OSError as error:
                raise config_file.fatal(f"Can't open the log file: {error.strerror}") from None
        if settings.cluster_enabled and settings.replicaof:
            raise config_file.fatal("replicaof directive not allowed in cluster mode")

    # --- One value ----------------------------------------------------------------------------------------------------

    def _assign(self, row: Directive, arguments: Sequence[bytes]) -> None:
        """Parse and set. Raises ConfigError with the reason, and has then changed nothing."""
        value = row.kind.parse(arguments, self.settings, getattr(self.settings, row.attribute))
        if row.name == "save":
            value = self._save_points(arguments, value)
        elif row.name == "dir":
            value = _enter_directory(value)
        setattr(self.settings, row.attribute, value)

    def _save_points(self, arguments: Sequence[bytes], points: list[SavePoint]) -> list[SavePoint]:
        """In a file, save lines add up, but the first replaces the default and ``save ""`` all that came before."""
        adds_up = self._in_file and self._save_seen and not (len(arguments) == 1 and not c_text(arguments[0]))
        self._save_seen = self._save_seen or self._in_file
        return [*self.settings.save, *points] if adds_up else points

    def _put_back(self, values: dict[Directive, Any]) -> None:
        for row, value in values.items():
            if row.name == "dir":
                try:
                    _enter_directory(value)
                except ConfigError as refusal:
                    self.log.warning(
                        f"Failed restoring failed CONFIG SET command. Error setting dir to '{value}': {refusal}"
                    )
                    continue
            setattr(self.settings, row.attribute, value)

    # --- CONFIG GET ---------------------------------------------------------------------------------------------------

    def get(self, patterns: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Names and values of the directives that match one of the patterns, old names included, each once."""
        found: dict[bytes, tuple[bytes, Directive]] = {}
        for pattern in patterns:
            if not is_pattern(pattern):
                row = BY_NAME.get(pattern.lower())
                if row is not None:
                    # Answered in the spelling of the question.
                    found.setdefault(pattern.lower(), (pattern, row))
                continue
            for name, row in BY_NAME.items():
                if not row.flags & Flag.HIDDEN and name not in found and matches(pattern, name):
                    found[name] = name, row
        return [(name, row.kind.show(getattr(self.settings, row.attribute))) for name, row in found.values()]

    # --- CONFIG SET ---------------------------------------------------------------------------------------------------

    def on_change(self, name: str, listener: Listener) -> None:
        """Have ``listener`` called when CONFIG SET has changed the directive (by its modern name).

        One that is registered for several directives is called once per CONFIG SET.
        """
        row = BY_NAME[name.encode()]
        assert row.name == name, f"{name} is the old name of {row.name}"
        self._listeners.setdefault(name, []).append(listener)

    def is_sensitive(self, name: bytes) -> bool:
        """Whether the directive's value must not appear in MONITOR, SLOWLOG and the log."""
        row = BY_NAME.get(name.lower())
        return row is not None and bool(row.flags & Flag.SENSITIVE)

    def set(self, pairs: Sequence[tuple[bytes, bytes]], *, is_local_client: bool = True, loading: bool = False) -> None:
        """Change directives, all or none. Raises CommandError with the reply."""
        rows = self._settable(pairs, is_local_client, loading)
        before = {row: getattr(self.settings, row.attribute) for row in rows}
        changed: list[tuple[bytes, Directive]] = []
        for (name, value), row in zip(pairs, rows, strict=True):
            old = getattr(self.settings, row.attribute)
            try:
                self._assign(row, _split_value(value) if row.kind.takes_many else [value])
            except ConfigError as refusal:
                self._put_back(before)
                raise _refused(name.lower(), str(refusal)) from None
            if row.flags & Flag.VOLATILE or getattr(self.settings, row.attribute) != old:
                changed.append((name.lower(), row))
        self._tell(changed, before)

    def _settable(self, pairs: Sequence[tuple[bytes, bytes]], is_local_client: bool, loading: bool) -> list[Directive]:
        """The rows of the pairs, in order; raises CommandError for the first that may not be set."""
        permission = self.settings.enable_protected_configs
        may_set_protected = permission == "yes" or (permission == "local" and is_local_client)
        rows = []
        seen = set()
        for name, _ in pairs:
            row = BY_NAME.get(name.lower())
            if row is None:
                text = b"ERR Unknown option or number of arguments for CONFIG SET - '%b'" % name.partition(b"\0")[0]
                raise CommandError(_one_line(text))
            if row.flags & Flag.IMMUTABLE:
                raise _refused(name, "can't set immutable config")
            if row.flags & Flag.PROTECTED and not may_set_protected:
                raise _refused(name, "can't set protected config")
            if loading and row.flags & Flag.DENY_LOADING:
                raise CommandError(LOADING)
            if name.lower() in seen:
                raise _refused(name, "duplicate parameter")
            seen.add(name.lower())
            rows.append(row)
        return rows

    def _tell(self, changed: Sequence[tuple[bytes, Directive]], before: dict[Directive, Any]) -> None:
        """Call the listeners of what changed; undo everything if one refuses."""
        told: list[Listener] = []
        for name, row in changed:
            for listener in self._listeners.get(row.name, ()):
                if listener in told:
                    continue
                try:
                    listener()
                except ConfigError as refusal:
                    self.log.warning(
                        "Failed applying new configuration. Possibly related to new "
                        f"{decode(name)} setting. Restoring previous settings."
                    )
                    self._put_back(before)
                    self._tell_again(told)
                    raise _refused(name, str(refusal)) from None
                told.append(listener)

    def _tell_again(self, listeners: Sequence[Listener]) -> None:
        for listener in listeners:
            try:
                listener()
            except ConfigError as refusal:
                self.log.warning(f"Failed applying restored failed CONFIG SET command: {refusal}")

    # --- CONFIG REWRITE -----------------------------------------------------------------------------------------------

    def rewrite(self, *, force_all: bool = False) -> None:
        """Write what is in force into the file the server was started with. Raises CommandError with the reply.

        ``force_all`` writes every directive, also at its default (DEBUG CONFIG-REWRITE-FORCE-ALL).
        """
        if self.path is None:
            raise CommandError(b"ERR The server is running without a config file")
        try:
            replace_file(self.path, self._rewritten(force_all))
        except OSError as error:
            reason = error.strerror or str(error)
            self.log.warning(f"CONFIG REWRITE failed: {reason}")
            raise CommandError(b"ERR Rewriting config file: %b" % encode(reason)) from None
        self.log.warning("CONFIG REWRITE executed with success.")

    def _rewritten(self, force_all: bool) -> bytes:
        try:
            text = config_file.read(self.path or "")
        except FileNotFoundError:
            text = b""
        conf = ConfText.parse(text, sentinel_mode=self.sentinel_mode, force_all=force_all)
        for row in TABLE:
            option = row.name.encode()
            conf.mark(option)
            for line, force in self._lines(row):
                conf.put(option, line, force=force)
        if self.settings.aclfile:
            conf.mark(b"user")  # The users live in that file.
        for rewriter in self.rewriters:
            rewriter(conf)
        return conf.render()

    def _lines(self, row: Directive) -> list[RewriteLine]:
        if row.name == "save" and self.sentinel_mode:
            return []
        if row.name == "replicaof" and self.settings.cluster_enabled:
            return []  # In a cluster, nodes.conf says who follows whom.
        value, default = getattr(self.settings, row.attribute), getattr(self._defaults, row.attribute)
        return row.kind.rewrite(row.name.encode(), value, default)


_FILE_DIRECTIVES: Final[dict[bytes, tuple[range, Callable[[Config, list[bytes]], None]]]] = {
    b"rename-command": (range(2, 3), Config._rename_command),
    b"user": (range(1, 1 << 31), Config._add_user),
    b"loadmodule": (range(1, 1 << 31), Config._queue_module),
}
"""Directives of files alone: how many arguments they take, and who takes them."""


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _enter_directory(path: str) -> str:
    """Make ``path`` the working directory; returns its absolute name."""
    try:
        os.chdir(encode(path))
    except OSError as error:
        raise ConfigError(error.strerror) from None
    return _working_directory()


def _split_value(value: bytes) -> list[bytes]:
    """CONFIG SET's single value as several arguments: cut at every blank, unlike a line of a file."""
    return value.split(b" ") if value else []


def _refused(name: bytes, reason: str) -> CommandError:
    text = b"ERR CONFIG SET failed (possibly related to argument '%b')" % name
    return CommandError(_one_line(text + b" - " + encode(reason) if reason else text))


def _one_line(text: bytes) -> bytes:
    """A reply's text may not hold line ends; the name in it came from the client."""
    return text.replace(b"\r", b" ").replace(b"\n", b" ")
