"""The manifest of an append only file: its text, what is refused and why, and what a rewrite makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.persistence.aof_manifest import AofFile, FileKind, Manifest, ManifestError, parse_manifest

FIRST = b"file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"

names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)
numbers = st.integers(1, 2**60)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    base = draw(st.none() | st.builds(AofFile, names, numbers, st.just(FileKind.BASE)))
    history = draw(st.lists(st.builds(AofFile, names, numbers, st.just(FileKind.HISTORY)), max_size=3))
    incr_numbers = sorted(draw(st.sets(numbers, min_size=0 if base else 1, max_size=4)))
    incrs = tuple(AofFile(draw(names), number, FileKind.INCR) for number in incr_numbers)
    return Manifest(base, tuple(history), incrs, base.number if base else 0, incr_numbers[-1] if incr_numbers else 0)


@given(manifests())
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    assert parse_manifest(manifest.format()) == manifest


def test_an_apostrophe_is_quoted() -> None:
    manifest = Manifest(incrs=(AofFile("it's", 1, FileKind.INCR),), incr_number=1)
    assert manifest.format() == b'file "it\'s" seq 1 type i\n'
    assert parse_manifest(manifest.format()) == manifest


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda noise: FIRST[:40] + noise + FIRST[40:]))
def test_any_bytes_give_a_manifest_or_a_reason(text: bytes) -> None:
    try:
        parse_manifest(text)
    except ManifestError as problem:
        assert problem.log_lines()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "Found an empty AOF manifest"),
        (b"\n", "Invalid AOF manifest file format"),
        (FIRST[:-1], "The AOF manifest file contains too long line"),
        (b"file " + b"x" * 1100 + b" seq 1 type b\n", "The AOF manifest file contains too long line"),
        (b"file a seq 1\n", "Invalid AOF manifest file format"),
        (b"file a seq 1 type i more\n", "Invalid AOF manifest file format"),
        (b"filx a seq 1 type i\n", "Invalid AOF manifest file format"),
        (b"file a seq 0 type i\n", "Invalid AOF manifest file format"),
        (b"file a seq x type i\n", "Invalid AOF manifest file format"),
        (b'file "a seq 1 type i\n', "Invalid AOF manifest file format"),
        (b"file a/b seq 1 type i\n", "File can't be a path, just a filename"),
        (b"file a\\b seq 1 type i\n", "File can't be a path, just a filename"),
        (b"file a seq 1 type x\n", "Unknown AOF file type"),
        (b"file a seq 1 type b\nfile b seq 2 type b\n", "Found duplicate base file information"),
        (b"file a seq 2 type i\nfile b seq 2 type i\n", "Found a non-monotonic sequence number"),
    ],
)
def test_what_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(ManifestError) as refusal:
        parse_manifest(text)

    assert refusal.value.reason == reason
    assert refusal.value.log_lines()[-1] == f"{reason}\n"


def test_the_offending_line_is_shown() -> None:
    with pytest.raises(ManifestError) as refusal:
        parse_manifest(FIRST + b"file c seq 1 type i\n")

    assert refusal.value.log_lines()[1:3] == [
        "Reading the manifest file, at line 3\n",
        ">>> 'file c seq 1 type i'\n",
    ]


def test_what_later_versions_add_is_passed_over() -> None:
    manifest = parse_manifest(b"# a comment\nFILE a SEQ 12abc TYPE incr future thing\r\n")

    assert manifest == Manifest(incrs=(AofFile("a", 12, FileKind.INCR),), incr_number=12)


def test_a_rewrite_makes_history() -> None:
    """As Redis orders it with aof-disable-auto-gc: the newest history first."""
    manifest = Manifest().with_base("f", as_rdb=True).with_incr("f")
    for _ in range(2):
        manifest = manifest.with_incr("f").with_base("f", as_rdb=False).with_incrs_rewritten(keep_last=True)

    assert [line.split()[1] + b" " + line.split()[5] for line in manifest.format().splitlines()] == [
        b"f.3.base.aof b",
        b"f.2.incr.aof h",
        b"f.2.base.aof h",
        b"f.1.incr.aof h",
        b"f.1.base.rdb h",
        b"f.3.incr.aof i",
    ]
    assert [file.name for file in manifest.files] == ["f.3.base.aof", "f.3.incr.aof"]
    assert manifest.without_history().format().count(b"\n") == 2


def test_without_a_log_that_is_written_all_incr_files_become_history() -> None:
    manifest = Manifest().with_base("f", as_rdb=True).with_incr("f").with_incr("f")
    manifest = manifest.with_base("f", as_rdb=True).with_incrs_rewritten(keep_last=False)

    assert manifest.incrs == ()
    assert manifest.with_incr("f").incrs[-1].number == 3  # No number is used twice.
