"""Beyond the models that a decoder was proved on: for every law there is, in small boxes of sizes.

It is tried last, of a lossless decoder that was proved on the models by name, and takes seconds. Where it cannot follow
the decoder, that says nothing against it: the verdict stays, and the judgement says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from specverify.deadline import Deadline
from specverify.evidence.budget import Budget
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.goals import of_box
from specverify.evidence.exact.keeping import at_hand, changed
from specverify.evidence.exact.proof import BITS, Proof, prove
from specverify.evidence.exact.statement import statement, together
from specverify.evidence.relay import runs_torch
from specverify.subjects.factory import Factory
from specverify.subjects.modes import Mode
from specverify.verdict import Kind, Verdict

SECONDS, AT_LEAST = 20.0, 2.0
"""Of processor time: after which nothing more is tried, and what it may take however little is left."""
NEEDED, MORE = 20_000, 3_000
"""Outcomes that are followed in each box that must be proved, and in each beyond: some thousand take a second."""
ROWS, LENGTH = 4096, 3
BEYOND = ((3, 3, 2), (2, 5, 3), (3, 4, 3), (4, 3, 2))
"""Vocabulary, length and widest window of boxes that are tried too, and must be proved unless they are too large."""


@dataclass(frozen=True)
class ForAll:
    """What came of it.

    Attributes:
        proofs: all that were tried.
        why: why there is none; empty if there is.
    """

    proofs: Sequence[Proof]
    why: str = ""

    @property
    def proved(self) -> tuple[Proof, ...]:
        """The proofs that it consists of; none if there is none."""
        return () if self.why else tuple(proof for proof in self.proofs if proof.proved)

    @property
    def error_bits(self) -> float:
        """The error of all of them together is at most 2^-error_bits."""
        return together([proof.error_bits for proof in self.proved])

    def sentence(self) -> str:
        """What was proved."""
        boxes, bits = zip(*((proof.box, proof.error_bits) for proof in self.proved), strict=True)
        orders = sum(proof.orders for proof in self.proved)
        asked = [proof.asked for proof in self.proved]
        return statement(of_box(boxes[0]).claim, boxes, bits, self.proved[0].seed, orders, asked)

    def verdict(self, before: Verdict) -> Verdict:
        """The verdict on a decoder that had another before: one that was sampled at more tokens stays what it is."""
        if not self.proved:
            return before
        if before.kind is Kind.PROVED:
            return Verdict(Kind.PROVED_FOR_ALL, f"{self.sentence()}. Beside that, {before.reason}")
        return Verdict(before.kind, f"proved {self.sentence()}. Beside that, {before.reason}")


def for_all(factory: Factory, modes: Sequence[Mode], seed: int, left: float = SECONDS) -> ForAll:
    """Try to prove a decoder for every law.

    Args:
        factory: makes it.
        modes: the ways in which it can be run; all of them have to be proved.
        seed: of the proofs.
        left: seconds that the judgement has.
    """
    if any(mode.late for mode in modes):
        return ForAll((), "its windows, draft model or initial drafts make a difference on larger models alone")
    if runs_torch(factory.subject):
        return ForAll((), "it draws with torch's own functions, which are followed where laws are numbers, not names")
    if where := changed(factory.kept, at_hand(factory.subject)):
        return ForAll(
            (), f"it keeps something between calls, in {where}, which is not as it was before the first of them"
        )
    proofs: list[Proof] = []
    deadline = Deadline(min(SECONDS, max(AT_LEAST, left)))
    first = prove(factory.build, next(_needed(modes[0])), seed, Budget(NEEDED, ROWS, deadline), orders=False)
    ordered = first.compares or first.outcome == "differs"
    needed, beyond = (_compared, _beyond_compared) if ordered else (_needed, _beyond)
    for boxes, worlds in ((needed, NEEDED), (beyond, MORE)):
        for box in (box for mode in modes for box in boxes(mode)):
            known = box == first.box and not ordered
            proofs.append(first if known else prove(factory.build, box, seed, Budget(worlds, ROWS, deadline)))
            if not proofs[-1].proved and (boxes is needed or proofs[-1].outcome != "too large"):
                return ForAll(proofs, f"{proofs[-1].why} ({box})")
    found = ForAll(proofs)
    if found.proved and found.error_bits < BITS:
        return ForAll(proofs, f"the error of all proofs together may be 2^-{found.error_bits:.0f}")
    return found


def _needed(mode: Mode) -> Iterator[Box]:
    """The boxes that have to be proved: the smallest, in every window, with an end, from any initial drafts.

    The end is the last id; in one window it is the first one, too, which is false where it is taken for a truth.
    """
    vocab = min(model.vocab for model in mode.tiny)
    own = {model.eos is not None for model in mode.tiny}
    first, middle = mode.initials[0], mode.windows[len(mode.windows) // 2]
    for window in mode.windows:
        for ends in sorted(own):
            yield Box(vocab, LENGTH, window, vocab - 1 if ends else None, mode.drafts, first)
    if True in own:
        yield Box(vocab, LENGTH, middle, 0, mode.drafts, first)
    for initial in mode.initials[1:]:
        yield Box(vocab, LENGTH, middle, None, mode.drafts, initial)


def _compared(mode: Mode) -> Iterator[Box]:
    """The same with two positions: whoever compares laws is run for each order that they can have."""
    yield from dict.fromkeys(replace(box, length=2, window=box.window and min(box.window, 2)) for box in _needed(mode))


def _beyond_compared(mode: Mode) -> Iterator[Box]:
    """The first of those boxes, if there is time."""
    yield next(_needed(mode))


def _beyond(mode: Mode) -> Iterator[Box]:
    known = {model.vocab for model in mode.tiny}
    for vocab, length, widest in BEYOND:
        if vocab in known:
            window = max((window for window in mode.windows if window and window <= widest), default=mode.windows[0])
            yield Box(vocab, length, window, None, mode.drafts, mode.initials[0])
