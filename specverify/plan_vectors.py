"""Which decoders of vectors are checked: one step of a rule by quadrature, and whole sequences on toys."""

from __future__ import annotations

from specverify import declared
from specverify.cell import Asked, Cell

BESIDE = (
    ("sd", "gauss-1x6", "shifted"),
    ("sd-reflection", "gauss-1x6", "shifted"),
    ("ar", "full-2x4", None),
    ("sd", "mix-2x4", "narrower"),
    ("sd-reflection", "full-2x4", "shifted"),
    ("sd", "full-8x4", "wider"),
    ("sd-steps", "chain-8x3", "shifted"),
    ("jacobi-noise", "gauss-8x4", None),
    ("sd-reflection", "gauss-16x4", "shifted"),
    ("jacobi-maximal", "gauss-16x4", None),
    # Only where a law's covariance does not depend on the tokens before can Jacobi decoding reflect its drafts.
    ("jacobi-reflection", "equal-1x6", None),
    ("jacobi-reflection", "equal-4x4", None),
    ("jacobi-reflection", "equal-16x4", None),
)
"""Decoders of continuous tokens that are checked on more toys than the smallest in the quick tier."""


def continuous(asked: Asked) -> list[Cell]:
    """Every decoder of continuous tokens on a toy of one dimension, and some on more; all on all for a release.

    The known-wrong ones come first, where they show, and their control.
    """
    values = 1_000_000 if asked.full else 360_000
    toys = {"heads": ("chain",), "gaussian": ("gauss", "full", "equal")}
    chosen: list[tuple[str, str, str | None]] = []
    for name in declared.decoders_of("vectors"):
        entry = declared.decoder(name)
        families = toys.get(entry.vectors or "any", ("gauss", "full", "mix", "chain", "equal"))
        models = [model for model in declared.continuous_toys() if model.split("-")[0] in families]
        drafts: tuple[str | None, ...] = ("wider", "narrower", "shifted") if asked.full else ("wider",)
        if not entry.needs_draft_model:
            drafts = (None,)
        elif name.startswith("cspd"):
            # As published it is exact where drafts are shifted, and in 16 dimensions where they are narrower: Sigma is
            # then next to 0, no draft is kept, and when all proposals have failed the target's last step is drawn.
            drafts, models = drafts[:2], [model for model in models if "16x" not in model]
        chosen += [(name, model, draft) for model in (models if asked.full else models[:1]) for draft in drafts]
    chosen += [] if asked.full else BESIDE
    defects = declared.continuous_known_wrong()
    known: list[tuple[str, str, int | None, str | None]] = [
        (name, *smallest) for name, smallest in (defects | declared.continuous_known_wrong(controls=True)).items()
    ]
    known += [(name, model, None if name == "ar" else 3, draft) for name, model, draft in chosen]
    wrong = {"cspd", "cspd-released"} | {*defects}
    found = []
    for name, model, window, draft in known:
        dim, length = (int(part) for part in model.split("-")[1].split("x"))
        n = -(-values // (dim * length)) // (10 if name in wrong else 1)
        found.append(Cell("continuous", name, model, window, draft=draft, n=n))
    return found


def density(asked: Asked) -> list[Cell]:
    """Rules of one step over continuous tokens: the exact ones, and CSpD wherever its factor Sigma is not 1, or is."""
    gauss, altered = "gauss-1x6", ("shifted", "wider", "narrower")
    chosen = [("thinning", model, draft) for model in (gauss, "mix-1x6") for draft in altered]
    chosen += [("thinning", gauss, "disjoint"), ("reflection", gauss, "shifted")]
    chosen += [("maximal", gauss, draft) for draft in ("wider", "narrower")]
    for rule in ("last-step", "steps", "path"):
        chosen += [(rule, model, draft) for model in ("chain-1x4", "score-1x4") for draft in altered]
    slips = ("inverted-factor", "acceptance-temperature", "zero-after-100", "released")
    for draft in ("wider", "narrower"):
        chosen += [(name, "chain-1x4", draft) for name in ("cspd", *(f"cspd-{slip}" for slip in slips))]
    for model, draft in (("score-1x4", "wider"), ("score-1x4", "shifted"), ("chain-1x4", "shifted")):
        chosen += [("cspd", model, draft), ("cspd-released", model, draft)]
    chosen.append(("cspd-acceptance-temperature", "chain-1x4", "shifted"))
    return [Cell("density", rule, model, draft=draft) for rule, model, draft in chosen]
