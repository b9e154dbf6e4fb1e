"""What `conformance` says of a model."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from specverify.conformance_laws import different
from specverify.errors import ContractError

_DEPENDS = re.compile(r"(with(out guidance| guidance and without), )?(memory|conditions|guidance):")
MOSTLY = 0.9
"""A share of places below which a result says that it saw little."""
_OURS = tuple(str(Path(__file__).with_name(name)) for name in ("conformance", "waits"))


@dataclass(frozen=True)
class Conformance:
    """What was compared, and what was wrong.

    Attributes:
        model: its name.
        checks: what was compared.
        looked: at how many rows, which windows and which positions.
        findings: one sentence each, naming position, row and size of a difference.
        largest: the largest difference of any check, in total variation: in half precision, how far windows change
            the law.
        tolerance: what is no finding.
        sensitive: at which share of the places another token, further back than the last one, changes a law by more;
            None where no place is further back.
        costs: what costs time and changes no law, as a sentence; empty if nothing is known of.
        average: what is no finding on average over all laws of a check; infinite where that is not asked.
    """

    model: str
    checks: tuple[str, ...]
    looked: str
    findings: tuple[str, ...]
    largest: float
    tolerance: float
    sensitive: float | None
    costs: str
    average: float = math.inf

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def passes(self) -> tuple[str, ...]:
        """Findings of passes that disagree, or of laws that are none: not those of what laws depend on."""
        return tuple(one for one in self.findings if not _DEPENDS.match(one))

    def demand(self) -> None:
        """Raise ContractError if anything was found."""
        if self.findings:
            raise ContractError("\n".join(self.findings))

    def __str__(self) -> str:
        if self.ok:
            held = (
                f"{self.model}: {', '.join(self.checks)}: no law differs by more than {self.tolerance:g}{self._mean()}"
            )
            held = f"{held}; the largest difference is {self.largest:.2g}{self._seen()}. Looked at: {self.looked}"
            return "\n".join([held, *filter(None, [self.costs])])
        first = "; begin with the first, from which others may follow" if len(self.findings) > 1 else ""
        head = f"{self.model}: {len(self.findings)} found{first}. Looked at: {self.looked}"
        return "\n".join([head, *self.findings, *filter(None, [self.costs])])

    def _mean(self) -> str:
        """What is held on average, where single laws may differ by much."""
        return f", and those of no check by more than {self.average:g} on average" if self.average < 1 else ""

    def _seen(self) -> str:
        """What one wrong token in a cache would do."""
        if self.sensitive is None:
            return ""
        seen = f"another token further back than the last one would show in {100 * self.sensitive:.0f}% of places"
        return f"; {seen}" + ("" if self.sensitive >= MOSTLY else " (in more of them in float32, or on other weights)")


def looked_at(model: Any, given: list[Any], batch: int, widest: int, stretches: str) -> str:
    """At what was looked, in words, and at what was not; `given` are the rows' conditions, if there are any."""
    own = len(model.conditions) if given else 0
    some = min(batch, own) if different(given) else min(1, own)
    of = f"{some} of its {own} conditions" if 1 < some < own else f"{some} conditions"
    rows = f"{batch} rows of {of}" if some > 1 else f"{batch} rows of one condition" if some else f"{batch} rows"
    free = getattr(model, "guidance", 1) == 0
    blind = [
        *(["the condition of another row in the place of its own"] if some == 1 else []),
        *(["whether laws heed conditions, which they do not at scale 0"] if some > 1 and free else []),
        *(["its processors"] if getattr(model, "processors", ()) else []),
        *(["what comes behind an end of sequence"] if model.eos is not None else []),
    ]
    away = f". Not looked at: {', '.join(blind)}" if blind else ""
    return (
        f"{rows} and 1 to {2 * batch} of them, windows of 0 to {widest} drafts, positions {stretches} of "
        f"{model.length}{away}"
    )


def remedy(largest: float, tolerance: float, by_type: Mapping[torch.dtype, float]) -> str:
    """What to say where differences are such as weights of less precision make."""
    types = [str(kind).removeprefix("torch.") for kind, most in by_type.items() if tolerance < most >= largest]
    return (
        f"no difference is above {largest:.2g}, and {tolerance:g} is allowed by the type of the laws: if it computes "
        f"in {' or '.join(types)}, say so by an attribute of the model, such as `precision = torch.{types[0]}`"
    )


def raised(error: Exception, doing: str) -> str:
    """What a model raised, where, and what it may have overlooked.

    Args:
        error: what was raised.
        doing: the check that was under way.
    """
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OURS)]
    last = places[-1] if places else None
    where = f" ({last.filename.rpartition('/')[2]}:{last.lineno}, in {last.name})" if last else ""
    rows = (
        "; a context's rows are dropped, doubled and put in another order, so a row's cache must be found by tensors "
        "in the context that have a row for each sequence"
    )
    known = f" in the check `{doing}`" if doing else ""
    shaped = isinstance(error, RuntimeError | IndexError | ValueError)
    selected = shaped and doing in ("", "alone", "selection", "forks", "own")
    return f"the model raised {type(error).__name__}: {error}{where}{known}{rows if selected else ''}"
