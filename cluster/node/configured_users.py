"""``user`` lines of the configuration, looked at while it is read (ACLAppendUserForLoading in acl.c).

The users are made when the server is there; here their rules are only tried, on nobody. Unknown commands pass until
then. Imported when the first such line is met.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from cluster.acl.catalog import Catalog
from cluster.acl.errors import DefinitionError, RuleError, UnknownCommandError
from cluster.acl.users import User, merge_selectors
from cluster.commands.registry import read_records
from cluster.errors import ConfigError
from cluster.settings import Settings


def check_user_line(settings: Settings, arguments: Sequence[bytes]) -> None:
    """Try the rules of ``user <arguments>``. Raises ConfigError with the reason.

    Redis names the word that stands two places before the one it means (as if the line had neither ``user`` nor a
    name), and gives a parenthesis that stays open the reason of unknown commands; people search for those texts.
    """
    name, *words = arguments
    line = [b"user", *arguments]
    all_channels = settings.acl_pubsub_default == "allchannels"
    user = User.create(name, Catalog(read_records), all_channels=all_channels)
    try:
        rules = merge_selectors(words)
    except DefinitionError:
        opened = max(index for index, word in enumerate(words) if word.startswith(b"(") and not word.endswith(b")"))
        raise _refused(line[opened], str(UnknownCommandError())) from None
    for index, rule in enumerate(rules):
        try:
            user.apply(rule, all_channels_by_default=all_channels)
        except UnknownCommandError:
            continue
        except RuleError as refusal:
            raise _refused(line[index], str(refusal)) from None


def _refused(word: bytes, reason: str) -> ConfigError:
    return ConfigError(f"Error in user declaration '{os.fsdecode(word)}': {reason}")
