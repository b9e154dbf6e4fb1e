"""Calls of few rows, and the rows at one place of a call, added up over all toys: batches as a server has them.

A sampler may be right in a batch of thousands and wrong in one of three, or in the first row of any. Each such group of
rows has an e-process, the mean of three e-values: the product over toys of that of the sequences' counts; that of the
histogram of all transforms; and the mean likelihood ratio of laws colder and warmer than the target's, which needs the
fewest rows. Products and means of e-values are e-values: each may be looked at after any call and reaches 1 / alpha
with probability at most alpha if rows are independent draws from their laws (Ville's inequality).
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import special
from torch import Tensor

from specverify.errors import number_of
from specverify.evidence.result import TOTAL_VARIATION, Evidence
from specverify.evidence.sequences import sequence_index
from specverify.evidence.sequential import EProcess
from specverify.evidence.tokens import TILTS
from specverify.model import Model
from specverify.subjects.places import Prefixed
from specverify.subjects.sampler_pairs import statistics
from specverify.subjects.sampler_places import Call, place

SIZES: Mapping[int, int] = {1: 64, 2: 32, 3: 24, 8: 8, 33: 4, 257: 2}
"""Rows of the small calls, and how often each is played on some toys; once on the others."""
DEEP = 4
"""On how many: those with the fewest sequences, but more than one, and that with the most. Few rows show a wrong law
there, of whole sequences or token by token."""
CELLS = 8
FIRST, LAST, SMALL = "first rows", "last rows", "calls of 1 to 8 rows"
INNER = {f"rows at place {place}": place for place in range(1, 8)}
"""Rows that are neither first nor last, by their place in a call from 0."""


def group_of(rows: int) -> str:
    """The name of the group of the rows of such a call."""
    return f"calls of {rows} row{'s' * (rows > 1)}"


GROUPS = (*map(group_of, SIZES), SMALL, FIRST, LAST, *INNER)


class Batches:
    """The groups of rows, over all toys."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.rates: Mapping[str, float] = {}
        self.models: dict[str, Model] = {}
        self.laws: dict[str, EProcess] = {}
        self.pending: dict[str, list[tuple[Tensor, dict[str, slice]]]] = defaultdict(list)
        self.counts: dict[str, dict[str, Int[np.ndarray, " sequences"]]] = {group: {} for group in GROUPS}
        self.cells = {group: np.zeros(CELLS, dtype=np.int64) for group in GROUPS}
        self.tilts = {group: np.zeros(len(TILTS)) for group in GROUPS}  # log-likelihood ratios against p ** (1 - tilt)
        self.rows: dict[str, int] = defaultdict(int)
        self.calls: list[Call] = []
        self._known: dict[tuple[str, str], float] = {}  # log e of a group on a toy, until rows are added
        self._uniform = EProcess(np.full(CELLS, 1 / CELLS))

    def add(
        self, name: str, model: Model, law: Float[np.ndarray, " sequences"] | None, tokens: Int[Tensor, "rows length"]
    ) -> None:
        """Take the rows of one call on a toy.

        Args:
            name: the toy's.
            model: the toy.
            law: of its sequences; None where they are too many.
            tokens: of the call.
        """
        rows = len(tokens)
        parts = {group_of(rows): slice(None)} if rows in SIZES else {}
        parts |= {SMALL: slice(None)} if rows in SIZES and rows <= 8 else {}
        parts |= {FIRST: slice(0, 1), LAST: slice(-1, None)} if rows > 1 else {}
        parts |= {name: slice(at, at + 1) for name, at in INNER.items() if at < rows - 1}
        self.models[name] = model
        if law is not None:
            self.laws.setdefault(name, EProcess(law))
        # Of others the first ones and the last count.
        kept = tuple(range(rows)) if rows in SIZES else (*range(min(len(INNER) + 1, rows - 1)), rows - 1)
        self.pending[name].append((tokens[list(kept)], parts))
        self.calls.append(Call(name, rows, kept, self.pending[name][-1][0]))

    def _take(self) -> None:
        """Add up what waits: many small calls on a toy at once, which costs as much as one."""
        for name, calls in self.pending.items():
            tokens = torch.cat([some for some, _ in calls])
            model = self.models[name]
            trace, *_ = statistics(model, tokens, self.generator)
            cell = np.minimum((trace.pit.numpy() * CELLS).astype(np.int64), CELLS - 1)
            used = trace.open.numpy()
            ratios = (trace.surprisal[..., None] * torch.tensor(TILTS) - trace.tilted).numpy()
            starts = np.cumsum([0, *(len(some) for some, _ in calls)])
            rows: dict[str, list[np.ndarray]] = defaultdict(list)
            for start, (some, parts) in zip(starts, calls, strict=False):
                for group, part in parts.items():
                    rows[group].append(np.arange(start, start + len(some))[part])
            for group, found in rows.items():
                mine = np.concatenate(found)
                self.rows[group] += len(mine)
                self.cells[group] += np.bincount(cell[mine][used[mine]], minlength=CELLS)
                self.tilts[group] += ratios[mine][used[mine]].sum(0)
                if name in self.laws:
                    index = sequence_index(tokens[torch.from_numpy(mine)], model.vocab).numpy()
                    seen = np.bincount(index, minlength=len(self.laws[name].law))
                    self.counts[group][name] = self.counts[group].get(name, 0) + seen
                    self._known.pop((group, name), None)
        self.pending.clear()

    @property
    def refuted(self) -> bool:
        """Whether some group is."""
        self._take()
        return any(self._log_e(group) >= -math.log(rate) for group, rate in self.rates.items())

    def evidence(self, beta: float) -> list[Evidence]:
        """One check for each group that has rows."""
        self._take()
        return [self._evidence(group, rate, beta) for group, rate in self.rates.items() if self.rows[group]]

    def place(self, group: str, alpha: float, beta: float) -> Prefixed | None:
        """Which row of which calls a group is wrong at, where that can be told; see `sampler_places.place`."""
        which = functools.partial(_called, group)
        vocabularies = {name: model.vocab for name, model in self.models.items()}
        return place(self.calls, which, group, self.laws, vocabularies, alpha=alpha, beta=beta)

    def _log_e(self, group: str) -> float:
        for name, counts in self.counts[group].items():
            if (group, name) not in self._known:
                self._known[group, name] = self.laws[name].log_e(counts)
        joint = sum(self._known[group, name] for name in self.counts[group])
        cells = self.cells[group]
        transforms = self._uniform.log_e(cells) if cells.any() else 0.0  # greedy rows have no choice
        tilted = float(special.logsumexp(self.tilts[group])) - math.log(len(TILTS))
        return float(special.logsumexp([joint, transforms, tilted])) - math.log(3)

    def _evidence(self, group: str, alpha: float, beta: float) -> Evidence:
        log_e, n = self._log_e(group), int(self.cells[group].sum())
        delta = self._uniform.smallest_detectable(n, alpha=alpha / 3, beta=beta) if n else 1.0
        return Evidence(
            check=group,
            statistic=log_e,
            p_value=math.exp(-max(0.0, log_e)),
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=TOTAL_VARIATION,
            n=max(n, 1),
            rejected=log_e >= -math.log(alpha),
            basis="finite-sample bound",
            power="asymptotic",
            vacuous="" if delta < 1 else "too few rows to see anything",
            blind=f"differences that move no transform out of its {CELLS}th part, on sequences too many to count",
            detail=self._seen(group, log_e, alpha),
            coverage={"rows": self.rows[group], "tokens": n},
        )

    def _seen(self, group: str, log_e: float, alpha: float) -> str:
        """What a group adds up to, in words."""
        where = f"{self.rows[group]:,} rows on {number_of(len(self.models), 'toy')}"
        if math.isinf(log_e):
            return f"{where}, among them what the target forbids"
        cells = self.cells[group]
        worst = int(np.abs(cells - cells.sum() / CELLS).argmax())
        share = (
            f"; {cells[worst] / cells.sum():.3g} of the transforms lie between {worst / CELLS:g} and "
            f"{(worst + 1) / CELLS:g}, {1 / CELLS:g} are due"
            if log_e >= -math.log(alpha)
            else ""
        )
        return f"{where}{share}; log e-value {log_e:.4g}, {-math.log(alpha):.4g} rejects"


def _called(group: str, row: int, size: int) -> str | None:
    """What a group calls a row of a call of that many rows; None if it is not in the group."""
    if group in (FIRST, LAST):
        name, place = ("the first row", 0) if group == FIRST else ("the last row", size - 1)
        return name if size > 1 and row == place else None
    if group in INNER:
        return f"row {row}" if row == INNER[group] and row < size - 1 else None
    return f"row {row}" if size in SIZES and (group == group_of(size) or (group == SMALL and size <= 8)) else None
