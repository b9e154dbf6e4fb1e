"""What a decoder of continuous tokens was judged on, and what would have been seen, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specverify import judge
from specverify.batteries.vectors import AGAIN, BATCH
from specverify.errors import number_of
from specverify.seeds import BLOCK
from specverify.subjects import continuous_pool
from specverify.subjects.continuous_kept import KEPT
from specverify.subjects.continuous_suite import Setting

_LAWS = {
    "gauss": "Gaussians",
    "equal": "Gaussians",
    "full": "correlated Gaussians",
    "mix": "mixtures",
    "calm": "correlated Gaussians",
    "chain": "linear diffusion heads",
    "forked": "diffusion heads that go one of two ways",
    "varied": "linear diffusion heads with noise that depends on the tokens before",
}


def sentence(seen: Mapping[str, Sequence[float]], delta: float) -> str:
    """What each kind of check would have seen.

    Args:
        seen: the discrepancies that each check sees in each setting, by its name.
        delta: what is seen, of all tokens of a setting.
    """

    def worst(*names: str) -> float:
        return max((value for name in names for value in seen.get(name, ())), default=0.0)

    small = worst(*continuous_pool.PLACES)
    pairs, together = worst("positions", "dimensions", "places", "rows"), worst(*continuous_pool.TOGETHER)
    kept = seen.get(KEPT, ())
    parts = [
        f"a Kolmogorov distance of {delta:.3g} of the transforms of all tokens of a setting",
        *(
            [f"of {small:.2g} (total variation of their cells) in batches of a size, or rows of a place"]
            if small
            else []
        ),
        *(
            [f"a total variation of {pairs:.2g} of the cells of two transforms of a sequence, or of rows at a distance"]
            if pairs
            else []
        ),
        *([f"of {together:.2g} of those of two rows in a small batch"] if 0 < together < 1 else []),
        f"an atom of mass {worst('atoms', 'noise atoms'):.1g}",
        f"copies of a share of {worst('repeats', 'tokens', AGAIN):.1g}",
        *(
            [f"in {number_of(len(kept), 'setting')} first drafts kept {max(kept):.2g} above the overlap"]
            if kept
            else []
        ),
    ]
    return ", ".join(parts)


def box(tried: Sequence[Setting], rows: Sequence[int], small: Sequence[int]) -> str:
    """The range of what was tried, in words.

    Args:
        tried: the settings.
        rows: sequences drawn in each.
        small: sizes of small batches that were played.
    """
    models = [one.model() for one in tried]
    windows = [one.window for one in tried if one.window is not None]
    laws = dict.fromkeys(_LAWS.get(one.toy.split("-")[0], one.toy) for one in tried)
    drafts = dict.fromkeys(one.draft for one in tried if one.draft)
    parts = [
        f"dimensions {_span([model.dim for model in models])}",
        f"lengths {_span([model.length for model in models])}",
        *([f"windows {_span(windows)}"] if windows else []),
        f"batches of {', '.join(map(str, (*small, BATCH)))} and up to {min(BLOCK, max(rows)):,} rows",
        " and ".join(dict.fromkeys(one.dtype for one in tried)),
        ", ".join(laws),
        *([f"drafts {', '.join(drafts)}"] if drafts else []),
    ]
    each = "each of one law, size, draft, window and precision: " if len(tried) > 1 else ""
    return f"{number_of(len(tried), 'setting')}, {number_of(sum(rows), 'sequence')} ({each}{'; '.join(parts)})"


def hardly(tried: Sequence[tuple[Setting, int, int]]) -> list[str]:
    """Where a slip in keeping drafts, or in what replaces them, could not show, in words; nothing if there is no such.

    Args:
        tried: settings, and how many drafts were judged and kept there. Those whose draft model is the law itself, or
            has nothing in common with it, are as they are meant.
    """
    meant = [(str(one), judged, kept) for one, judged, kept in tried if one.draft not in ("identical", "disjoint")]
    few = {
        judge.KEPT: [name for name, judged, kept in meant if judged and kept < judge.SLIGHT],
        judge.REPLACED: [name for name, judged, kept in meant if judged and judged - kept < judge.SLIGHT],
    }
    return [f"{what}, in {', '.join(names)}: fewer than {judge.SLIGHT} were" for what, names in few.items() if names]


def _span(values: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(set(values))))
