"""Rules as words, and what is written down of them (Redis 7.0.15: ACLSetUser, ACLDescribeUser in acl.c)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.acl import errors
from cluster.acl.catalog import ALL_COMMANDS, CATEGORIES, Catalog
from cluster.acl.describe import describe_user
from cluster.acl.errors import DefinitionError, RuleError, UnknownCommandError
from cluster.acl.selectors import READ_AND_WRITE
from cluster.acl.users import User, hash_password, merge_selectors
from cluster.commands.registry import read_records
from tests.support.differential.acl import user_rules

CATALOG = Catalog(read_records)


def user_of(text: str, *, channels: str = "resetchannels") -> User:
    user = User.create(b"someone", CATALOG, all_channels=channels == "allchannels")
    for rule in merge_selectors(text.encode().split()):
        user.apply(rule, all_channels_by_default=channels == "allchannels")
    return user


def described(text: str) -> str:
    return describe_user(user_of(text)).decode()


@pytest.mark.parametrize(
    ("rules", "description"),
    [
        ("", "off resetchannels -@all"),
        ("on nopass ~* &* +@all", "on nopass ~* &* +@all"),
        ("ON NoPass AllKeys AllChannels AllCommands", "on nopass ~* &* +@all"),
        ("reset", "off sanitize-payload resetchannels -@all"),
        ("sanitize-payload skip-sanitize-payload", "off skip-sanitize-payload resetchannels -@all"),
        ("~* resetkeys ~a ~b ~a", "off ~a ~b resetchannels -@all"),
        ("%R~a %w~b %RW~c %R~b", "off %R~a ~b ~c resetchannels -@all"),
        ("&a &b &a", "off resetchannels &a &b -@all"),
        ("+GET", "off resetchannels -@all +get"),
        ("+config|get", "off resetchannels -@all +config|get"),
        ("+config -config|get", "off resetchannels -@all +config -config|get"),
        ("+config|get +config", "off resetchannels -@all +config"),
        ("+@all -config|get", "off resetchannels +@all -config|get"),
        ("+@all -get +get", "off resetchannels +@all"),
        ("+@hash +@set", "off resetchannels -@all +@set +@hash"),
        ("+@all -@dangerous", "off resetchannels +@all -@dangerous"),
        ("+select|0 +SELECT|1 +select|0", "off resetchannels -@all +select|0 +select|1"),
        ("+debug|Segfault +debug|segfault", "off resetchannels -@all +debug|Segfault"),
        ("+select|0 +select", "off resetchannels -@all +select"),
        ("+select|0 -select", "off resetchannels -@all"),
        ("+select|0 +@connection -@connection", "off resetchannels -@all"),
        ("+select|0 +@all", "off resetchannels +@all"),
        ("(+get ~a)", "off resetchannels -@all (~a resetchannels -@all +get)"),
        (
            "on (+get ~a) ( &b +set )",
            "on resetchannels -@all (~a resetchannels -@all +get) (resetchannels &b -@all +set)",
        ),
        ("(+get) clearselectors", "off resetchannels -@all"),
        ("('+get)", "off resetchannels -@all (resetchannels -@all)"),
    ],
)
def test_the_canonical_form(rules: str, description: str) -> None:
    assert described(rules) == description


def test_passwords_are_kept_as_hashes() -> None:
    one, two = hash_password(b"one").decode(), "0" * 64

    assert described(f">one >one #{two}") == f"off #{one} #{two} resetchannels -@all"
    assert described(f">one #{two} <one") == f"off #{two} resetchannels -@all"
    assert described(f">one !{one}") == "off resetchannels -@all"
    assert described(">one nopass") == "off nopass resetchannels -@all"
    assert described("nopass >one") == f"off #{one} resetchannels -@all"
    assert described(">one resetpass") == "off resetchannels -@all"


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ("junk", errors.SYNTAX),
        ("%~a", errors.SYNTAX),
        ("%X~a", errors.SYNTAX),
        ("%RR~a", errors.SYNTAX),
        ("(junk)", errors.SYNTAX),
        ("((+get))", errors.SYNTAX),
        ("(+get", errors.SYNTAX),
        ("+config|", errors.SYNTAX),
        ("~* ~a", errors.KEYS_AFTER_ALL),
        ("~* %R~a", errors.KEYS_AFTER_ALL),
        ("&* &a", errors.CHANNELS_AFTER_ALL),
        ("+nosuch", str(UnknownCommandError())),
        ("+", str(UnknownCommandError())),
        ("-get|x", str(UnknownCommandError())),
        ("+config|nosuch", str(UnknownCommandError())),
        ("+@nosuch", str(UnknownCommandError())),
        ("-@", str(UnknownCommandError())),
        ("+config|get|x", errors.ARGUMENT_OF_SUBCOMMAND),
        ("<nothing", errors.NO_SUCH_PASSWORD),
        ("!" + "0" * 64, errors.NO_SUCH_PASSWORD),
        ("#" + "A" * 64, errors.BAD_HASH),
        ("#abc", errors.BAD_HASH),
        ("!abc", errors.BAD_HASH),
    ],
)
def test_what_makes_no_sense(rules: str, reason: str) -> None:
    user = User.create(b"someone", CATALOG)
    *before, last = rules.split()
    for rule in before:
        user.apply(rule.encode())
    known = describe_user(user)

    with pytest.raises(RuleError) as refusal:
        user.apply(last.encode())

    assert str(refusal.value) == reason
    assert describe_user(user) == known


@pytest.mark.parametrize("rule", [b"~sp ace", b"~nul\0", b"&sp\tace", b"%R~\n"])
def test_patterns_that_could_not_be_written_to_a_file(rule: bytes) -> None:
    with pytest.raises(RuleError, match=errors.SYNTAX):
        User.create(b"someone", CATALOG).apply(rule)


def test_channels_of_new_users_are_as_the_setting_has_them() -> None:
    assert describe_user(user_of("", channels="allchannels")) == b"off &* -@all"
    assert describe_user(user_of("resetchannels reset", channels="allchannels")) == b"off sanitize-payload &* -@all"
    assert describe_user(user_of("(+get)", channels="allchannels")) == b"off &* -@all (&* -@all +get)"


@pytest.mark.parametrize(
    ("words", "rules"),
    [
        ("a b", ["a", "b"]),
        ("(a b) c", ["(a b)", "c"]),
        ("(a (b c) d", ["(b c)", "d"]),
        ("() a)", ["()", "a)"]),
    ],
)
def test_selectors_may_be_spread_over_words(words: str, rules: list[str]) -> None:
    assert merge_selectors(words.encode().split()) == [rule.encode() for rule in rules]


def test_an_open_parenthesis_is_named() -> None:
    with pytest.raises(DefinitionError) as refusal:
        merge_selectors([b"on", b"(+get", b"~a"])
    assert refusal.value.message == b"Unmatched parenthesis in acl selector starting at '(+get'."


@given(st.lists(user_rules, max_size=8))
def test_a_description_leads_back_to_the_same_user(rules: list[bytes]) -> None:
    user = User.create(b"someone", CATALOG)
    try:
        for rule in merge_selectors(rules):
            user.apply(rule)
    except (RuleError, DefinitionError):
        return
    if any(selector.key_patterns.get(b"*") == READ_AND_WRITE for selector in user.selectors):
        return  # Shown as ~*, which is read as `allkeys` and bears no other pattern behind it. So it is in Redis.
    again = User.create(b"someone", CATALOG)
    for rule in merge_selectors(describe_user(user).split(b" ")):
        again.apply(rule)

    assert describe_user(again) == describe_user(user)
    for one, other in zip(user.selectors, again.selectors, strict=True):
        assert (one.commands, one.key_patterns, one.channel_patterns) == (
            other.commands,
            other.key_patterns,
            other.channel_patterns,
        )


@given(
    st.lists(
        st.one_of(st.binary(max_size=12), user_rules.flatmap(lambda rule: st.binary(max_size=3).map(rule.__add__)))
    )
)
def test_any_bytes_are_a_rule_or_are_refused(words: list[bytes]) -> None:
    user = User.create(b"someone", CATALOG)
    try:
        rules = merge_selectors(words)
    except DefinitionError:
        return
    for rule in rules:
        try:
            user.apply(rule)
        except RuleError:
            continue
    assert describe_user(user)


def test_every_category_and_command_is_in_the_catalog() -> None:
    assert [name.decode() for name in CATALOG.categories] == list(CATEGORIES)
    bits = [row.bit for row in CATALOG.by_name.values()]
    assert len(set(bits)) == len(bits) == len(CATALOG.by_name)
    assert max(bits) < ALL_COMMANDS >> 1, "the last bit is that of future commands"
    assert CATALOG.find(b"Config|GET") is CATALOG.by_name[b"config|get"]
    container = CATALOG.by_name[b"config"]
    assert container.reach == sum(row.bit for row in (container, *container.subcommands))


def test_only_who_may_do_everything_is_unrestricted() -> None:
    assert user_of("on nopass ~* &* +@all").is_unrestricted
    assert user_of("(~* &* +@all)").is_unrestricted
    for rules in ("~* &*", "~* +@all", "&* +@all", "~* &* +@all -get", "~* &* +@all -get +get", "~* (&* +@all)"):
        assert not user_of(rules).is_unrestricted
    user = user_of("~* &* +@all")
    assert user.is_unrestricted
    user.apply(b"resetkeys")
    assert not user.is_unrestricted
