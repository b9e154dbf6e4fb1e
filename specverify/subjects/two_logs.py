"""Two logs: whether two engines, or one with and without speculation, have one law.

A log is a npz or safetensors file, or a dict of arrays, of S independent rows of N positions:

    tokens     Int[S, N]     the emitted tokens
    lengths    Int[S]        how many of each row count, its end of sequence included; default N
    logprob    Float[S, N]   log p(x), in nats, of each token by the engine's own account; or logprobs, Float[S, N, V]
    prompt     Int[S]        which prompt a row answers, if there are several

What people do with greedy equality shows that two engines have one most probable token. Here rows are sampled, with
seeds of their own in each log, and held against each other:

    tokens by position      the law of each position's token
    neighbouring tokens     that of each two that follow each other
    whole rows              that of rows, where they come again
    tokens by prompt        the law of each position's token behind each prompt, where there are several
    ends                    where rows end, and with which token
    rows as wholes          the law of a row's mean surprisal, and of how many of its tokens differ
    frequencies             how often tokens come, learned from a third of the rows: wherever, by position, by prompt
    neighbours, threes,     the same of tokens that follow each other, and of two as far apart as where tokens depend
    distances               most on each other, such as the one above in an image
    repetition              how often tokens come that came before in their row, at each of some distances
    surprisal               the mean of a row's log-probabilities, and of each part's of a row
    the same tokens         what both say of one token behind the same tokens: equal, off by rounding, or not; and
                            whether tokens behind the same tokens are said to have more than all probability together
    slope                   whether such differences go with the log-probability, as a temperature makes them
    copies, repeated rows   whether rows are independent at all

Where the logs' log-probabilities are off by no more than `floor`, laws that differ by what is off count as one.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from specverify.errors import InputError
from specverify.evidence import agreement, rows
from specverify.evidence.agreement import EQUAL, EVENTS
from specverify.evidence.copies import Again, Copies, Repeats
from specverify.evidence.design import AlphaBudget
from specverify.evidence.homogeneity import Homogeneity
from specverify.evidence.learned import check as learned
from specverify.evidence.learned import third
from specverify.evidence.result import Evidence, check_delta, check_rates
from specverify.seeds import derived_seed
from specverify.subjects.judgement import Judgement
from specverify.subjects.two_logs_file import Log, Pair, load, paired
from specverify.subjects.two_logs_views import views
from specverify.verdict import Kind, Verdict

FLOOR = 0.06
"""Nats that two engines' log-probabilities may be apart: logits from 8 to 16 are rounded by up to 1/32 in bf16."""
LAWS = ("tokens by position", "neighbouring tokens", "whole rows", "tokens by prompt")
EXACT = ("slope", "the same tokens")
"""What tells most where it rejects: the laws themselves."""
LEARNED = ("frequencies by position", "frequencies by prompt", "ends by prompt", "neighbours", "threes", "distances")
"""What tells least of where it is: it is told where none of `LAWS` rejects."""
DEPENDENT = ("copies", "rows again", "repeated rows of A", "repeated rows of B", "repeated rows of both")
"""What these reject is the independence of rows, without which nothing else counts."""
ENDS = ("rows whose last token is {}", "rows of {} tokens", "rows whose length is in sixteenth {} of all lengths")
"""What is looked at where rows end."""
NOT_COVERED = (
    "which of the two is right: a log judges the other, and neither is a target",
    "dependence between rows of one log, but for rows that come again",
    "dependence of tokens at other distances than the 16 at which they depend most, of three that do not follow each "
    "other or lie one and such a distance apart, or of four, where neither rows nor tokens come again",
    "tokens that came in neither log, and tokens too rare to be counted apart",
    "other prompts, lengths and settings than those of the logs",
)


