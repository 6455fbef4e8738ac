"""Text of messages: characters that are safe to print, counted nouns, articles, lists, first lines of errors."""

from __future__ import annotations

import pytest

from leakyrelu._text import counted, few, first_line, listed, printable, shown, type_and_first_line, with_article


def test_counted_nouns_are_singular_at_one_only() -> None:
    assert [counted(number, "pair") for number in (0, 1, 2)] == ["0 pairs", "1 pair", "2 pairs"]
    assert counted(1, "entry", "entries") == "1 entry"
    assert counted(3, "entry", "entries") == "3 entries"


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        *(("int", "an int"), ("float", "a float"), ("ndarray", "an ndarray"), ("Identity", "an Identity")),
        *(("LSTM", "an LSTM"), ("GRU", "a GRU"), ("ReLU", "a ReLU"), ("RReLU", "an RReLU"), ("NoneType", "a NoneType")),
        *(("unit", "a unit"), ("uint8", "a uint8"), ("UserDict", "a UserDict"), ("MLP", "an MLP"), ("str", "a str")),
        *(("activation", "an activation"), ("Unpickler", "an Unpickler"), ("ELU", "an ELU"), ("SELU", "an SELU")),
    ],
)
def test_the_article_follows_the_sound(noun: str, expected: str) -> None:
    assert with_article(noun) == expected


def test_lists_of_names() -> None:
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_a_few_of_many_names_say_how_many_are_left_out() -> None:
    names = ["a", "b", "c", "d"]
    assert few(names, 4) == "a, b, c, d"
    assert few(names, 2) == "a, b and 2 more"
    assert few(dict.fromkeys(range(4)), 3) == "0, 1, 2 and 1 more"
    assert few([], 3) == ""


def test_the_first_line_of_an_error() -> None:
    assert first_line(ValueError("\n   \n  first \nsecond")) == "first"
    assert first_line(ValueError("  \n")) == "ValueError"
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("first line"), 5) == "first"
    assert first_line(ValueError("x" * 1000)) == "x" * 300
    assert type_and_first_line(ValueError("\nfirst\nsecond")) == "ValueError: first"
    assert type_and_first_line(AssertionError()) == "AssertionError"


def test_a_long_value_is_cut() -> None:
    assert shown("ab") == "'ab'"
    assert shown("a" * 78) == repr("a" * 78)
    assert shown("a" * 79) == "'" + "a" * 76 + "..."
    assert len(shown(list(range(1000)), 30)) == 30


def test_what_terminals_act_on_and_readers_cannot_see_is_written_out() -> None:
    assert printable("a\x00b\x1b[2Jc\x7fd\x9be") == r"a\x00b\x1b[2Jc\x7fd\x9be"
    assert printable("one\ntwo\tthree\r") == r"one\ntwo\tthree\r"
    hidden = [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]
    hidden += [0xD800, 0xDCFF, 0xDFFF]
    for code in hidden:
        written = printable(chr(code))
        assert written.isprintable(), hex(code)
        assert written.isascii(), hex(code)
        assert eval(f"'{written}'") == chr(code)
    plain = "Größe 日本語 → ≤ é \u0301 \\ [red] \U0001f600 \u200d \u00a0"
    assert printable(plain) == plain
