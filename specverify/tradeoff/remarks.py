"""What a person must know to read a sweep's answer: what holds together, what is noise, and what was not measured."""

from __future__ import annotations

from collections.abc import Sequence

from specverify.errors import number_of
from specverify.rules import registry
from specverify.tradeoff import decoders
from specverify.tradeoff.choose import CONFIDENCE, NOTHING, Choice, Contender, by_rule, loss, settings, without_effect
from specverify.tradeoff.choose_clock import fastest_of_all, together
from specverify.tradeoff.clock import CLOCKS, basis
from specverify.tradeoff.plan import AR, DRAFTING, LOSSLESS, repeats, sweep_of
from specverify.tradeoff.shape import Row, Sweep, Timed

BY_RULE = "0 by its rule, not measured"
_NOISE = {"fd": "FD", "kd": "KD", "accuracy": "accuracy"}


def remarks(record: Sweep, choices: Sequence[Choice]) -> list[str]:
    """All of them, in sentences; without an answer those that do not need one."""
    said = [noise(record), basis(record)]
    if choices:
        said = [_limits(choices), _by_laws(record, choices), *said, _whatever_it_loses(record, choices[0].metric)]
    return [one for one in (*said, unmeasured(record), without_effect(record)) if one]


def lost(row: Row, metric: str, one: Contender) -> str:
    """A loss with its limit, unless nothing was measured."""
    if by_rule(row, metric, one.loss):
        return BY_RULE
    return f"{plain(one.loss)}, at most {plain(one.most)}"


def plain(value: float) -> str:
    """A figure; rounding is 0."""
    return f"{value:.3g}" if abs(value) >= NOTHING else "0"


def noise(record: Sweep) -> str:
    """How far two runs of one law lie apart: what is nearer is not told from it. Empty without two plain runs."""
    apart: dict[str, list[tuple[float, float]]] = {}
    scales = []
    for scale in dict.fromkeys(row["guidance"] for row in record["rows"] if row["rule"] == AR):
        runs = [row for row in record["rows"] if row["rule"] == AR and row["guidance"] == scale and not row["error"]]
        if len(runs) == 2:
            scales.append(f"{scale:g}")
            for name in _NOISE:
                if name in runs[0]["metrics"]:
                    found = loss(record, runs[0], name)
                    apart.setdefault(name, []).append((abs(found.value), found.interval[1] - found.value))
    if not apart:
        return ""
    parts = [
        f"{' and '.join(f'{value:.3g}' for value, _ in found)} in {_NOISE[name]} (95% of such pairs by up to "
        f"{max(reach for _, reach in found):.2g})"
        for name, found in apart.items()
    ]
    where = f" at guidance {' and '.join(scales)}" if len(scales) > 1 else ""
    said = (
        f"Two plain runs, of one law, differ here by {', '.join(parts)}{where}: on {record['setting']['n']:,} images "
        "of each, smaller differences between settings say nothing"
    )
    rows = [row for row in settings(record) if "fd" in row["metrics"]]
    if rows and "fd" in apart:
        same = sum(low <= 0 <= high for low, high in (loss(record, row, "fd").interval for row in rows))
        said += f", and {same} of {number_of(len(rows), 'setting')} are not told from plain decoding by FD"
    return f"{said}."


def unmeasured(record: Sweep) -> str:
    """What the registries have and the sweep has not; empty if nothing."""
    rows = [row for row in record["rows"] if row["error"] is None]
    there = {row["rule"] for row in rows}
    patches = record["tokens"] == "patches"
    model = record["setting"]["model"]
    if patches:
        names = [name for name in decoders.names() if decoders.why_not(name, model) is None]
    else:
        names = [LOSSLESS, *registry.names()]
    absent = [name for name in names if name not in there and not repeats(name)]
    parts = [f"{'decoders' if patches else 'rules'} {', '.join(absent)}"] if absent else []
    if not patches:
        kinds = [kind for kind in DRAFTING if kind not in {row["drafting"] for row in rows}]
        parts += [f"drafting {', '.join(kinds)}"] if kinds else []
        values = {name: {row["value"] for row in rows if row["rule"] == name} for name in there & set(registry.names())}
        fewer = sorted(name for name, found in values.items() if len(found) < len(sweep_of(name)))
        parts += [f"some values of {', '.join(fewer)}"] if fewer else []
    said = f"Not measured, and so in no answer: {'; '.join(parts)}." if parts else ""
    if unknown := [row["id"] for row in rows if row.get("looked") is not None and "bias" not in row["metrics"]]:
        said += f" Too few steps of {', '.join(unknown)} were priced to know gain and bias; more images are needed."
    if windows := _of_one_value(rows):
        several = f"windows {', '.join(map(str, windows))} were" if len(windows) > 1 else f"window {windows[0]} was"
        said += f" At one value of each parameter alone {several} measured."
    return said.strip()


def _of_one_value(rows: Sequence[Row]) -> list[int]:
    """Windows at which each parameter had one value, where another window had several."""
    values: dict[int, dict[tuple[object, ...], set[float | None]]] = {}
    for row in rows:
        if row["window"] is not None and row["rule"] not in (AR, LOSSLESS) and row["parameter"] is not None:
            key = row["guidance"], row["drafting"], row["rule"], row["parameter"]
            values.setdefault(row["window"], {}).setdefault(key, set()).add(row["value"])
    most = {window: max(map(len, found.values())) for window, found in values.items()}
    return [window for window in sorted(most) if most[window] == 1 and max(most.values()) > 1]


def _limits(choices: Sequence[Choice]) -> str:
    settings_, share = number_of(choices[0].compared, "setting"), f"{CONFIDENCE:.0%}"
    timed = together(choices) // len(CLOCKS)
    of_time = "all of them" if choices[0].by == "speed-up" else f"{number_of(timed, 'setting')} within the loss"
    seconds = f"; all those of seconds with {share}, for {of_time} by both clocks" if timed else ""
    least = 1 - (3 if timed else 2) * (1 - CONFIDENCE)
    return (
        "At least and at most are normal limits: Student's quantiles of the bootstrap's deviation, those of seconds of "
        f"the drift of runs. All those of loss hold with {share}, for {settings_} at once; all those of passes with "
        f"{share}{seconds}; everything together with at least {least:.0%}. What stands in square brackets is a "
        "95% interval of a setting alone."
    )


def _by_laws(record: Sweep, choices: Sequence[Choice]) -> str:
    rows = {row["id"]: row for row in record["rows"]}
    named = [one for choice in choices for one in (choice.chosen, choice.free) if one is not None]
    if not any(by_rule(rows[one.id], choices[0].metric, one.loss) for one in named):
        return ""
    return (
        "Bias is computed from the laws by which a decoder says that it judges: of one that claims to be lossless it "
        "is 0 whatever its tokens are, and tests nothing. What tests it are z, the surprisal of its tokens in standard "
        "deviations, and FD, of its images."
    )


def _whatever_it_loses(record: Sweep, metric: str) -> str:
    rows, parts = {row["id"]: row for row in record["rows"]}, []
    clocks: tuple[tuple[Timed, str], ...] = (("seconds_alone", "one image alone"), ("seconds_per_image", "in a batch"))
    for what, where in clocks:
        found = fastest_of_all(record, what)
        if found is None:
            continue
        name, own = found
        value = plain(loss(record, rows[name], metric).value)
        parts.append(f"{where} {name}, {own.words(' times as fast')}, at a loss of {metric} of {value}")
    return f"Of those measured the fastest, whatever it loses, is {'; '.join(parts)}." if parts else ""