def compare_logs(
    first: str | Path | Mapping[str, Any],
    second: str | Path | Mapping[str, Any],
    *,
    seed: int = 0,
    delta: float | None = None,
    alpha: float = 1e-6,
    beta: float = 1e-6,
    floor: float = FLOOR,
) -> Judgement:
    """Judge whether two logs have one law.

    Args:
        first, second: files, or arrays by name.
        seed: of the order of rows, which is no evidence.

    Other args:
        delta: the total variation of a position's token that must be seen for CONSISTENT; by default whatever the logs
            show, which the verdict states.
        alpha: probability of telling apart two engines of one law.
        beta: probability of missing a difference of delta.
        floor: nats that log-probabilities of the same tokens may be apart, as rounding makes them.

    Returns:
        CONSISTENT ("the same law as far as n shows", or "the same up to bf16 numerics"), REFUTED ("not the same", with
        the finding), or INCONCLUSIVE.

    Raises:
        InputError: for a source that is no log, logs that cannot be compared, rates or numbers out of range.
    """
    start = time.perf_counter()
    check_rates(alpha, beta)
    if delta is not None:
        check_delta(delta)
    if not 0 < floor < math.inf:
        raise InputError(f"floor is {floor}; it is a number of nats above 0")
    named = [str(source) if isinstance(source, str | Path) else "arrays" for source in (first, second)]
    pair = paired(load(first), load(second), np.random.default_rng(derived_seed(seed)))
    evidence, notes = _evidence(pair, alpha, beta, floor)
    given = [] if delta is None else ["--delta", f"{delta:g}"]
    given += [] if floor == FLOOR else ["--floor", f"{floor:g}"]
    return Judgement(
        subject=f"{named[0]} and {named[1]}",
        level="trace",
        claim="the same law",
        verdict=_verdict(pair, evidence, alpha, delta, floor),
        evidence=evidence,
        location=_location(evidence),
        not_covered=NOT_COVERED,
        reproduce=shlex.join(["specverify", "compare-logs", *named, *given, "--seed", str(seed)]),
        seconds=time.perf_counter() - start,
        notes=notes,
    )


def _evidence(pair: Pair, alpha: float, beta: float, floor: float) -> tuple[list[Evidence], list[str]]:
    one, two = pair.one, pair.two
    tokens, prompts = (one.tokens, two.tokens), np.concatenate([one.prompt, two.prompt])
    logprobs = None if one.logprob is None or two.logprob is None else (one.logprob, two.logprob)
    budget, several = AlphaBudget(alpha), len(np.unique(prompts)) > 1
    laws = LAWS if several else LAWS[:3]
    learning = third(one.prompt)
    looked = dict(views(np.stack(tokens), one.prompt, learning))
    ends = ["ends"] if (one.tokens < 0).any() or (two.tokens < 0).any() else []
    names = [
        *laws,
        *looked,
        "repetition",
        "rows as wholes",
        *ends,
        *(["surprisal", "slope"] if logprobs else []),
        *DEPENDENT,
    ]
    budget.allocate(names)
    rates = {name: {"alpha": budget.spend(name), "beta": beta} for name in names}
    notes, found, drift, said = [], [], 0.0, 0.0
    if logprobs is None:
        notes.append("log-probabilities are not in both logs, and were not compared")
    else:
        same = agreement.events(tokens, logprobs, prompts, one.named, floor)
        if same is None:
            notes.append("rows have prompts of their own; log the array prompt to have log-probabilities compared")
            drift = said = floor
        else:
            drift = same.most if EQUAL < same.most <= floor else 0.0
            # How far rounding goes is not known from a few tokens.
            said = floor if len(same.apart) < EVENTS else max(drift, EQUAL)
            found.append(agreement.same_tokens(same, floor))
            found += [agreement.slope(same, **rates["slope"])] if same.most > EQUAL else []
        said += _written(one, two)
        found.append(agreement.surprisal(tokens, logprobs, said, **rates["surprisal"]))
    found += [learned(name, some, learning, drift, **rates[name]) for name, some in looked.items()]
    found.append(rows.check(tokens, logprobs, said, **rates["rows as wholes"]))
    if one.tokens.shape[1] > 1:
        found.append(agreement.repetition(tokens, drift, **rates["repetition"]))
    sizes = np.unique(one.prompt, return_counts=True)[1].tolist()
    for name, codes, width in _parts(*tokens, one.prompt if several else None):
        alone, rate = Homogeneity(drift * width), rates[name]["alpha"]
        found.append(alone.check(codes[0], codes[1], alpha=rate, beta=beta, name=name, sizes=sizes))
    if ends:
        first, second = _ends(*tokens)
        # A row ends by its last token, and by none before it.
        found.append(Homogeneity(2 * drift).check(first, second, **rates["ends"], name="ends", sizes=sizes))
    found += _independent(pair, rates, sizes)
    return found, notes


