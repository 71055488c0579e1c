"""The users' file (aclfile): its text as users, and users as its text. Nothing here opens a file.

A line is ``user <name> <rules…>`` or empty; comments are errors, because ACL SAVE would lose them. All problems of a
file are told at once, and one is enough for the whole file to be refused (ACLLoadFromFile in acl.c).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cluster.acl.access import AccessControl
from cluster.acl.describe import describe_user
from cluster.acl.errors import DefinitionError, RuleError, UnknownCommandError
from cluster.acl.selectors import c_string, has_blanks
from cluster.acl.users import User, merge_selectors

_REFUSED: Final = b"WARNING: ACL errors detected, no change to the previously active ACL rules was performed"


def users_text(users: Iterable[User]) -> bytes:
    """What ACL SAVE writes."""
    return b"".join(user_line(user) + b"\n" for user in users)


def user_line(user: User) -> bytes:
    """A user as a line of the file, of redis.conf and of ACL LIST."""
    return b"user %b %b" % (user.name, describe_user(user))


def parse_users(acl: AccessControl, text: bytes, path: bytes) -> list[User]:
    """The users of a file. Raises DefinitionError with all that is wrong, in one line."""
    users: dict[bytes, User] = {}
    problems: list[bytes] = []
    for number, raw in enumerate(text.split(b"\n"), start=1):
        line = c_string(raw).strip(b" \t\r")
        if not line:
            continue
        word, *rest = line.split(b" ")
        where = b"%b:%d" % (path, number)
        if word != b"user" or not rest:
            problems.append(where + b" should start with user keyword followed by the username. ")
            continue
        name, *words = rest
        if has_blanks(name):
            problems.append(b"'%b: username '%b' contains invalid characters. " % (where, name))
        elif name in users:
            problems.append(b"WARNING: Duplicate user '%b' found on line %d. " % (name, number))
        else:
            users[name] = acl.new_user(name)
            problems += _apply_rules(acl, users[name], words, where)
    if problems:
        raise DefinitionError(b"".join(problems) + _REFUSED)
    return list(users.values())


def _apply_rules(acl: AccessControl, user: User, words: list[bytes], where: bytes) -> list[bytes]:
    """What is wrong with the rules of a line: every unknown command, and the first of all other mistakes.

    A rule that is no command is not quoted, as it may be a password.
    """
    try:
        rules = merge_selectors(words)
    except DefinitionError:
        return [where + b": Unmatched parenthesis in selector definition."]
    problems = []
    has_other_mistake = False
    for rule in rules:
        rule = rule.strip(b"\t\r")
        try:
            acl.apply(user, rule)
        except UnknownCommandError as refusal:
            problems.append(b"%b: Error in applying operation '%b': %b. " % (where, rule, str(refusal).encode()))
        except RuleError as refusal:
            if not has_other_mistake:
                problems.append(b"%b: %b. " % (where, str(refusal).encode()))
                has_other_mistake = True
    return problems
