"""Things that are asked for by name: one class for decoders, rules, defects and toys."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from specverify.errors import InputError

T = TypeVar("T")


class Catalogue(Mapping[str, T]):
    """Entries by name, in the order in which they were given.

    Args:
        what: what an entry is, as an error calls it.
        entries: by name.
    """

    def __init__(self, what: str, entries: Mapping[str, T]) -> None:
        self.what = what
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> T:
        """The entry of that name.

        Raises:
            InputError: there is none; with the nearest names, or all.
        """
        if name not in self._entries:
            raise InputError(f"unknown {self.what} {name!r}; {near(name, self._entries)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def names(self) -> tuple[str, ...]:
        """Every name."""
        return tuple(self._entries)


def near(name: str, known: Iterable[str], otherwise: str = "known:", most: int | None = None) -> str:
    """Which of the known names may have been meant; or the first `most` of them, after the words `otherwise`."""
    options = list(known)
    return _close(name, options) or f"{otherwise} {', '.join(options[:most]) or 'nothing'}"


def near_pattern(pattern: str, ids: Iterable[str], otherwise: str) -> str:
    """Which words of known ids may have been meant by the first word of a shell pattern that is in none of them.

    Args:
        pattern: of ids such as "exact/scd/dense-3x6".
        ids: that it matches none of.
        otherwise: what is said where every word is known, or none is near.
    """
    known = list(ids)
    if any(name.startswith(f"{pattern}/") for name in known):
        return f"did you mean '{pattern}/*'?"
    # All that may be meant by a word: the parts of an id, and what stands before and behind "=".
    parts = list(dict.fromkeys(part for name in known for part in (*name.split("/"), *re.split("[/=]", name))))
    whole = {part for name in known for part in name.split("/")}
    for segment in pattern.split("/"):
        for word in filter(None, re.split(r"[*?\[\]]+", segment)):
            if word in whole or (word != segment and any(word in name for name in known)):
                continue
            return " ".join([*filter(None, [_close(word, parts)]), otherwise])
    return otherwise


def _close(name: str, options: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else ""
