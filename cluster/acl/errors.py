"""Why a rule is refused. Texts: ACLSetUserStringError in acl.c."""

from __future__ import annotations

from cluster.errors import HashslotError


class RuleError(HashslotError):
    """A rule that makes no sense; the text is the reason as Redis words it."""


class UnknownCommandError(RuleError):
    """A rule names a command or category that does not exist. Config files may: the users are made only later."""

    def __init__(self) -> None:
        super().__init__("Unknown command or category name in ACL")


class DefinitionError(HashslotError):
    """A whole definition is refused; the text, which may quote bytes of the definition, is in ``message``."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.message = message


SYNTAX = "Syntax error"
KEYS_AFTER_ALL = (
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. "
    "Try 'resetkeys' to start with an empty list of patterns"
)
CHANNELS_AFTER_ALL = (
    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. "
    "Try 'resetchannels' to start with an empty list of channels"
)
NO_SUCH_PASSWORD = "The password you are trying to remove from the user does not exist"
BAD_HASH = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
ARGUMENT_OF_SUBCOMMAND = "Allowing first-arg of a subcommand is not supported"
