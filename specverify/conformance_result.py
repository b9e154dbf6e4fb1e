"""What `conformance` says of a model."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from specverify.errors import ContractError

MOSTLY = 0.9
"""A share of places below which a result says that it saw little."""
_OURS = str(Path(__file__).with_name("conformance"))


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
    """

    model: str
    checks: tuple[str, ...]
    looked: str
    findings: tuple[str, ...]
    largest: float
    tolerance: float
    sensitive: float | None

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def demand(self) -> None:
        """Raise ContractError if anything was found."""
        if self.findings:
            raise ContractError("\n".join(self.findings))

    def __str__(self) -> str:
        if self.ok:
            held = f"{self.model}: {', '.join(self.checks)}: no law differs by more than {self.tolerance:g}"
            return f"{held}; the largest difference is {self.largest:.2g}{self._seen()}. Looked at: {self.looked}"
        return "\n".join([f"{self.model}: {len(self.findings)} found, of {self.looked}", *self.findings])

    def _seen(self) -> str:
        """What one wrong token in a cache would do."""
        if self.sensitive is None:
            return ""
        seen = f"another token further back than the last one would show in {100 * self.sensitive:.0f}% of places"
        return f"; {seen}" + ("" if self.sensitive >= MOSTLY else " (in more of them in float32, or on other weights)")


def raised(error: Exception) -> str:
    """What a model raised, where, and what it may have overlooked."""
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OURS)]
    where = f" ({places[-1].filename.rpartition('/')[2]}:{places[-1].lineno}, in {places[-1].name})" if places else ""
    return (
        f"the model raised {type(error).__name__}: {error}{where}; rows of a context are dropped, doubled and put in "
        "another order, and a context may be read again, so all that a pass looks at lies in the context, in tensors "
        "of one row for each sequence, and not on the model"
    )
