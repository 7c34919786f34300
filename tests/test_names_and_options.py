"""Names of files out of names of things, and the words of -o."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memfs.errors import MemfsError
from memfs.facts.naming import escape, fit, unique
from memfs.tree import options


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("libc.so.6.text", "libc.so.6.text"),
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("a\nb\x7f", "a%0Ab%7F"),
        ("\x00", "%00"),
        ("\x85", "%C2%85"),
        ("grün\udcff", "grün\udcff"),
        ("a b", "a b"),
    ],
)
def test_escape(name: str, want: str) -> None:
    assert escape(name) == want


def test_fit() -> None:
    long = "x" * 300
    assert fit("short", "~2") == "short~2"
    cut = fit(long, "~2")
    assert len(cut) == 255
    assert cut.endswith("~2")
    assert cut != fit("x" * 299 + "y", "~2")
    assert len(fit("ü" * 200).encode()) <= 255
    fit("ü" * 200).encode()  # no character is cut in two


def test_unique() -> None:
    assert list(unique(["heap", "a", "heap", "heap"])) == ["heap", "a", "heap~2", "heap~3"]
    assert list(unique(["heap", "heap~2", "heap"])) == ["heap", "heap~2", "heap~3"]


@given(st.lists(st.text(max_size=400), max_size=20))
def test_names_are_always_fit_for_a_directory(names: list[str]) -> None:
    files = list(unique(names))
    assert len(set(files)) == len(names)
    for file in files:
        raw = file.encode("utf-8", "surrogateescape")
        assert len(raw) <= 255
        assert b"/" not in raw
        assert b"\0" not in raw
        assert file not in (".", "..")


def test_split() -> None:
    assert options.split("a,b=c\\,d,,e\\\\f") == ["a", "b=c,d", "e\\f"]


def test_parse() -> None:
    got = options.parse(
        "ro,uid=12,gid=0,umask=022,allow_other,absent=zero,fsname=a\\,b,x-systemd.automount,_netdev,nofail"
    )
    assert got == options.Settings(True, True, 12, 0, 0o022, "a,b")
    assert options.parse("") == options.Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alow_other", "did you mean allow_other?"),
        ("absent=one", "absent=zero"),
        ("absent", "takes a value"),
        ("allow_other=1", "takes no value"),
        ("uid=me", "no number"),
        ("umask=999", "octal"),
        ("uid=-1", "no number"),
        ("uid=", "no number"),
        ("qqqqqq", "known options"),
    ],
)
def test_wrong_options(text: str, words: str) -> None:
    with pytest.raises(MemfsError, match="-o ") as caught:
        options.parse(text)
    assert words in str(caught.value)


def test_keywords() -> None:
    assert options.from_keywords({"absent": "zero", "allow_other": False}).absent_as_zero
    with pytest.raises(TypeError):
        options.from_keywords({"nothing": True})
