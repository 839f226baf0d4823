"""Words, wrapping and symbols for people; shared by the renderings."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Mapping

from pytest_meshready.results import Status

#: One character for each status, for an eye that runs down a column; the word always stands beside it.
SYMBOLS: Mapping[Status, tuple[str, str]] = {
    Status.FAILED: ("\N{BALLOT X}", "x"),
    Status.NOT_VERIFIED: ("?", "?"),
    Status.TO_ATTEST: ("a", "a"),
    Status.WARNED: ("!", "!"),
    Status.WAIVED: ("w", "w"),
    Status.ATTESTED: ("\N{CHECK MARK}", "+"),
    Status.PASSED: ("\N{CHECK MARK}", "+"),
    Status.NOT_APPLICABLE: ("-", "-"),
    Status.NOT_DUE: ("-", "-"),
}

#: What typographers write and a terminal without Unicode can show.
_ASCII = str.maketrans(
    {
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{HORIZONTAL ELLIPSIS}": "...",
        "\N{RIGHTWARDS ARROW}": "->",
        "\N{MIDDLE DOT}": ".",
        "\N{LESS-THAN OR EQUAL TO}": "<=",
        "\N{GREATER-THAN OR EQUAL TO}": ">=",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{NO-BREAK SPACE}": " ",
    }
)

#: The next command at the end of a sentence.
_COMMAND = re.compile(r"(?:^|(?<=[\s:`(]))(?:kubectl|istioctl|helm|pytest|meshready|curl|openssl|git) [^`]+$")
#: A word of a shell command, with its quoted stretches.
_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*"|['"])+""")


def clean(text: str, *, unicode: bool = True) -> str:
    """One line of printable text: names come from a cluster, and a terminal obeys control characters."""
    visible = "".join(_printable(char) for char in text)
    line = " ".join(visible.split())
    return line if unicode else line.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def _printable(char: str) -> str:
    if char.isspace():
        return " "
    return char if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn") else "\N{REPLACEMENT CHARACTER}"


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters; a word that is longer is broken, because a name must not break the layout."""
    return textwrap.wrap(text, max(width, 10), break_on_hyphens=False) or [""]


def split_command(fix: str) -> tuple[str, str]:
    """A fix as what to do and the command to type; either may be empty."""
    found = _COMMAND.search(fix)
    if found is None:
        return fix, ""
    before = fix[: found.start()].rstrip().rstrip("`(").rstrip()
    return before, found.group().rstrip().rstrip(".")


def wrap_command(command: str, width: int, indent: str) -> list[str]:
    """A shell command on indented lines of at most ``width`` characters that can still be pasted.

    Broken lines end in a backslash. A word that is longer than a line is broken too; its rest begins in the first column,
    as the shell demands, and stays whole where single quotes forbid even that.
    """
    lines, line = [], ""
    for word in _WORD.findall(command):
        joined = f"{line} {word}" if line else f"{indent}{word}"
        if line and len(joined) > width - 2:
            lines.append(f"{line} \\")
            joined = f"{indent}  {word}"
        while len(joined) > width - 2 and "'" not in word:
            lines.append(joined[: width - 1] + "\\")
            joined = joined[width - 1 :]
        line = joined
    if len(lines) == 1 and len(indent + command) <= width:
        return [indent + command]
    return [*lines, line]


def symbol(status: Status, *, unicode: bool) -> str:
    """The character of a status."""
    pretty, plain = SYMBOLS[status]
    return pretty if unicode else plain
