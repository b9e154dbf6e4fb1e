"""What a statistical check hands back, and the checking of what it is handed.

Every check of this package is a small frozen dataclass with three methods, after TensorFlow Probability's
`statistical_testing`:

    check(data, *, alpha, beta, ...)           -> Evidence
    smallest_detectable(n, *, alpha, beta)     -> delta     what n samples are sure to see
    sample_size(delta, *, alpha, beta)         -> n         what seeing delta costs

`alpha` bounds the false-alarm rate: the probability of rejecting a sampler whose law is the target law. `beta` bounds
the miss rate: the probability of not rejecting a sampler that is off by `delta` or more. `delta` is measured in the
check's `metric`. How far to trust each rate is said by `basis` (of alpha) and `power` (of beta and delta).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypedDict, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.errors import InputError
from specverify.model import check_laws

TOTAL_VARIATION = "total variation"
KOLMOGOROV = "Kolmogorov distance"
NATS = "nats per token"
COPIES = "share of copied samples"

Basis = Literal["exact", "finite-sample bound", "monte-carlo", "asymptotic"]
Power = Literal["finite-sample bound", "asymptotic"]
Vector = Float[np.ndarray, " outcomes"]
Law = Float[np.ndarray, " outcomes"] | Float[Tensor, " outcomes"]
Counts = Int[np.ndarray, " outcomes"] | Int[Tensor, " outcomes"]
Tokens = Int[np.ndarray, "sequences length"] | Int[Tensor, "sequences length"]
OtherTokens = Int[np.ndarray, "others width"] | Int[Tensor, "others width"]


Plain = bool | int | float | str | None | Sequence["Plain"] | Mapping[str, "Plain"]
"""What JSON holds; numbers that are not finite, which it lacks, are {"number": "inf"} and the like."""


class EvidenceRow(TypedDict):
    """`Evidence` as plain data."""

    check: str
    statistic: Plain
    p_value: float | None
    alpha: float
    beta: float
    delta: Plain
    metric: str
    n: int
    rejected: bool
    basis: Basis
    power: Power
    estimate: Plain
    interval: Plain
    vacuous: str
    blind: str
    detail: str
    coverage: Mapping[str, Plain]
    data: Mapping[str, Plain]


@dataclass(frozen=True)
class Evidence:
    """The outcome of one statistical check: a value, from which a verdict is computed elsewhere.

    Attributes:
        check: name of the check.
        statistic: the test statistic; infinite where an impossible outcome was observed.
        p_value: probability, under the target law, of a statistic as extreme (an upper bound on it where `basis` is
            "finite-sample bound"). None where the check is an interval only.
        alpha: false-alarm rate that the check was run at.
        beta: miss rate at `delta`.
        delta: a discrepancy of at least this much would have been missed with probability at most `beta`.
        metric: what `delta`, `estimate` and `interval` measure.
        n: number of samples, in the unit that the check counts in.
        rejected: whether the null hypothesis (the sampler has the target law) was rejected at `alpha`.
        basis: how the false-alarm rate is known. "exact", "finite-sample bound" and "monte-carlo" hold at every n.
        power: how the miss rate is known.
        estimate: point estimate of the discrepancy, in `metric`.
        interval: interval that holds the discrepancy with probability at least 1 - alpha.
        vacuous: why this evidence cannot speak for the sampler; empty if it can.
        blind: what no n would make this check see.
        detail: one sentence for a reader.
        coverage: what the check looked at: cells, visits, tokens.
        data: numbers behind figures: plain numbers, strings and (nested) lists of them.
    """

    check: str
    statistic: float
    p_value: float | None
    alpha: float
    beta: float
    delta: float
    metric: str
    n: int
    rejected: bool
    basis: Basis
    power: Power
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    vacuous: str = ""
    blind: str = ""
    detail: str = ""
    coverage: Mapping[str, float | int] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> EvidenceRow:
        """Plain dicts, lists, numbers and strings that `json.dumps(..., allow_nan=False)` takes; see `Plain`."""
        return cast("EvidenceRow", {name: _encode(value) for name, value in asdict(self).items()})

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Evidence:
        """The inverse of `to_json`.

        Raises:
            InputError: if a field is missing or unknown.
        """
        known = {item.name for item in fields(cls)}
        if set(record) != known:
            raise InputError(
                f"this is not a record of evidence: missing {sorted(known - set(record))}, "
                f"unknown {sorted(set(record) - known)}"
            )
        values = {name: _decode(value) for name, value in record.items()}
        if values["interval"] is not None:
            values["interval"] = tuple(values["interval"])
        return cls(**values)


def _encode(value: Any) -> Any:
    if isinstance(value, Tensor | np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"number"}:
            return float(value["number"])
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value


def nothing_below_one(delta: float, n: int) -> str:
    """The reason for vacuity of a check whose metric ends at 1, or an empty string."""
    return f"n = {n} is too small to see any discrepancy below 1; draw more samples" if delta >= 1 else ""


def check_rates(alpha: float, beta: float = 0.5) -> None:
    """Raise InputError unless both rates lie strictly between 0 and 1."""
    for name, meaning, value in (("alpha", "false-alarm", alpha), ("beta", "miss", beta)):
        if not 0 < value < 1:
            raise InputError(f"{name} is {value}; a {meaning} rate lies strictly between 0 and 1, such as 1e-6")


def check_size(n: int, what: str = "n") -> None:
    """Raise InputError unless `n` is at least 1."""
    if n < 1:
        raise InputError(f"{what} is {n}; a check needs at least one sample")


def check_delta(delta: float, metric: str = TOTAL_VARIATION) -> None:
    """Raise InputError unless `delta` is a discrepancy of that metric: above 0, and at most 1 unless in nats."""
    if not 0 < delta < math.inf or (metric != NATS and delta > 1):
        bounds = "above 0" if metric == NATS else "above 0 and at most 1"
        raise InputError(f"delta is {delta}; a discrepancy in {metric} is {bounds}")


COARSEST = 0.1
"""The coarsest discrepancy that a judgement may end at which was not asked for one."""


def aims(delta: float | None, usual: float) -> tuple[float, float]:
    """What the checks of a judgement aim to see, and the coarsest that is an answer, as a multiple of that.

    Args:
        delta: what was asked for, and then nothing coarser is an answer; None to aim at the usual, and to answer with
            what is reached by the time limit.
        usual: see above.

    Raises:
        InputError: delta is no discrepancy.
    """
    if delta is None:
        return usual, COARSEST / usual
    check_delta(delta)
    return delta, 1.0


def to_numpy(values: np.ndarray | Tensor) -> np.ndarray:
    """A numpy array of the same values, on the CPU."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def to_law(law: np.ndarray | Tensor, what: str = "the law") -> Vector:
    """A probability vector in float64, normalised to remove the rounding of its own dtype.

    Raises:
        InputError: unless it is one axis of non-negative numbers that sum to 1.
    """
    if law.ndim != 1:
        raise InputError(f"{what} has shape {tuple(law.shape)}; give one probability for each outcome, on one axis")
    check_laws(law if isinstance(law, Tensor) else torch.from_numpy(np.ascontiguousarray(law)), what=what)
    values = to_numpy(law).astype(np.float64)
    return np.asarray(values / values.sum())


def to_counts(counts: np.ndarray | Tensor, outcomes: int) -> Int[np.ndarray, " outcomes"]:
    """Counts in int64, one for each outcome.

    Raises:
        InputError: if there is not one non-negative count for each outcome, or all are 0.
    """
    values = to_numpy(counts).astype(np.int64)
    if values.shape != (outcomes,):
        raise InputError(f"counts have shape {values.shape}, but the law has {outcomes} outcomes; count every outcome")
    if (values < 0).any():
        raise InputError(f"the count of outcome {int(values.argmin())} is {int(values.min())}; counts are at least 0")
    check_size(int(values.sum()), "the number of counted samples")
    return values