def _written(*logs: Log) -> float:
    """By how much means of log-probabilities may be apart since they were written down in bfloat16."""
    return sum(
        float(agreement.stored(log.logprob).sum()) / max(1, int((log.tokens >= 0).sum()))
        for log in logs
        if log.logprob is not None
    )


def _independent(pair: Pair, rates: Mapping[str, Mapping[str, float]], sizes: Sequence[int]) -> Iterator[Evidence]:
    """Whether rows come again: at their place in the other log, if all have one law; and anywhere, if that is known."""
    one, two = pair.one, pair.two
    if not one.named:
        yield Copies().check(*pair.order, alpha=rates["copies"]["alpha"], beta=rates["copies"]["beta"])
    logs = {"A": [one], "B": [two], "both": [one, two]}
    for which, some in logs.items():
        name = f"repeated rows of {which}"
        said = [log.logprob.sum(1) for log in some if log.logprob is not None]
        if len(said) == len(some):
            tokens = np.concatenate([log.tokens for log in some])
            yield replace(Repeats().check(tokens, np.concatenate(said), **rates[name]), check=name)
        elif which == "both":
            first, second = (np.concatenate([log.prompt[:, None], log.tokens], 1) for log in some)
            alpha, beta = rates["rows again"]["alpha"], rates["rows again"]["beta"]
            yield Again().check(first, second, alpha=alpha, beta=beta, sizes=sizes)


def _parts(
    first: np.ndarray, second: np.ndarray, prompt: np.ndarray | None
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray], int]]:
    """Outcomes of both, and the tokens that make one."""
    n, length = first.shape
    yield "tokens by position", (first, second), 1
    if length > 1:
        base = max(first.max(), second.max()) + 2
        pairs = tuple((x[:, :-1] + 1) * base + x[:, 1:] + 1 for x in (first, second))
        yield "neighbouring tokens", (pairs[0], pairs[1]), 2
    _, code = np.unique(np.concatenate([first, second]), axis=0, return_inverse=True)
    code = code.reshape(-1, 1)
    yield "whole rows", (code[:n], code[n:]), length
    if prompt is not None:
        of = np.unique(prompt, return_inverse=True)[1].reshape(-1, 1) * (max(int(first.max()), int(second.max())) + 2)
        yield "tokens by prompt", (of + first + 1, of + second + 1), 1


