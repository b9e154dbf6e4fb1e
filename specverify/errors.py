"""The errors that users meet. Each message names the value that was wrong and what to do about it.

Beside them, how a message counts and prints.
"""

from __future__ import annotations

ERROR, INTERRUPTED = 3, 130
"""Exit codes of a command that failed, and of one that was interrupted; the others are of `verdict.Kind`."""


class SpecverifyError(Exception):
    """Base of every error that specverify raises on purpose; the command line prints its message alone."""


class InputError(SpecverifyError, ValueError):
    """A law, tensor, size, name or file that cannot be used."""


class OptionError(InputError):
    """An option that does not go with a subject, which could only be told by running it."""


class BudgetError(SpecverifyError):
    """The work asked for is larger than its budget; the message says which size would fit."""


class ContractError(SpecverifyError):
    """A decoder or model that breaks the protocol (wrong shapes, no progress, draws that depend on other rows)."""


class DependentRowsError(ContractError):
    """A decoder whose draws were not the same ones when other rows, or more of them, were in the batch.

    Args:
        text: what was seen.
        at: the row that was seen to do otherwise, and how many there were; None where no one row is known.
    """

    def __init__(self, text: str, at: tuple[int, int] | None = None) -> None:
        super().__init__(text)
        self.at = at


class Unfinished(SpecverifyError):
    """No error: the part of the work that was asked for is done, and nothing can be said before the rest is."""


def number_of(count: int, what: str) -> str:
    """A number and what it counts, in the singular or the plural: "1 cell", "1,200 batches"."""
    return f"{count:,} {what}{'' if count == 1 else 'es' if what.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def printable(text: str) -> str:
    """Text with a space for each character that a terminal would obey instead of showing it; lines stay lines."""
    return "".join(x if x.isprintable() or x == "\n" else " " for x in text)
