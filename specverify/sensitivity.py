"""What a cell on the real model would have shown: every known-wrong decoder that runs there, and how far off it is.

A cell that is CONSISTENT has seen nothing of the size that its checks can see; which slips are of that size is measured
here, once, and kept as data (`sensitivity.json`). `python -m specverify.sensitivity` measures it anew, on a CPU in some
ten minutes; with `--new` only what the catalogue has got since. How many images a check needs is not kept: it is the
check's own `sample_size`, at the alpha of the day.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from scipy import stats

from specverify import defects, tree
from specverify.declared import Initial
from specverify.decoders import sample
from specverify.decoders.registry import Settings
from specverify.errors import InputError
from specverify.evidence.distance import deviation
from specverify.evidence.pit import PitUniformity
from specverify.evidence.surprisal import Surprisal
from specverify.evidence.tokens import TokenStatistics, traced
from specverify.files import write_atomically
from specverify.report.shape import Sensitivity, Shown
from specverify.report.shape_cells import Cell, run_of
from specverify.seeds import derived_seed

MODEL, WINDOW, GUIDANCE = "digits-s", 16, 1.0
INITIAL: Initial = "repeat-left"
"""With those above, the setting that all were measured in."""
TOKENS = 64
"""Of an image."""
FILE = Path(__file__).with_name("sensitivity.json")
COMMAND = "python -m specverify.sensitivity"
SEED, BATCH, FIRST, MOST = 0, 400, 1600, 12800
"""Images are drawn until one figure is known to a part in `SHARP`, or until there are `MOST` of them."""
SHARP = 0.15
FEWEST = 16
"""Images, some thousand tokens, below which the surprisal check's rates are not known."""


@dataclass(frozen=True)
class Slip:
    """How far a known-wrong decoder is off on the real model.

    Attributes:
        defect: its name in the catalogue.
        kolmogorov: distance from uniform of the transforms of its tokens, and what that may be off by (95%).
        kolmogorov_error: see there.
        nats: surprisal of its tokens less the entropy of the target's laws, per token that had a choice.
        nats_error: half the width of its 95% interval.
        deviation: standard deviation of a token's surprisal under the target.
        open: share of tokens that had a choice.
        images: that this was measured on.
    """

    defect: str
    kolmogorov: float
    kolmogorov_error: float
    nats: float
    nats_error: float
    deviation: float
    open: float
    images: int

    @property
    def told(self) -> bool:
        """Whether a figure is told from 0 on as many images as were measured: by twice what it may be off."""
        return self.kolmogorov > 2 * self.kolmogorov_error or abs(self.nats) > 2 * self.nats_error

    def shown(self, images: int, alpha: float, beta: float) -> bool:
        """Whether one of the two checks on so many images misses this with probability at most `beta`."""
        tokens = images * TOKENS
        far = self.kolmogorov >= PitUniformity().smallest_detectable(tokens, alpha=alpha, beta=beta)
        check = Surprisal(self.deviation)
        used = max(1, int(tokens * self.open))
        return (
            self.told
            and images >= FEWEST
            and (far or abs(self.nats) >= check.smallest_detectable(used, alpha=alpha, beta=beta))
        )

    def needed(self, alpha: float, beta: float) -> int | None:
        """Images with which it is `shown`; None where it is not `told` from nothing."""
        found = []
        if self.kolmogorov > 2 * self.kolmogorov_error:
            found.append(PitUniformity().sample_size(self.kolmogorov, alpha=alpha, beta=beta) / TOKENS)
        if abs(self.nats) > 2 * self.nats_error:
            n = Surprisal(self.deviation).sample_size(abs(self.nats), alpha=alpha, beta=beta)
            found.append(n / (TOKENS * self.open))
        return max(FEWEST, math.ceil(min(found))) if found else None


