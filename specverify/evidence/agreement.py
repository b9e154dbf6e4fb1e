"""What two engines say of the same tokens: log-probabilities that are equal, off by rounding, or of another law.

The same tokens are those that both emitted behind the same tokens: there the laws themselves are compared, and not
what was drawn from them. Rounding knows nothing of a token; a temperature moves log-probabilities in proportion to
themselves.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats

from specverify.evidence.before import REPEATED, earlier, others
from specverify.evidence.discrete import SAFETY
from specverify.evidence.result import NATS, Evidence
from specverify.evidence.signs import by_signs, hoeffding, least_shift

EQUAL = 1e-3
"""Nats that are no difference: single precision."""
EVENTS = 20
"""Tokens behind the same tokens from which on a slope is looked at."""
CONTRADICTED = 1.5
"""Probability of tokens behind the same tokens, by one log alone, from which on they are behind other prompts."""
FAR = 40
"""Rows that one log says another thing in, and the other has none of: one law has 2^-40 for it."""
LEAST = -1e3
"""A log-probability below which all are alike."""
PARTS = 16
"""Of a row, of which each has a mean surprisal of its own."""
FEW = 100
"""Rows from which on a mean is taken as normal; fewer are compared by signs."""
TINY = 1e-12
"""A standard error of what does not vary."""
NOTHING = (np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
"""No events."""
Tokens = Int[np.ndarray, "rows length"]
LogProbs = Float[np.ndarray, "rows length"]


@dataclass(frozen=True)
class Events:
    """Tokens behind the same tokens, that came in both logs.

    Attributes:
        context: which of them stand behind the same tokens.
        logprob: the mean of what the two logs say.
        apart: the difference.
        where: an example of the largest difference, in words.
        beyond: what tokens behind the same tokens are said to have together, less 1, where one log says more of some
            than the other leaves; and where.
    """

    context: np.ndarray
    logprob: np.ndarray
    apart: np.ndarray
    where: str
    beyond: tuple[float, str] = (0.0, "")

    @property
    def most(self) -> float:
        """The largest difference."""
        return float(np.abs(self.apart).max(initial=0.0))


def events(
    tokens: tuple[Tokens, Tokens],
    logprobs: tuple[LogProbs, LogProbs],
    prompts: np.ndarray,
    named: bool,
    floor: float,
) -> Events | None:
    """Tokens that both logs have behind the same tokens.

    Args:
        tokens: of the two logs, as many rows of each; -1 behind an end.
        logprobs: of these tokens, by each engine's own account.
        prompts: which prompt each row answers, of the one log and then of the other.
        named: whether that is known.
        floor: nats that both may be apart, and by which one log may contradict itself.

    Returns:
        None if one does so by more, where prompts are not known; but if only the other one does not, and in so many
        rows that chance would not put them all into one log, that is what was found.
    """
    n = len(tokens[0])
    token, logprob = np.concatenate(tokens), np.concatenate(logprobs)
    step = np.concatenate([stored(each) for each in logprobs])
    context = np.unique(prompts, return_inverse=True)[1].ravel()
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    where, worst, ahead = "", -1.0, 0
    limit, beyond = math.exp(floor) + EQUAL, (0.0, "")
    for place in range(token.shape[1]):
        key = context * (int(token.max()) + 2) + token[:, place] + 1
        kinds, index, code = np.unique(key, return_index=True, return_inverse=True)
        code = code.ravel()
        counted = token[index, place] >= 0
        means, there, both, steps, split, again = [], [], counted, np.zeros(len(kinds)), [], []
        for half in (slice(0, n), slice(n, None)):
            count = np.bincount(code[half], minlength=len(kinds))
            mean = np.bincount(code[half], logprob[half, place], len(kinds)) / np.maximum(count, 1)
            steps = steps + np.bincount(code[half], step[half, place], len(kinds)) / np.maximum(count, 1)
            off = logprob[half, place] - mean[code[half]]
            split.append(np.sign(off) * np.maximum(np.abs(off) - 2 * step[half, place], 0.0))
            again.append(int(((count > 1) & counted)[code[half]].sum()))
            means.append(mean)
            there.append((count > 0) & counted)
            both = both & (count > 0)
        says = [bool((np.abs(each) > floor).any()) for each in split]
        own = int(says[1])
        if sum(says) == 1 and again[1 - own] >= again[own] / 2 and _apart(split[own], code, own * n, floor) >= FAR:
            far = int(np.abs(split[own]).argmax())
            row, most = token[own * n + far, : place + 1].tolist(), float(np.abs(split[own][far]))
            told = f"{'AB'[own]} says of {row[-1]} behind {row[:-1]} log-probabilities that are {most:.3g} nats off "
            return Events(*NOTHING, "", (most, f"{told}their mean, and the other log does not"))
        if any(says) and not named:
            return None
        behind = context[index]
        said = [np.where(here, np.exp(mean), 0.0) for here, mean in zip(there, means, strict=True)]
        sums = [np.bincount(behind, share) for share in (*said, np.maximum(*said))]
        most_of_one = np.maximum(*sums[:2])
        if not named and most_of_one.max() > CONTRADICTED:
            return None
        more = np.where(most_of_one > CONTRADICTED, 0.0, sums[2] - np.maximum(most_of_one, 1.0))
        if more.max() > max(limit - 1, beyond[0]):
            at = int(more.argmax())
            row = token[index[behind == at][0], :place].tolist()
            together = f"behind {row} tokens are said to have a probability of {sums[2][at]:.3g} together"
            beyond = float(more.max()), together
        off = np.where(both, means[0] - means[1], 0.0)
        off = np.sign(off) * np.maximum(np.abs(off) - steps, 0.0)
        if both.any():
            parts.append((context[index][both] + ahead, (means[0] + means[1])[both] / 2, off[both]))
            if abs(off).max() > worst:
                at, worst = int(abs(off).argmax()), float(abs(off).max())
                row = token[index[at], : place + 1].tolist()
                where = f"of {row[-1]} behind {row[:-1]}, {means[0][at]:.4g} and {means[1][at]:.4g}"
        ahead += int(context.max()) + 1
        context = code
        if not both.any():
            break
    if not parts:
        return Events(*NOTHING, "", beyond)
    groups, values, apart = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Events(groups, values, apart, where, beyond)


def _apart(off: Float[np.ndarray, " rows"], code: Int[np.ndarray, " all"], start: int, floor: float) -> int:
    """In how many rows of a log, at least, another thing is said than in most rows behind the same tokens."""
    own, kinds = code[start : start + len(off)], int(code.max()) + 1
    return int(np.minimum(*(np.bincount(own[side * off > floor], minlength=kinds) for side in (1, -1))).sum())


def stored(logprob: LogProbs) -> LogProbs:
    """By how much each log-probability may be rounded since it was written down in bfloat16: half a step; else 0."""
    single = logprob.astype(np.float32)
    if (single != logprob).any() or (single.view(np.uint32) & 0xFFFF).any():
        return np.zeros_like(logprob)
    return np.asarray(np.exp2(np.frexp(logprob)[1] - 9.0) * (logprob != 0))


def same_tokens(found: Events, floor: float) -> Evidence:
    """Whether what is said of the same tokens is apart by no more than rounding makes it; no statistics."""
    apart = found.most
    count = len(found.apart)
    return Evidence(
        check="the same tokens",
        statistic=apart,
        p_value=0.0 if apart > floor or found.beyond[1] else 1.0,
        alpha=0.0,
        beta=0.0,
        delta=floor,
        metric=NATS,
        n=count,
        rejected=apart > floor or bool(found.beyond[1]),
        basis="exact",
        power="finite-sample bound",
        estimate=apart,
        vacuous="" if count or found.beyond[1] else "no token came in both logs behind the same tokens",
        detail=found.beyond[1]
        if apart <= floor and found.beyond[1]
        else f"of {count:,} tokens behind the same tokens, log-probabilities are up to {apart:.3g} nats apart"
        + (f": {found.where}" if apart > EQUAL else ""),
    )


def slope(found: Events, *, alpha: float, beta: float) -> Evidence:
    """Test of whether differences go with log-probabilities, each less its mean behind the same tokens.

    One law has one rounding, wherever it comes again: of the same log-probability and difference one is counted.
    """
    pairs = np.round(np.stack([found.logprob, found.apart], 1), 9)
    first = np.unique(pairs, axis=0, return_index=True)[1] if len(pairs) else np.zeros(0, dtype=np.int64)
    order = np.unique(found.context[first], return_inverse=True)[1].ravel()
    count = np.bincount(order)
    value, apart = (x - (np.bincount(order, x) / count)[order] for x in (found.logprob[first], found.apart[first]))
    several = (count > 1)[order]
    value, apart = value[several], apart[several]
    free = len(value) - int((count > 1).sum()) - 1
    varied = free >= EVENTS / 2 and min(value.std(), apart.std()) > EQUAL / 10
    r = float(np.corrcoef(value, apart)[0, 1]) if varied else 0.0
    score = abs(r) * math.sqrt(free / max(1e-12, 1 - r * r)) if varied else 0.0
    p_value = min(1.0, SAFETY * 2 * float(stats.t.sf(score, free))) if varied else 1.0
    steep = float((value * apart).sum() / (value * value).sum()) if varied else 0.0
    reach = (float(stats.norm.isf(alpha / 4)) + float(stats.norm.isf(beta))) / math.sqrt(max(free, 1))
    return Evidence(
        check="slope",
        statistic=score,
        p_value=p_value,
        alpha=alpha,
        beta=beta,
        delta=math.tanh(reach),
        metric="correlation",
        n=len(value),
        rejected=p_value <= alpha,
        basis="asymptotic",
        power="asymptotic",
        estimate=abs(r),
        vacuous="" if varied else "too few tokens behind the same tokens",
        detail=f"differences go with the log-probability (correlation {r:.3g}): B's "
        f"temperature would be {(1 + steep / 2) / (1 - steep / 2):.3g} times A's",
    )


@dataclass(frozen=True)
class _Means:
    """What a part of a row's tokens have for their mean surprisal in both logs.

    Attributes:
        words: which part.
        one, two: nats a token.
        score: how many standard errors they are apart, beyond drift.
        p_value: of that.
        delta: nats that would have been seen; infinite if none.
    """

    words: str
    one: float
    two: float
    score: float
    p_value: float
    delta: float


def surprisal(
    tokens: tuple[Tokens, Tokens], logprobs: tuple[LogProbs, LogProbs], drift: float, *, alpha: float, beta: float
) -> Evidence:
    """Test of the mean surprisal of a row's tokens and of each of its parts, where a difference of `drift` is none.

    A part that is too hot and another that is too cold may have the mean that is due together. `delta` is of rows.
    """
    length = tokens[0].shape[1]
    cuts = np.linspace(0, length, min(PARTS, length) + 1).round().astype(int).tolist()
    parts = [(0, length), *(itertools.pairwise(cuts) if length > 1 else ())]
    found = [_means(tokens, logprobs, part, drift, alpha / len(parts), beta) for part in parts]
    worst = min(found, key=lambda means: means.p_value)
    p_value, delta, n = min(1.0, len(parts) * worst.p_value), found[0].delta, len(tokens[0])
    return Evidence(
        check="surprisal",
        statistic=worst.score,
        p_value=p_value,
        alpha=alpha,
        beta=beta,
        delta=delta if delta < math.inf else 0.0,
        metric=NATS,
        n=n,
        rejected=p_value <= alpha,
        basis="asymptotic" if n >= FEW else "finite-sample bound",
        power="asymptotic",
        estimate=abs(found[0].one - found[0].two),
        vacuous="" if delta < math.inf else f"{n} rows are too few for a mean",
        detail=f"the mean surprisal of {worst.words} is {worst.one:.5g} nats a token in A and {worst.two:.5g} in B",
    )


def _means(
    tokens: tuple[Tokens, Tokens],
    logprobs: tuple[LogProbs, LogProbs],
    part: tuple[int, int],
    drift: float,
    alpha: float,
    beta: float,
) -> _Means:
    """Welch's test, of rows that reach so far; of few rows by signs."""
    count = [(row[:, part[0] : part[1]] >= 0).sum(1) for row in tokens]
    total = [-np.maximum(row[:, part[0] : part[1]], LEAST).sum(1) for row in logprobs]
    words = "a row" if part == (0, tokens[0].shape[1]) else f"positions {part[0]} to {part[1] - 1}"
    few = min(int((each > 0).sum()) for each in count) < FEW
    there = [(count[0] > 0) & (count[1] > 0)] * 2 if few else [each > 0 for each in count]
    means = [(t[here] / c[here]) for t, c, here in zip(total, count, there, strict=True)]
    if min(map(len, means)) < 2:
        return _Means(words, 0.0, 0.0, 0.0, 1.0, math.inf)
    one, two = (float(each.mean()) for each in means)
    apart = one - two
    error = math.sqrt(sum(float(each.var(ddof=1)) / len(each) for each in means))
    score = max(0.0, abs(apart) - drift) / max(error, TINY)
    if not few:
        reach = float(stats.norm.isf(alpha / (2 * SAFETY))) + float(stats.norm.isf(beta))
        return _Means(words, one, two, score, min(1.0, SAFETY * 2 * float(stats.norm.sf(score))), drift + reach * error)
    pairs = means[0] - means[1]
    p_value = min(1.0, 2 * by_signs(math.copysign(1.0, apart) * pairs - drift))
    return _Means(words, one, two, score, p_value, drift + least_shift(pairs, by_signs, alpha / 2, beta))


