"""What a judgement of a kernel holds for, and what it says nothing about."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from specverify.subjects.rounds import batches
from specverify.subjects.rounds.calls import MOST_BYTES, MOST_ROWS
from specverify.subjects.rounds.kernel import Kernel
from specverify.subjects.rounds.kinds import STRIDE, TILE
from specverify.subjects.rounds.sampling import Trial


def box(
    kernel: Kernel, slots: Sequence[int], trials: Sequence[Trial], sizes: Sequence[int], dropped: Collection[int]
) -> str:
    """Vocabularies, drafts per row, batch sizes and dtypes that were played, in a few words.

    Args:
        slots: for drafts: those asked for, then those of the longer windows.
        trials: what was played by sampling.
        sizes: of the batches that were tested apart; none if they were not.
        dropped: vocabularies over which not all was played.
    """
    plain = {trial.contexts.vocab for trial in trials if trial.dtype is None}
    vocabularies = sorted(plain - {*dropped} or {3})
    others: dict[str, set[int]] = {}
    for trial in trials:
        if trial.dtype is not None and trial.played:
            others.setdefault(trial.kind, set()).add(trial.contexts.vocab)
    if kernel.batch == "single":
        rows = "one row at a time"
    elif tuple(sizes) == batches.SIZES:
        rows = f"batches of {batches.BOX} rows"
    elif sizes:
        rows = f"batches of {len(sizes)} sizes from {min(sizes)} to {max(sizes):,} rows"
    else:
        rows = "large batches only"
    drafts = f"{kernel.fewest} to {slots[0]} drafts per row" + (
        f" (windows of {_listed(map(str, slots[1:]))} beside)" if len(slots) > 1 else ""
    )
    tokens = f"vocabularies of {_listed(f'{size:,}' for size in vocabularies)} tokens"
    dtypes = "float32"
    if others:
        common = sorted(set.intersection(*others.values()))
        dtypes += f" and, over {_listed(f'{size:,}' for size in common)} tokens, {_listed(others)}"
    return f"{tokens}, {drafts}, {rows}, {dtypes}"


def gaps(
    kernel: Kernel,
    slots: Sequence[int],
    checks: Collection[str],
    names: Collection[str] | None,
    bonus: int,
    sizes: Sequence[int],
    ended: bool,
) -> list[str]:
    """What the judgement says nothing about; never empty.

    Args:
        slots: for drafts: those asked for, then those of the longer windows.
        bonus: bonus tokens that were emitted.
        sizes: of the batches that were tested apart.
        ended: whether a fault ended the judgement, so that what was not played says nothing of the kernel.
    """
    found = ["whatever would have come after what is found: it ends the judgement"] if ended else []
    found += [
        f"more than {slots[-1]} drafts, trees of drafts, drafts to which q gives no probability",
        "vocabularies other than those named; of 16 to 1,031 tokens, and of 33,013, more than four that can come, of "
        f"1,024 and more what neither tiles of {TILE} tokens nor places in them show, and what is recovered behind the "
        "first position",
        f"batches above {MOST_ROWS:,} rows, or whose laws take more than {MOST_BYTES >> 20} MiB a tensor",
    ]
    if len(slots) > 1:
        found.append(
            f"windows other than {_listed(map(str, slots))}; beyond {slots[0]} drafts, more than two slots that have a "
            f"choice, or two that are not {STRIDE} apart, more than two tokens and other dtypes"
        )
    if "batches" in checks and kernel.batch != "single":
        found.append(f"slips at one place of one batch size, or at sizes other than {batches.BOX}")
        found.append(f"batches of each of these sizes over more than {batches.TOKENS} tokens, or in other dtypes")
        if not ended and (dropped := len(batches.SIZES) - len(sizes)):
            found.append(f"{dropped} of those batch sizes, which were not played")
    if names is not None:
        found.append(f"contexts other than {', '.join(sorted(names))}")
    for absent, what in (
        (kernel.fewest > 0, "rows without drafts, which this convention has not"),
        (not kernel.certain, "drafts without a law (q = None), which this convention has not"),
        (kernel.batch == "equal", "rows with different numbers of drafts in one call, which this convention has not"),
        (kernel.batch == "single", "batches: this convention takes one row at a time"),
        (kernel.with_coins is None, "coins that are too rare to be drawn, such as exactly 0: it draws its own"),
        (kernel.with_coins and "forced-coins" not in checks, "forced coins, which were not asked for"),
        ("nan-rows" not in checks, "draft laws of NaN, which were not asked for"),
        ("laws" not in checks, "laws by sampling, which were not asked for"),
        ("independence" not in checks, "whether rows and calls are independent, which was not asked for"),
        ("batches" not in checks, "small batches and single places in them, which were not asked for"),
        ("laws" in checks and not bonus and not ended, "bonus tokens: none was emitted"),
    ):
        if absent:
            found.append(what)
    return found


def _listed(names: Iterable[str]) -> str:
    parts = list(names)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
