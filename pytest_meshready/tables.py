"""One table of a TOML file, read key by key, with a sentence for everything in it that makes no sense.

Every message says where the table stands, what was found and what is wanted; a key that nobody asked for is an error (`close`).
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any, TypeVar

_E = TypeVar("_E", bound=enum.StrEnum)
_T = TypeVar("_T")


class SettingsError(Exception):
    """Options or a file that make no sense; the message is one sentence for the user."""


class Table:
    """One table of the file; knows where it stands, so that every message can say so."""

    def __init__(self, data: Mapping[str, Any], file: str, place: str) -> None:
        self.data = data
        self.file = file
        self.place = place
        self._known: list[str] = []

    def error(self, key: str, wanted: str) -> SettingsError:
        """The sentence about a value that is not what it should be."""
        place = f" in {self.place}" if self.place else ""
        return SettingsError(f"{self.file}: {key}{place} is {shown_value(self.data[key])}; it must be {wanted}")

    def has(self, key: str) -> bool:
        """Note that the key is known, and tell whether it is there."""
        self._known.append(key)
        return key in self.data

    def need(self, *keys: str) -> None:
        """Some keys must be there.

        Raises:
            SettingsError: naming the first that is not.
        """
        missing = next((key for key in keys if key not in self.data), None)
        if missing is not None:
            raise SettingsError(f"{self.file}: {self.place} has no {missing}; it needs {', '.join(keys)}")

    def text(self, key: str) -> str | None:
        """A text that says something."""
        if not self.has(key):
            return None
        value = self.data[key]
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, "a text")
        return value.strip()

    def said(self, key: str) -> str:
        """A text that must be there; `need` has seen to that."""
        return self.text(key) or ""

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts."""
        if not self.has(key):
            return None
        value = self.data[key]
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            raise self.error(key, f'a list of texts, such as {key} = ["..."]')
        return tuple(item.strip() for item in value)

    def enum(self, key: str, words: type[_E]) -> _E | None:
        """One of some words."""
        word = self.text(key)
        if word is None:
            return None
        if word not in tuple(words):
            place = f" in {self.place}" if self.place else ""
            raise SettingsError(f"{self.file}: {key}{place} is {word!r}; {choices(word, words)}")
        return words(word)

    def day(self, key: str) -> date:
        """A day, as TOML writes it or as text; `need` has seen that it is there."""
        self.has(key)
        value = self.data[key]
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        try:
            return date.fromisoformat(value)
        except (TypeError, ValueError):
            raise self.error(key, "a day, such as 2027-03-31") from None

    def table(self, key: str) -> Table:
        """A table; an empty one where it is not there."""
        value = self.data[key] if self.has(key) else {}
        if not isinstance(value, dict):
            raise self.error(key, f"a table, [{key}]")
        return Table(value, self.file, f"[{key}]")

    def tables(self, key: str, make: Callable[[Table], _T]) -> tuple[_T, ...]:
        """A list of tables, each made into something and checked for unknown keys."""
        value = self.data[key] if self.has(key) else []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"a list of tables, [[{key}]]")
        made = []
        for number, item in enumerate(value, start=1):
            table = Table(item, self.file, f"[[{key}]] number {number}")
            made.append(make(table))
            table.close()
        return tuple(made)

    def close(self) -> None:
        """All keys have been asked for.

        Raises:
            SettingsError: for a key that nobody asked for, with the nearest one that is known.
        """
        strange = next((key for key in self.data if key not in self._known), None)
        if strange is not None:
            place = f" in {self.place}" if self.place else ""
            raise SettingsError(f"{self.file}: unknown key {strange!r}{place}; {choices(strange, sorted(self._known))}")


def choices(found: str, words: Iterable[str]) -> str:
    """The end of a sentence about a word that is none of these: the nearest one, then all."""
    known = [str(word) for word in words]
    near = difflib.get_close_matches(found, known, n=1, cutoff=0.6)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{guess}choose one of {', '.join(known)}"


def shown_value(value: object) -> str:
    """A value as a message quotes it: short, on one line."""
    text = repr(value) if isinstance(value, str | int | float | bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
