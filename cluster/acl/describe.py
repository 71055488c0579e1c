"""Rules written down again, as ACL LIST, ACL GETUSER, ACL SAVE and CONFIG REWRITE show them.

The canonical form begins with +@all or -@all, goes on with the categories that fit best, one by one, and ends with the
single commands that are then still wrong (ACLDescribeSelectorCommandRules in acl.c). Where Redis lists single commands
in the order of a hash table, which differs from process to process, this is the order of the command table.
"""

from __future__ import annotations

from cluster.acl.catalog import ALL_COMMANDS, FUTURE, NO_COMMANDS, Catalog, CatalogCommand, Category
from cluster.acl.selectors import READ, READ_AND_WRITE, WRITE, Selector
from cluster.acl.users import User

_PREFIXES = {READ_AND_WRITE: b"~", READ: b"%R~", WRITE: b"%W~"}


def describe_user(user: User) -> bytes:
    """Everything about a user in one line, without the name; kept until the rules change."""
    if user.description is None:
        words = [*user_flags(user), *(b"#" + password for password in user.passwords)]
        words.append(_describe_selector(user.root))
        words += [b"(" + _describe_selector(selector) + b")" for selector in user.selectors[1:]]
        user.description = b" ".join(words)
    return user.description


def user_flags(user: User) -> list[bytes]:
    """The words about the user as a whole."""
    flags = [b"on" if user.enabled else b"off"]
    if user.nopass:
        flags.append(b"nopass")
    if user.sanitizes_payload is not None:
        flags.append(b"sanitize-payload" if user.sanitizes_payload else b"skip-sanitize-payload")
    return flags


def describe_keys(selector: Selector) -> bytes:
    """The key patterns, blanks between them; empty for none."""
    if selector.all_keys:
        return b"~*"
    return b" ".join(_PREFIXES[permission] + pattern for pattern, permission in selector.key_patterns.items())


def describe_channels(selector: Selector) -> bytes:
    """The channel patterns, blanks between them; empty for none."""
    if selector.all_channels:
        return b"&*"
    return b" ".join(b"&" + pattern for pattern in selector.channel_patterns)


def _describe_selector(selector: Selector) -> bytes:
    words = [describe_keys(selector)]
    if not selector.all_channels:
        words.append(b"resetchannels")
    words += [describe_channels(selector), describe_commands(selector)]
    return b" ".join(word for word in words if word)


def describe_commands(selector: Selector) -> bytes:
    """The rules that lead from nothing to the selector's commands."""
    wanted = selector.commands
    is_additive = not wanted & FUTURE
    reached = NO_COMMANDS if is_additive else ALL_COMMANDS
    words = [b"-@all" if is_additive else b"+@all"]
    if wanted != reached or selector.first_arguments:
        sign = b"+@" if is_additive else b"-@"
        for category in _fitting_categories(selector.catalog, wanted, is_additive=is_additive):
            words.append(sign + category.name)
            reached = reached | category.reach if is_additive else reached & ~category.reach
        words += _single_commands(selector, reached)
    return b" ".join(words)


def _fitting_categories(catalog: Catalog, wanted: int, *, is_additive: bool) -> list[Category]:
    """Categories of which most is wanted, the best first; what one has covered does not count for the next."""
    chosen: list[Category] = []
    left = wanted
    candidates = list(catalog.categories.values())
    while True:
        best: Category | None = None
        best_rank = (0, 0)
        for category in candidates:
            on = (left & category.members).bit_count()
            off = category.members.bit_count() - on
            wrong, right = (off, on) if is_additive else (on, off)
            # Fewest exceptions first, then most hits; of equals the first in the list.
            if right > wrong and (best is None or (wrong, -right) < best_rank):
                best, best_rank = category, (wrong, -right)
        if best is None:
            return chosen
        chosen.append(best)
        candidates.remove(best)
        left = left & ~best.reach if is_additive else left | best.reach


def _single_commands(selector: Selector, reached: int) -> list[bytes]:
    """Rules for what categories got wrong, and the first arguments of commands that stay forbidden."""
    words: list[bytes] = []

    def correct(command: CatalogCommand) -> None:
        nonlocal reached
        is_allowed = bool(selector.commands & command.bit)
        if is_allowed != bool(reached & command.bit):
            words.append((b"+" if is_allowed else b"-") + command.name)
            reached = reached | command.reach if is_allowed else reached & ~command.reach
        for subcommand in command.subcommands:
            correct(subcommand)
        if not is_allowed:
            words.extend(
                b"+" + command.name + b"|" + argument for argument in selector.first_arguments.get(command.bit, ())
            )

    for command in selector.catalog.commands:
        correct(command)
    return words
