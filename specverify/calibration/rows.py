"""The trials of a calibration.

Every check has false alarms on perfect samples (of exact laws, and of lossless decoders that run for real), misses at
the n that it asks for (against alternatives of several kinds, and against decoders whose flaw is tuned so that the
enumerated distance is the stated one) and the law of its p-values. Samples "from the exact law of" a decoder are drawn
from its enumerated law, the others that name a decoder are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial

from specverify.calibration import blackbox, bounds, continuous, counts, dependence, logged, rounds, traces
from specverify.calibration.sources import Source
from specverify.calibration.trial import UNIFORM, Trial, What
from specverify.errors import InputError

ALPHA, BETA = 0.01, 0.05
"""Of the trials of misses."""

REWARPED = Source("residual-rewarped", "ties-3x5")
BONUS = Source("bonus-unwarped", "dense-2x8", draft="perturbed")
DROPPED = Source("params-dropped-on-spec-path", "dense-8x3")
LEAK = Source("residual-smoothing-leak", "dense-3x6", draft="perturbed")


@lru_cache(maxsize=2)
def all_trials(quick: bool = False) -> tuple[Trial, ...]:
    """All trials, in the order in which they are taken up.

    Args:
        quick: a tenth of the repetitions, and none of the trials that are long even so.
    """
    found = tuple(
        trial
        for rows in (_blackbox, _counts, _traces, _logged, _dependence, _continuous, _bounds, _rounds)
        for trial in rows(0.1 if quick else 1.0)
    )
    if len({trial.id for trial in found}) < len(found):
        raise InputError("two trials have one id; name what sets them apart")
    return found


def _counts(share: float) -> Iterator[Trial]:
    for check in counts.TOOLS:
        chi = check.startswith("joint")
        draws = ", Monte Carlo p-values" if chi else ""
        for law, n, alpha, trials, how in (
            ("ties-3x5", 20_000, 0.05, 400 if chi else 1000, draws),
            ("sparse-3x5", 20_000, 0.05, 1000, ""),
            ("sparse-3x5", 20_000, 0.01, 2000, ""),
            ("flat-64", 20_000, 0.05, 1000, ""),
        ):
            if law == "flat-64" and check == "next-token laws":
                continue
            measure = partial(counts.alarms, check=check, law=law, n=n, alpha=alpha)
            yield Trial(check, "false alarms", f"the law of {law}{how}", alpha, _less(trials, share), measure)
        if chi:
            measure = partial(counts.alarms, check=check, law="flat-4", n=20, alpha=0.05)
            yield Trial(check, "false alarms", "the law of flat-4, exact p-values", 0.05, _less(500, share), measure)
            yield Trial(
                check, "uniform p-values", "the law of flat-4, exact p-values", UNIFORM, _less(500, share), measure
            )
            measure = partial(counts.alarms, check=check, law="ties-3x5", n=20_000, alpha=0.05)
            on = f"the law of ties-3x5{draws}"
            yield Trial(check, "uniform p-values", on, UNIFORM, _less(500, share), measure, exact=True)
        measure = partial(counts.alarms, check=check, law="sparse-3x5", n=20_000, alpha=0.05)
        on = "the law of sparse-3x5, none too small"
        yield Trial(check, "uniform p-values", on, UNIFORM, _less(2000, share), measure)
        for source in (Source("sjd", "ties-3x5", 3), Source("scd-mc", "sparse-3x5", 3), Source("ar", "dense-2x8")):
            measure = partial(counts.decoded_alarms, check=check, source=source, n=2000, alpha=0.05)
            yield Trial(check, "false alarms", source.name, 0.05, _less(300, share), measure)
        yield from _counts_misses(check, share)
    measure = partial(counts.prefix_misses, law="ties-3x5", prefix=(0,), delta=0.05, alpha=ALPHA, beta=BETA)
    on = "ties-3x5 with another next-token law after token 0"
    yield Trial("next-token laws", "misses", on, BETA, _less(500, share), measure)
    for law, alpha, trials in (("ties-3x5", 0.05, 200), ("flat-64", 0.05, 500), ("flat-64", 0.01, 500)):
        measure = partial(counts.looks, law=law, alpha=alpha, n=20_000)
        on = f"the law of {law}, {len(counts.look_sizes(20_000))} looks"
        yield Trial("e-process", "optional stopping", on, alpha, _less(trials, share), measure)
    source = Source("sjd", "ties-3x5", 3)
    measure = partial(counts.looks, law="ties-3x5", alpha=0.05, n=20_000, source=source)
    on = f"{source.name}, {len(counts.look_sizes(20_000))} looks"
    yield Trial("e-process", "optional stopping", on, 0.05, _less(200, share), measure)


def _counts_misses(check: str, share: float) -> Iterator[Trial]:
    for law, kind, delta, trials in (
        ("ties-3x5", "spread", 0.02, 300),
        ("ties-3x5", "tempered", 0.02, 300),
        ("ties-3x5", "rarest", 0.05, 300),
        ("flat-64", "spread", 0.01, 500),
        ("flat-64", "dropped", 0.05, 500),
        ("half-201", "halved", 0.2, 200),  # mass moves between one common outcome and 200 rare ones
    ):
        if law in ("flat-64", "half-201") and check == "next-token laws":
            continue
        measure = partial(counts.misses, check=check, law=law, kind=kind, delta=delta, alpha=ALPHA, beta=BETA)
        yield Trial(
            check, "misses", f"an alternative ({kind}) to {law}, off by {delta:g}", BETA, _less(trials, share), measure
        )
    for source, delta in ((REWARPED, 0.01), (BONUS, 0.02), (DROPPED, 0.05), (LEAK, 0.05)):
        found = partial(counts.enumerated_misses, check=check, source=source, delta=delta, alpha=ALPHA, beta=BETA)
        on = f"from the exact law of {source.name}, off by {delta:g}"
        yield Trial(check, "misses", on, BETA, _less(200, share), found)
    if check != "next-token laws" and share == 1:  # it asks for millions of sequences
        for source, trials in ((BONUS, 100), (REWARPED, 50)):
            decoded = partial(counts.decoded_misses, check=check, source=source, delta=0.05, alpha=ALPHA, beta=BETA)
            yield Trial(check, "misses", f"{source.name}, off by 0.05", BETA, trials, decoded)


def _traces(share: float) -> Iterator[Trial]:
    exact = ("PIT uniformity",)
    for check in traces.TOOLS:
        # the e-value of this check is looked at after every sequence
        what: What = "optional stopping" if check == "tempering" else "false alarms"
        for source, alpha, trials in (
            (Source("sjd", "hash-16x24", 4), 0.05, 400),
            (Source("scd-mc", "ties-3x5", 3), 0.01, 1000),
            (Source("ar", "raster-4x6"), 0.05, 1000),
        ):
            measure = partial(traces.alarms, check=check, source=source, rows=128, alpha=alpha)
            yield Trial(check, what, source.name, alpha, _less(trials, share), measure)
        source = Source("scd-mc", "hash-16x24", 4)
        measure = partial(traces.alarms, check=check, source=source, rows=128, alpha=0.05)
        on = source.name + ("" if check in exact else ", none too small")
        yield Trial(check, "uniform p-values", on, UNIFORM, _less(400, share), measure, exact=check in exact)
        if check == traces.ACROSS:
            copied = partial(traces.copied_misses, share=0.1, alpha=ALPHA, beta=BETA)
            yield Trial(
                check, "misses", "tokens that repeat the one above, one in ten", BETA, _less(300, share), copied
            )
            continue
        if check in ("surprisal", "surprisal by position and entropy", "leaks"):
            uneven = partial(traces.uneven_alarms, check=check, alpha=0.001)
            on = "1,000 tokens of a law of (0.999, 0.001)"
            yield Trial(check, "false alarms", on, 0.001, _less(4000, share), uneven)
        if check == "leaks":
            for tail in (1e-10, 1e-30):
                leaked = partial(traces.leaked_misses, tail=tail, delta=0.005, alpha=ALPHA, beta=BETA)
                yield Trial(check, "misses", f"a token of probability {tail:g}", BETA, _less(300, share), leaked)
        if check == "PIT uniformity":
            coins = partial(traces.coin_misses, delta=0.05, alpha=ALPHA, beta=BETA)
            yield Trial(check, "misses", "rows that a coin makes wrong", BETA, _less(200, share), coins)
        if check == "surprisal by position and entropy":
            placed = partial(traces.placed_misses, delta=0.1, alpha=ALPHA, beta=BETA)
            yield Trial(check, "misses", "tokens that are too flat at one position", BETA, _less(300, share), placed)
        if check in ("surprisal by position and entropy", "leaks"):
            continue
        for name, side, how in (
            ("params-dropped-on-spec-path", 0.2, "too flat"),
            ("params-dropped-on-spec-path", 5.0, "too sharp"),
            ("residual-rewarped", 0.1, ""),
        ):
            small = check in ("surprisal", "tempering") and not how  # the mean surprisal, which moves little here
            delta = 0.02 if small else 0.03
            source = Source(name, "dense-3x6", draft="perturbed")
            wrong = partial(traces.misses, check=check, source=source, side=side, delta=delta, alpha=ALPHA, beta=BETA)
            trials = _less(400 if check in ("surprisal", "tempering") else 100, share)
            yield Trial(check, "misses", f"{source.name}{f', {how}' if how else ''}", BETA, trials, wrong)

    for source, rows in ((Source("sjd", "hash-16x24", 4), 64), (Source("scd-mc", "ties-3x5", 3), 256)):
        right = partial(traces.whole_alarms, source=source, rows=rows, alpha=0.05)
        yield Trial("judge_trace", "false alarms", source.name, 0.05, _less(400, share), right)
    source = Source("params-dropped-on-spec-path", "dense-3x6", draft="perturbed")
    wrong = partial(traces.whole_misses, source=source, side=0.2, delta=0.03, alpha=ALPHA, beta=BETA)
    yield Trial("judge_trace", "misses", f"{source.name}, too flat", BETA, _less(100, share), wrong)


def _logged(share: float) -> Iterator[Trial]:
    on = f"{logged.LENGTH} tokens of {logged.VOCAB} ids, each by a law of its own"
    for check in logged.TOOLS:
        measure = partial(logged.alarms, check=check, rows=100, alpha=0.05)
        yield Trial(check, "false alarms", on, 0.05, _less(400, share), measure)
    for check, rows in logged.SEEN.items():
        wrong = partial(logged.misses, check=check, rows=rows, alpha=ALPHA, beta=BETA)
        yield Trial(check, "misses", "tokens off by what it states", BETA, _less(200, share), wrong)


def _dependence(share: float) -> Iterator[Trial]:
    for law, size, alpha in (("ties-3x5", 5000, 0.05), ("flat-64", 2000, 0.01)):
        measure = partial(dependence.dispersion_alarms, law=law, size=size, batches=20, alpha=alpha)
        yield Trial("dispersion", "false alarms", f"the law of {law}", alpha, _less(1000, share), measure)
        for copied in ("within", "between"):
            wrong = partial(
                dependence.dispersion_misses, law=law, size=size, copied=copied, delta=0.05, alpha=ALPHA, beta=BETA
            )
            on = f"{law}, copies {copied} batches"
            yield Trial("dispersion", "misses", on, BETA, _less(300, share), wrong)
    measure = partial(dependence.dispersion_alarms, law="ties-3x5", size=5000, batches=20, alpha=0.05)
    yield Trial(
        "dispersion", "uniform p-values", "the law of ties-3x5", UNIFORM, _less(2000, share), measure, exact=True
    )
    if share == 1:
        source = Source("sjd", "ties-3x5", 3)
        decoded = partial(dependence.dispersion_alarms, law="ties-3x5", size=2000, batches=8, alpha=0.05, source=source)
        yield Trial("dispersion", "false alarms", source.name, 0.05, 200, decoded)
    for toy in ("ties-3x5", "markov-8x32"):
        source = Source("sjd", toy, 4)
        measure = partial(dependence.copies_alarms, source=source, rows=300, alpha=0.05)
        yield Trial("copies", "false alarms", source.name, 0.05, _less(300, share), measure)
        on = f"{source.name}, none too small"
        yield Trial("copies", "uniform p-values", on, UNIFORM, _less(300, share), measure)
        wrong = partial(dependence.copies_misses, source=source, delta=0.1, alpha=ALPHA, beta=BETA)
        yield Trial("copies", "misses", f"{source.name}, one row in ten copied", BETA, _less(300, share), wrong)
    for toy in ("dense-3x6", "markov-8x32"):
        source = Source("sjd", toy, 4)
        measure = partial(dependence.repeated_alarms, source=source, rows=300, alpha=0.05)
        yield Trial("repeated rows", "false alarms", source.name, 0.05, _less(500, share), measure)
    wrong = partial(dependence.repeated_misses, source=source, rows=300, alpha=ALPHA, beta=BETA)
    yield Trial("repeated rows", "misses", f"{source.name}, rows copied", BETA, _less(300, share), wrong)


def _continuous(share: float) -> Iterator[Trial]:
    for check in continuous.TOOLS:
        measure = partial(continuous.alarms, check=check, n=100, alpha=0.05)
        on = "standard normal samples"
        yield Trial(check, "false alarms", on, 0.05, _less(1000, share), measure)
        yield Trial(check, "uniform p-values", f"{on}, none too small", UNIFORM, _less(1000, share), measure)
        wrong = partial(continuous.misses, check=check, delta=0.1, alpha=ALPHA, beta=BETA)
        yield Trial(check, "misses", "normal samples that are shifted", BETA, _less(300, share), wrong)


def _bounds(share: float) -> Iterator[Trial]:
    for check in bounds.TOOLS:
        measure = partial(bounds.alarms, check=check, n=400, alpha=0.05)
        on = "what is as it should be"
        yield Trial(check, "false alarms", on, 0.05, _less(1000, share), measure)
        yield Trial(check, "uniform p-values", f"{on}, none too small", UNIFORM, _less(1000, share), measure)
        wrong = partial(bounds.misses, check=check, alpha=ALPHA, beta=BETA)
        yield Trial(check, "misses", f"what is off by {bounds.DELTA:g}", BETA, _less(300, share), wrong)
    measure = partial(bounds.looks, n=20_000, alpha=0.05)
    yield Trial("mean ratio", "optional stopping", "ratios of normal laws", 0.05, _less(300, share), measure)


def _blackbox(share: float) -> Iterator[Trial]:
    check = "judge_sampler"
    if share == 1:
        for kind, beta, how in (
            ("spread", 0.01, "planned for 1% of misses"),
            ("spread", 1e-6, "at the default rates"),
            (None, 1e-6, "at the default rates"),
        ):
            wrong = partial(blackbox.engine_misses, source=REWARPED, kind=kind, delta=0.01, alpha=1e-6, beta=beta)
            on = f"an alternative ({kind}) to {REWARPED.toy}" if kind else f"from the exact law of {REWARPED.name}"
            yield Trial(check, "misses", f"{on}, off by 0.01, {how}", 0.01, 1000, wrong)
        whole = partial(blackbox.whole_misses, source=REWARPED, delta=0.01, alpha=1e-6, beta=0.01)
        yield Trial(check, "misses", f"{REWARPED.name}, off by 0.01, whole judgements", 0.01, 10, whole)
    else:
        wrong = partial(blackbox.engine_misses, source=REWARPED, kind=None, delta=0.01, alpha=1e-6, beta=0.01)
        on = f"from the exact law of {REWARPED.name}, off by 0.01, planned for 1% of misses"
        yield Trial(check, "misses", on, 0.01, 20, wrong)
    for toy, decoded, delta, alpha, trials in (
        ("sparse-3x5", False, 0.05, 0.05, 400),
        ("sparse-3x5", False, 0.05, 0.01, 400),
        ("ties-3x5", True, 0.1, 0.05, 100),
        ("hash-16x24", True, 0.05, 0.05, 60),
    ):
        source = Source("sjd", toy, 3)
        right = partial(blackbox.engine_alarms, source=source, decoded=decoded, delta=delta, alpha=alpha)
        on = source.name if decoded else f"the law of {toy}"
        yield Trial(check, "false alarms", on, alpha, _less(trials, share), right)
    if share == 1:
        source = Source("scd-mc", "ties-3x5", 2)
        right = partial(blackbox.whole_alarms, source=source, suite="tiny", delta=0.1, alpha=0.05)
        yield Trial(check, "false alarms", "scd-mc on the tiny suite, whole judgements", 0.05, 50, right)


def _rounds(share: float) -> Iterator[Trial]:
    for check, measure in rounds.TOOLS.items():
        right = partial(measure, check=check, delta=0.0, alpha=0.05, beta=0.1)
        yield Trial(check, "false alarms", "what is as it should be", 0.05, _less(1000, share), right)
        wrong = partial(measure, check=check, delta=0.1, alpha=ALPHA, beta=BETA)
        on = "one of three strata off by 0.1" if measure is rounds.pooled else "what is off by 0.1 a row"
        yield Trial(check, "misses", on, BETA, _less(300, share), wrong)
    name = "token-rule"
    right = partial(rounds.alarms, name=name, delta=0.2, alpha=0.05)
    yield Trial("judge_round", "false alarms", f"{name}, whole judgements", 0.05, _less(100, share), right)
    wrong = partial(rounds.misses, name=name, delta=0.2, alpha=0.05, beta=0.1)
    on = f"{name} that strays by 0.2, whole judgements"
    yield Trial("judge_round", "misses", on, 0.1, _less(100, share), wrong)


def _less(trials: int, share: float) -> int:
    """Repetitions, at least 20."""
    return max(20, round(trials * share))
