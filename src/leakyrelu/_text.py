"""Text of messages and reports: safe characters, counted nouns, articles, lists of names, first lines of errors."""

from __future__ import annotations

import re
from itertools import islice
from textwrap import TextWrapper
from typing import TYPE_CHECKING
from unicodedata import combining, east_asian_width

if TYPE_CHECKING:
    from collections.abc import Collection

_SPELLED_WITH_AN = frozenset("AEFHILMNORSX")  # letters whose names begin with a vowel: "an LSTM"
_VOWELS = ("a", "e", "i", "o", "u", "ndarray")
_LIKE_YOU = ("uint", "uni", "use", "usu", "uti")  # these begin with the sound of "you": "a unit"
# Control characters (terminals act on them), line separators, marks and overrides of the writing direction, and lone
# surrogates, which no encoding can write.
_NOT_PRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return text that is safe on a terminal and a page: what a reader cannot see is written as Python would.

    For names, which come from files: a line break is written too, so that a name stays on its line.

    Examples
    --------
    >>> print(printable("relu\x1b[31m\n\u202efdp"))
    relu\x1b[31m\n\u202efdp
    """
    return _NOT_PRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def printable_lines(text: str) -> str:
    """Return text of several lines, each of them `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 pair", "2 pairs", "2 entries"."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def with_article(noun: str) -> str:
    """Return a noun or the name of a type with its indefinite article: "an int", "a float", "an LSTM", "a unit"."""
    if noun[:2].isupper():
        vowel = noun[0] in _SPELLED_WITH_AN
    else:
        vowel = noun.lower().startswith(_VOWELS) and not noun.lower().startswith(_LIKE_YOU)
    return f"{'an' if vowel else 'a'} {noun}"


def listed(words: Collection[str]) -> str:
    """Return words as a list within a sentence: "a", "a and b", "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def few(names: Collection[object], limit: int) -> str:
    """Return the first `limit` names and how many more there are: "a, b and 3 more"."""
    text = ", ".join(map(str, islice(names, limit)))
    return f"{text} and {len(names) - limit} more" if len(names) > limit else text


def size_text(number: int) -> str:
    """Return a number of bytes in the largest unit that keeps it at least 1: "17 bytes", "4.0 GiB"."""
    if number < 1024:
        return counted(number, "byte")
    unit = min((number.bit_length() - 1) // 10, 4)
    return f"{number / 1024**unit:,.1f} {'KMGT'[unit - 1]}iB"


def display_width(text: str) -> int:
    """Return the number of columns that printable text takes: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def padded(text: str, width: int, *, left: bool = True) -> str:
    """Return text filled with spaces to a width in columns, aligned left or right."""
    spaces = " " * (width - display_width(text))
    return text + spaces if left else spaces + text


def shorten(text: str, width: int) -> str:
    """Shorten a name to a width in columns by an ellipsis in its middle; of a path the end says the most."""
    if display_width(text) <= width:
        return text
    head, tail = text, text
    while display_width(head) > (width - 1) // 3:
        head = head[:-1]
    while display_width(tail) > width - 1 - display_width(head):
        tail = tail[1:]
    return f"{head}…{tail}"


def wrapped(text: str, width: int, *, first: str = "", then: str = "  ") -> list[str]:
    """Break text between words, with indents; a word that is longer than a line, such as a path, is shortened."""
    wrapper = TextWrapper(
        width, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )
    return [shorten(line, width) for line in wrapper.wrap(text)]


def first_line(error: BaseException, limit: int = 300) -> str:
    """Return the first line of an error's text that is not blank, cut where it is long; without text, its type."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:limit]


def type_and_first_line(error: BaseException) -> str:
    """Return the type and the first line of an error, as Python prints it: "ValueError: text"."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


def shown(value: object, limit: int = 80) -> str:
    """Return the repr of a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
