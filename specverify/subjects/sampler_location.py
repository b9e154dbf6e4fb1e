"""Where a sampler, or a trace, goes wrong: the first position, the prefix, and which tokens come too often there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from specverify.batteries.traces import AGAIN, APART
from specverify.errors import number_of
from specverify.evidence.conditional import Conditionals
from specverify.evidence.result import Evidence
from specverify.subjects.places import Along, Prefixed
from specverify.subjects.sampler_logs import CHECK as LOG_CHECK


def locate(
    law: Float[np.ndarray, " sequences"],
    counts: Int[np.ndarray, " sequences"],
    vocab: int,
    *,
    alpha: float,
    beta: float,
) -> Prefixed:
    """The first prefix after which the next token has another law, from counts of whole sequences.

    Where a forbidden token was seen, it is the first of those. Else it is the shortest prefix that `Conditionals`
    rejects; where it rejects none, the most deviant one, and `certain` is False.

    Args:
        law: Float[vocab ** length], the law that the sequences should have.
        counts: how often each came.
        vocab: number of tokens.
        alpha: the probability that a certain answer is wrong.
        beta: of `Conditionals`.

    Returns:
        position, prefix, token and direction ("too often" or "too rarely"), expected and observed next-token laws,
        visits of the prefix, p_value, certain, and the share of the evidence that each position has: the statistic
        2 n KL(counts / n, law) falls apart into next-token laws (chain rule), less what chance would give.
    """
    length = max(1, round(np.log(len(law)) / np.log(vocab)))
    found = _forbidden(law, counts, vocab, length)
    if found is None:
        tested = Conditionals(law, vocab).check(counts, alpha=alpha, beta=beta).data
        certain = [i for i, rejected in enumerate(tested["rejected"]) if rejected]
        index = min(certain, key=lambda i: len(tested["prefix"][i]), default=int(np.argmin(tested["p_value"])))
        found = {
            "prefix": tested["prefix"][index],
            "p_value": min(1.0, tested["p_value"][index] * len(tested["prefix"])),
            "certain": bool(certain),
        }
    seen = int(_after(counts, found["prefix"], vocab, length).sum())
    shares = _shares(law, counts, vocab, length)
    return {**_described(law, counts, vocab, length, found), "visits": seen, "share by position": shares}


def locate_exactly(
    law: Float[np.ndarray, " sequences"], came: Float[np.ndarray, " sequences"], vocab: int, tolerance: float
) -> Prefixed:
    """As `locate`, from the law that came out; nothing is uncertain.

    The share of a position is its part in the sum over positions of the mean distance of next-token laws, which bounds
    the total variation from above.
    """
    length = max(1, round(np.log(len(law)) / np.log(vocab)))
    found: Prefixed = {"prefix": [], "p_value": 0.0, "certain": True}
    parts, first = [], True
    for position in range(length):
        due, out = (values.reshape(vocab**position, vocab, -1).sum(2) for values in (law, came))
        # Where the prefix itself cannot come, any next-token law will do.
        next_due, next_out = (x / np.maximum(x.sum(1, keepdims=True), 1e-300) for x in (due, out))
        off = np.where((due.sum(1) > 0) & (out.sum(1) > 0), 0.5 * np.abs(next_due - next_out).sum(1), 0.0)
        parts.append(float(off @ out.sum(1)))
        if first and (off > tolerance).any():
            prefix = np.unravel_index(int((off > tolerance).argmax()), (vocab,) * position) if position else ()
            found["prefix"], first = [int(token) for token in prefix], False
    shares = [part / sum(parts) if sum(parts) else 0.0 for part in parts]
    return {**_described(law, came, vocab, length, found), "share by position": shares}


def _described(law: np.ndarray, came: np.ndarray, vocab: int, length: int, found: Prefixed) -> Prefixed:
    due, out = (_after(values, found["prefix"], vocab, length) for values in (law, came))
    expected, observed = due / due.sum(), out / out.sum()
    token = found.get("token", int(np.abs(observed - expected).argmax()))
    return {
        "position": len(found["prefix"]),
        **found,
        "token": token,
        "direction": "too often" if observed[token] > expected[token] else "too rarely",
        "expected": expected.tolist(),
        "observed": observed.tolist(),
    }


def place_in_trace(evidence: Sequence[Evidence]) -> Along | None:
    """Where a trace is wrong: the first position that `PitPositions` rejects, or else its most deviant one.

    Returns:
        position, certain, direction (whether likely or surprising tokens come too often), the excess surprisal in nats
        per token, the Kolmogorov distance at each position, and the names of the checks that refute. None where tokens
        have the right laws at every position, and only their noise comes again, what the log says of them is wrong, or
        what is wrong is an id or a branch, wherever it comes.
    """
    refuting = [item.check for item in evidence if item.rejected]
    if set(refuting) <= {*AGAIN, *APART, LOG_CHECK}:
        return None
    by_name = {item.check: item for item in evidence}
    positions, surprisal = by_name["PIT by position"], by_name["surprisal"]
    rejected = [position for position, is_off in enumerate(positions.data["rejected"]) if is_off]
    place = rejected[0] if rejected else int(np.argmin(positions.data["p_value"]))
    excess = surprisal.estimate or 0.0
    impossible = int(surprisal.coverage["impossible"])
    direction = "surprising tokens come too often" if excess > 0 else "likely tokens come too often"
    return {
        "position": place,
        "certain": bool(rejected),
        "direction": f"{number_of(impossible, 'token')} of probability 0" if impossible else direction,
        "excess surprisal": excess,
        "distance by position": positions.data["distance"],
        "refuting checks": refuting,
    }


def sentence(location: Prefixed | Along, eos: int | None = None) -> str:
    """One line for a reader; `eos` is what ends a sequence, if anything does."""
    if "prefix" not in location:
        return f"first at position {location['position']}: {location['direction']}"
    location = cast("Prefixed", location)
    token = location["token"]
    ended = f", where {eos} ended it and fills it up," if eos in location["prefix"] else ""
    return (
        f"first at position {location['position']} after {location['prefix']}{ended or ':'} token {token} comes "
        f"{location['direction']}, {location['observed'][token]:.4g} instead of {location['expected'][token]:.4g}"
        + (f" in {location['visits']:,} visits" if "visits" in location else "")
    )


def _forbidden(law: np.ndarray, counts: np.ndarray, vocab: int, length: int) -> Prefixed | None:
    """The first forbidden token that was seen, or None."""
    for position in range(length):
        joint = law.reshape(vocab ** (position + 1), -1).sum(1)
        seen = counts.reshape(vocab ** (position + 1), -1).sum(1)
        if len(wrong := np.flatnonzero((joint == 0) & (seen > 0))):
            *prefix, token = (int(x) for x in np.unravel_index(int(wrong[0]), (vocab,) * (position + 1)))
            return {"prefix": prefix, "token": token, "p_value": 0.0, "certain": True}
    return None


def _after(values: np.ndarray, prefix: Sequence[int], vocab: int, length: int) -> np.ndarray:
    return np.asarray(values.reshape((vocab,) * length)[tuple(prefix)].reshape(vocab, -1).sum(1), dtype=np.float64)


def _shares(law: np.ndarray, counts: np.ndarray, vocab: int, length: int) -> list[float]:
    excess = []
    for position in range(length):
        joint = law.reshape(vocab**position, vocab, -1).sum(2)
        seen = counts.reshape(vocab**position, vocab, -1).sum(2).astype(np.float64)
        visited = (seen.sum(1) > 0) & (joint.sum(1) > 0)
        reached = joint[visited] / joint[visited].sum(1, keepdims=True)
        statistic = 2 * special.rel_entr(seen[visited], seen[visited].sum(1, keepdims=True) * reached).sum()
        freedom = (reached > 0).sum() - visited.sum()
        excess.append(max(0.0, float(statistic - freedom)))
    if np.isinf(excess).any():
        excess = [float(np.isinf(value)) for value in excess]
    total = sum(excess)
    return [value / total if total else 0.0 for value in excess]