@functools.cache
def slips() -> tuple[Slip, ...]:
    """What was measured, smallest first.

    Raises:
        InputError: if the data are missing or damaged.
    """
    try:
        found = json.loads(FILE.read_text(encoding="utf-8"))["slips"]
        return tuple(sorted((Slip(**one) for one in found), key=lambda one: (one.kolmogorov, one.defect)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{FILE} cannot be read ({error!r}); `{COMMAND}` measures it anew") from None


def beside(results: Sequence[Cell]) -> Sensitivity | None:
    """What stands in a campaign's record beside its real cells; None where there is none on this model.

    Args:
        results: of cells that were carried out.
    """
    real = [r for r in results if r["kind"] == "real" and r["model"] == MODEL and r["run"] and r["evidence"]]
    if not real:
        return None
    images = min(run_of(r)["n"] for r in real)
    evidence = [e for r in real for e in r["evidence"]]
    alpha, beta = min(e["alpha"] for e in evidence), min(e["beta"] for e in evidence)
    rows: list[Shown] = []
    for slip in slips():
        needed = slip.needed(alpha, beta)
        kept = {name: value for name, value in asdict(slip).items() if name not in ("deviation", "open")}
        shown = needed is not None and needed <= images
        rows.append(cast("Shown", kept | {"needed": needed, "shown": shown}))
    return {
        "command": COMMAND,
        "model": MODEL,
        "window": WINDOW,
        "guidance": GUIDANCE,
        "images": images,
        "alpha": alpha,
        "beta": beta,
        "rows": rows,
    }


def unseen(images: int, alpha: float, beta: float) -> str:
    """What a cell of so many images that saw nothing would have missed, in a few words; empty if nothing."""
    hidden = [slip for slip in slips() if slip.told and not slip.shown(images, alpha, beta)]
    names = ", ".join(f"{slip.defect} ({slip.kolmogorov:.4f} Kolmogorov)" for slip in hidden)
    return f"as measured at window {WINDOW}, it would have missed {names}" if names else ""


def missed(seen: Sensitivity | None) -> list[str]:
    """What real cells of that size would not have seen, as lines for what was not covered."""
    if seen is None:
        return []
    hidden = [row for row in seen["rows"] if not row["shown"]]
    slight = [row for row in hidden if row["needed"] is not None]
    nothing = [row["defect"] for row in hidden if row["needed"] is None]
    where = f"{seen['images']:,} images of {seen['model']} at window {seen['window']}, guidance {seen['guidance']:g}"
    lines = []
    if slight:
        words = "; ".join(
            f"{row['defect']} ({row['kolmogorov']:.4f} Kolmogorov, {abs(row['nats']):.4f} nats a token, seen from "
            f"{row['needed']:,} images on)"
            for row in slight
        )
        lines.append(f"CONSISTENT with {where}, would have missed known-wrong decoders: {words}")
    if nothing:
        most = max(row["images"] for row in hidden if row["needed"] is None)
        names = ", ".join(nothing)
        lines.append(f"known-wrong decoders not told from the target on {most:,} images there, nor seen: {names}")
    if unmeasured := set(candidates()) - {row["defect"] for row in seen["rows"]}:
        lines.append(
            f"known-wrong decoders not measured on {seen['model']}: {', '.join(sorted(unmeasured))}; {COMMAND}"
        )
    return lines


def candidates() -> tuple[str, ...]:
    """Known-wrong decoders that need nothing which the model lacks: a draft model, an end, a toy's state."""
    wrong = (defects.get(name) for name in defects.names())
    return tuple(one.id for one in wrong if one.lossy and not one.needs)


def measure(name: str) -> Slip:
    """Run a defect on the real model until its figures are sharp."""
    from realmodels.models import open_model

    model = open_model(MODEL, guidance=GUIDANCE)
    decoder = defects.get(name).build(Settings(window=WINDOW, initial=INITIAL))
    generator = np.random.default_rng(derived_seed(SEED, 1))
    parts: list[TokenStatistics] = []
    drawn, more = 0, FIRST
    while True:
        tokens = sample(decoder, model, more, SEED, BATCH, first_block=drawn // BATCH).tokens
        parts.append(traced(model, tokens, BATCH, generator))
        drawn += more
        slip = summary(name, tree.join(parts))
        sharp = slip.kolmogorov_error <= SHARP * slip.kolmogorov or slip.nats_error <= SHARP * abs(slip.nats)
        if sharp or drawn >= MOST:
            return slip
        more = drawn


def summary(name: str, trace: TokenStatistics) -> Slip:
    """The figures of a trace. Rows are independent, so that the spread over them is that of the mean."""
    used = trace.open.numpy()
    excess = np.where(used, trace.surprisal.numpy() - trace.entropy.numpy(), 0.0).sum(1)
    count = used.sum(1)
    mean = excess.sum() / count.sum()
    spread = (excess - mean * count).std(ddof=1) / count.mean() / math.sqrt(len(count))
    pit = np.sort(trace.pit.numpy().ravel())
    distance = stats.kstest(pit, "uniform").statistic
    return Slip(
        name,
        round(float(distance), 5),
        round(deviation(pit.size, 0.025), 5),
        round(float(mean), 5),
        round(float(1.96 * spread), 5),
        round(math.sqrt(float(trace.variance.numpy()[used].mean())), 5),
        round(float(used.mean()), 5),
        len(used),
    )


def save(found: Iterable[Slip]) -> None:
    """Keep what was measured."""
    rows = ",\n".join(json.dumps(asdict(one)) for one in found)
    head = {"command": COMMAND, "model": MODEL, "window": WINDOW, "initial": INITIAL, "guidance": GUIDANCE}
    start = json.dumps(head | {"seed": SEED, "batch": BATCH, "torch": torch.__version__})
    write_atomically(FILE, f'{start[:-1]}, "slips": [\n{rows}\n]}}\n'.encode())


if __name__ == "__main__":
    known = {slip.defect: slip for slip in slips()} if FILE.exists() and "--new" in sys.argv else {}
    kept: list[Slip] = []
    for each in candidates():
        kept.append(known.get(each) or measure(each))
        print(kept[-1], file=sys.stderr)
    save(kept)