def _ends(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row its last token, its length, and which sixteenth of all lengths that is in."""
    lengths = [(x >= 0).sum(1) for x in (first, second)]
    cuts = np.unique(np.quantile(np.concatenate(lengths), np.arange(1, 16) / 16))
    last = [np.where(n > 0, x[np.arange(len(x)), n - 1], -1) for x, n in zip((first, second), lengths, strict=True)]
    parts = [np.stack([x, n, np.searchsorted(cuts, n)], 1) for x, n in zip(last, lengths, strict=True)]
    return parts[0], parts[1]


def _verdict(pair: Pair, evidence: Sequence[Evidence], alpha: float, delta: float | None, floor: float) -> Verdict:
    found = {item.check: item for item in evidence}
    if again := [item for item in evidence if item.check in DEPENDENT and item.rejected]:
        return Verdict(
            Kind.INCONCLUSIVE,
            f"rows are not independent ({again[0].check}: {again[0].detail}); sample with other seeds in each log, one "
            "for each row, and log the array prompt if there are several (greedy decoding has no law to compare)",
        )
    if off := [item for item in evidence if item.rejected]:
        exact, plain = {name: place for place, name in enumerate(EXACT)}, any(item.check in LAWS for item in off)
        told = [item for item in off if not (plain and item.check in LEARNED)]
        worst = min(told, key=lambda item: (exact.get(item.check, len(exact)), item.p_value or 0.0))
        others = [item.check for item in off if item is not worst]
        return Verdict(Kind.REFUTED, f"not the same: {_said(worst)}" + (f" (so {', '.join(others)})" if others else ""))
    main = found[LAWS[0]]
    vague = main.vacuous and (found["frequencies"].vacuous or "surprisal" not in found or found["surprisal"].vacuous)
    if vague or (main.vacuous and delta is not None):
        more = "" if "surprisal" in found else ", or log logprob: the mean of log-probabilities is compared as well"
        return Verdict(Kind.INCONCLUSIVE, f"{main.check}: {main.vacuous}{more}")
    if delta is not None and main.delta > delta:
        enough = math.ceil(main.n * (main.delta / delta) ** 2)
        return Verdict(
            Kind.INCONCLUSIVE,
            f"{main.n:,} rows of each see {main.delta:.3g} (total variation of a position's token), not the {delta:g} "
            f"asked for; some {enough:,} would",
        )
    same = found.get("the same tokens")
    apart = 0.0 if same is None or same.estimate is None else same.estimate
    words = "the same law as far as n shows"
    if same is None and "surprisal" in found:
        words += f", up to log-probabilities that are {floor:g} nats apart (which prompts rows answer is not known)"
    if apart > EQUAL:
        words = f"the same up to bf16 numerics: log-probabilities up to {apart:.3g} nats apart (floor {floor:g})"
    return Verdict(
        Kind.CONSISTENT,
        f"{words}; delta = {_seen(found)}, alpha = {alpha:.2g}, beta = {main.beta:.2g}, n = {main.n:,} rows of each"
        + pair.left,
    )


def _seen(found: Mapping[str, Evidence]) -> str:
    """What would have been seen, of what."""
    main, often, behind = found[LAWS[0]], found["frequencies"], found.get("frequencies by prompt")
    parts = [f"{main.delta:.3g} (total variation of a position's token)"]
    if main.vacuous:
        parts = [f"{found['surprisal'].delta:.3g} (nats a token, of the mean surprisal; each token at a position by "
                 "itself came too seldom)"]  # fmt: skip
    if not often.vacuous:
        parts.append(f"{often.delta:.3g} (how often each token comes, wherever)")
    if (next_ones := found.get("neighbours")) and not next_ones.vacuous:
        parts.append(f"{next_ones.delta:.3g} (which tokens follow which)")
    if behind and not behind.vacuous:
        parts.append(f"{behind.delta:.3g} (the same behind each prompt)")
    together = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
    return together + (" (prompts were not told apart: too few rows of each)" if behind and behind.vacuous else "")


def _said(item: Evidence) -> str:
    """A finding, in the words of its check."""
    if item.check not in (*LAWS, "ends") or not item.coverage["by cells"]:
        return f"{item.check}: {item.detail}"
    one, two, part, others = (int(item.coverage[name]) for name in ("first", "second", "part", "together"))
    others -= 1
    what = f"token {item.coverage['outcome']} at position {part}" + (f" with {others:,} rarer ones" if others else "")
    if item.check == "ends":
        what = f"{ENDS[part].format(item.coverage['outcome'])}{f' and {others:,} rarer kinds' if others else ''}"
    if item.check == "neighbouring tokens":
        what = f"{_several('two tokens', others)} at positions {part} and {part + 1}"
    if item.check == "whole rows":
        what = _several("one row", others)
    if item.check == "tokens by prompt":
        what = f"{_several('one token', others)} at position {part} behind one prompt"
    return f"{item.check}: {what} came {one:,} times in A and {two:,} times in B, of {item.n:,} rows each"


def _several(one: str, others: int) -> str:
    return f"{one}, with {others:,} others that are rarer," if others else one


def _location(evidence: Sequence[Evidence]) -> Mapping[str, Any] | None:
    rejected = [item for item in evidence if item.rejected and item.check == LAWS[0]]
    return {"position": int(rejected[0].coverage["part"])} if rejected else None
