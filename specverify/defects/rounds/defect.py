"""What is known of a wrong verification kernel, or of one that only looks wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from specverify.subjects.rounds.kernel import Kernel
from specverify.subjects.rounds.reference import Parts, kernel

Category = Literal[
    "acceptance rule",
    "residual",
    "draft-distribution mismatch",
    "randomness reuse",
    "bonus token",
    "processor mismatch",
    "greedy",
    "numerical",
    "batching",
    "declared lossy",
    "control",
]
Check = Literal["standard", "forced-coins", "nan-rows", "none"]


@dataclass(frozen=True)
class RoundDefect:
    """A kernel that claims to be lossless and is not, or a control that is although it looks wrong.

    Attributes:
        id: its name.
        category: which part is wrong; "control" if none is.
        source: where it was shipped, proposed or suspected.
        mechanism: what happens.
        conditions: without these it does not show.
        caught_by: the check that refutes it; "none" for controls.
        kernel: the kernel.
        level: where it lives.
    """

    id: str
    category: Category
    source: str
    mechanism: str
    conditions: str
    caught_by: Check
    kernel: Kernel
    level: str = "round"

    @property
    def lossy(self) -> bool:
        """Whether the law of its output is wrong."""
        return self.category != "control"


def made(
    id: str, category: Category, caught_by: Check, source: str, mechanism: str, conditions: str, parts: Parts | Kernel
) -> RoundDefect:
    """The defect of a kernel, or of the reference kernel with some parts replaced."""
    wrong = kernel(id, parts) if isinstance(parts, Parts) else parts
    return RoundDefect(id, category, source, mechanism, conditions, caught_by, wrong)
