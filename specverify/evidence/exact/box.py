"""The sizes of which all laws are proved at once."""

from __future__ import annotations

from dataclasses import dataclass

from specverify.declared import Initial
from specverify.errors import InputError


@dataclass(frozen=True)
class Asked:
    """What of a box was really asked in a run, so that an empty proof shows as one.

    Attributes:
        tokens: the most that one step committed, in any world.
        ended: whether a sequence ended before it was full.
        drafted: whether a law of the draft model was read.
    """

    tokens: int = 0
    ended: bool = False
    drafted: bool = False


@dataclass(frozen=True)
class Box:
    """Sizes, of which all laws are proved at once.

    Attributes:
        vocab, length: of the model, whose law after each prefix is unknown.
        window: draft tokens per forward pass; None for a decoder that has its own, or none.
        eos: the id that ends a sequence, or None.
        drafts: whether there is a draft model, with unknown laws of its own.
        initial: initial drafts; None for decoders that have none.
        rule, value: a relaxed rule that judges drafts, with its parameter; what is proved is then what it keeps to.
    """

    vocab: int
    length: int
    window: int | None = None
    eos: int | None = None
    drafts: bool = False
    initial: Initial | None = None
    rule: str | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        if self.vocab < 2 or self.length < 1 or (self.window is not None and self.window < 1):
            raise InputError(f"a box of {self}: at least 2 tokens, length 1 and window 1")

    @property
    def sizes(self) -> str:
        """Vocabulary, length and window, such as 3x4x3; with "-end" where there is one."""
        numbers = (self.vocab, self.length, *([self.window] if self.window is not None else []))
        return "x".join(map(str, numbers)) + ("-end" if self.eos is not None else "")

    def __str__(self) -> str:
        parts = [f"{self.vocab} tokens, {self.length} positions"]
        parts += [f"window {self.window}"] if self.window is not None else []
        parts += [f"initial drafts {self.initial}"] if self.initial is not None else []
        parts += ["with an end"] if self.eos is not None else []
        parts += [self.rule + ("" if self.value is None else f" {self.value:g}")] if self.rule is not None else []
        return ", ".join(parts)
