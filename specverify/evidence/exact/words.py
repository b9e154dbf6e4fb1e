"""Numbers in words, for messages: how one was computed from the laws' entries, as far as fits into a line."""

from __future__ import annotations

from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.numbers import UNDEFINED

_DEPTH, _LONGEST = 5, 120
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}


def words(algebra: Algebra, name: int) -> str:
    """A number, such as "(p(1) - q(1))+"; with its value at the real point where it is too long."""
    made: dict[int | None, tuple[str, int, int]] = {}
    for (operation, one, other), found in algebra.done.items():
        if found not in (one, other):
            made.setdefault(algebra.numbers.residue[found], (operation, one, other))
    text = _said(algebra, made, name, _DEPTH)
    value = f"{algebra.numbers.value[name]:.4g} at the point looked at"
    return f"a number ({value})" if "..." in text or len(text) > _LONGEST else f"{text} ({value})"


def after(place: int, vocab: int, size: int) -> str:
    """Behind which tokens a law stands, by its place in a table with one after each prefix and a last one past the end.

    Nothing for the first law, and else as in "p(1 | 0, 2)".
    """
    tokens: list[int] = []
    while 0 < place < size - 1:
        place, token = divmod(place - 1, vocab)
        tokens.insert(0, token)
    return " | past the end" if place else f" | {', '.join(map(str, tokens))}" if tokens else ""


def _said(algebra: Algebra, made: dict[int | None, tuple[str, int, int]], name: int, depth: int) -> str:
    numbers = algebra.numbers
    residue = numbers.residue[name]
    if name == UNDEFINED or residue is None:
        return "what is divided by 0"
    if (constant := numbers.exact(residue)) is not None:
        return str(constant)
    if (entry := numbers.entry.get(residue)) is not None:
        return entry
    if residue not in made or depth == 0:
        return "..."
    operation, one, other = made[residue]
    mine = _said(algebra, made, one, depth - 1)
    kind, *pair = made.get(numbers.residue[other], ("",))
    if operation == "sub" and kind == "minimum" and one in pair:
        rest = pair[pair[0] == one]
        return f"({mine} - {_said(algebra, made, rest, depth - 1)})+"
    theirs = _said(algebra, made, other, depth - 1)
    if operation == "add" and made.get(numbers.residue[one], ("",))[0] == "add":
        mine = mine.removeprefix("(").removesuffix(")")
    if operation in _SIGNS:
        return f"({mine} {_SIGNS[operation]} {theirs})"
    return f"{'max' if operation == 'maximum' else 'min'}({mine}, {theirs})"
