"""Draws that are written down, or replayed, for debugging one run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from specverify.draws import Draws, Sampled
from specverify.errors import ContractError


class Recorded:
    """Writes down every outcome of another Draws, or replays such a record.

    Args:
        inner: where outcomes come from while recording; None to replay `outcomes`.
        outcomes: (kind, outcome) pairs of an earlier run.
    """

    def __init__(self, inner: Draws | None = None, outcomes: Sequence[tuple[str, Any]] = ()) -> None:
        self.inner, self.outcomes = inner, list(outcomes)
        self._next = 0

    def check(self) -> None:
        """See Sampled; a replay has nothing to check."""
        if isinstance(self.inner, Sampled):
            self.inner.check()

    def __getattr__(self, kind: str) -> Any:
        if kind not in ("accept_run", "bernoulli", "categorical", "race", "winner", "earliest", "uniform", "normal"):
            raise AttributeError(kind)

        return partial(self._draw, kind)

    def _draw(self, kind: str, *arguments: Any, **named: Any) -> Any:
        if self.inner is not None:
            outcome = getattr(self.inner, kind)(*arguments, **named)
            self.outcomes.append((kind, outcome))
            return outcome
        if self._next == len(self.outcomes):
            raise ContractError(f"the record ends after {self._next} draws, but the decoder asked for another ({kind})")
        recorded, outcome = self.outcomes[self._next]
        if recorded != kind:
            raise ContractError(f"draw {self._next} of the record is {recorded}, but the decoder asked for {kind}")
        self._next += 1
        return outcome