def repetition(tokens: tuple[Tokens, Tokens], drift: float, *, alpha: float, beta: float) -> Evidence:
    """Do tokens that came before in their row come as often in both logs, each of `REPEATED`?

    The share of a row's tokens that do is compared by signs, whose sum exceeds s with probability at most
    exp(-s^2 / (2 sum d^2)) (Hoeffding): a penalty for repetition changes rows whose tokens have one law at each place.
    `delta` is of tokens that came anywhere before.
    """
    shares = []
    for each in map(torch.from_numpy, tokens):
        came = torch.cat([(earlier(each) >= 0)[..., None], others(each) == each[..., None]], 2) & (each >= 0)[..., None]
        shares.append(came.sum(1).double() / (each >= 0).sum(1, keepdim=True).clamp(min=1))
    pairs = (shares[0] - shares[1]).numpy()
    tests = 2 * len(REPEATED)
    apart = math.tanh(drift / 2)  # in total variation, at most
    tails = np.minimum(hoeffding(pairs - apart), hoeffding(-pairs - apart))
    worst = int(tails.argmin())
    first, second = (float(share[:, worst].mean()) for share in shares)
    shift = least_shift(pairs[:, 0], lambda shifted: float(hoeffding(shifted)), alpha / tests, beta)
    p_value = min(1.0, tests * float(tails.min()))
    return Evidence(
        check="repetition",
        statistic=float(pairs[:, worst].mean()),
        p_value=p_value,
        alpha=alpha,
        beta=beta,
        delta=apart + shift if shift < math.inf else 0.0,
        metric="share of tokens",
        n=len(pairs),
        rejected=p_value <= alpha,
        basis="finite-sample bound",
        power="asymptotic",
        vacuous="" if shift < math.inf else f"{len(pairs)} rows are too few",
        detail=f"{REPEATED[worst]}: {first:.3g} of A's tokens, {second:.3g} of B's",
    )
