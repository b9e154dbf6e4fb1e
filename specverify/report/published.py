"""What people call decoders and rules by, where these were published, and which parts of a record they are."""

from __future__ import annotations

from dataclasses import dataclass

_VECTORS = " (continuous)"
"""How a record names decoders of vectors."""


@dataclass(frozen=True)
class Method:
    """What people call by one name.

    Attributes:
        name, source: how it is called, and where it was published.
        decoders: of the record, as its verdicts name them.
        rules: relaxed rules of the record, and relaxed decoders.
        wrong: its parts as they were released that the record holds as known to be wrong.
    """

    name: str
    source: str
    decoders: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


METHODS = (
    Method("plain decoding", "", ("ar", "ar-race", "ar (continuous)")),
    Method("SD", "2211.17192", ("sd", "token rule")),
    Method("SD (block verification)", "2403.10444", ("sd-block",)),
    Method("sample-and-match", "", ("sd-match",)),
    Method("SD (several drafts)", "2305.09781", ("sd-multi", "sd-list-gumbel")),
    Method("SJD", "2410.01699", ("sjd",)),
    Method("SJD (block verification)", "2403.10444", ("sjd-block",)),
    Method("SJD (as released)", "2410.01699", wrong=("residual-rewarped",)),
    Method("SJD (Lumina-mGPT 2.0, as released)", "2410.01699", wrong=("residual-only-if-disjoint",)),
    Method("SJD++ (labelled with its own law)", "2512.07503", ("sjd-reuse",)),
    Method("SJD++ (labelled p)", "2512.07503", wrong=("reuse-labelled-target",)),
    Method("SJD-SV", "2609.13245", wrong=("joint-ratio-segments",)),
    Method("SJD-PV", "2603.06666", wrong=("joint-ratio-phrases",)),
    Method("SCD (maximal coupling)", "2510.24211", ("scd-mc",)),
    Method("SCD (Gumbel coupling)", "2510.24211", ("scd-gs",)),
    Method("SCD (as released)", "2510.24211", wrong=("stale-scores-after-coupling",)),
    Method("SJD-PAC (siblings at the cut)", "2603.18599", ("sjd-tree",)),
    Method(
        "SJD-PAC (as released)",
        "2603.18599",
        wrong=("tree-longest-path-wins", "tree-younger-from-residual", "tree-redrawn-from-all"),
    ),
    Method("SJD (shared noise)", "2510.24211", ("sjd-race",)),
    Method("GSD", "2508.07747", rules=("gsd-static", "gsd", "gsd-max", "gsd-gap")),
    Method("GSD (as released)", "2508.07747", rules=("gsd-released",)),
    Method("GSD (cluster residual)", "2508.07747", rules=("gsd-clusters",)),
    Method("LANTERN", "2410.03355", rules=("lantern",)),
    Method("LANTERN++", "2502.06352", rules=("lantern++",)),
    Method("Cool-SD", "2601.09212", rules=("cool",)),
    Method("CASCADE's family (its formula is not public)", "2605.07230", rules=("sd-alike",)),
    Method("entropy-scaled acceptance", "2510.09012", rules=("entropy",)),
    Method("MuLo-SD's threshold", "2601.05149", rules=("threshold",)),
    Method("VVS (steps unverified)", "2511.13587", rules=("vvs",)),
    Method("ZipAR (wavefront)", "2412.04062", rules=("zipar",)),
    Method("typical acceptance", "2401.10774", rules=("typical",)),
    Method("scaled acceptance", "2211.17192", rules=("scaling", "amplify", "mixture")),
    Method(
        "SD (vectors)",
        "2411.11925",
        tuple(f"{name}{_VECTORS}" for name in ("sd", "sd-reflection", "sd-path", "sd-steps", "sd-last"))
        + tuple(
            f"{name} rule{_VECTORS}" for name in ("thinning", "reflection", "maximal", "last-step", "steps", "path")
        ),
    ),
    Method(
        "SJD (vectors)",
        "2410.01699",
        tuple(f"jacobi{name}{_VECTORS}" for name in ("", "-maximal", "-reflection", "-noise", "-steps", "-last")),
    ),
    Method("Drift-AR's acceptance", "2603.28049", wrong=("near-without-a-coin",)),
    Method("CSpD", "2411.11925", wrong=("cspd",)),
    Method("CSpD (as released)", "2411.11925", wrong=("cspd-released",)),
)
"""In the order of the report. Sources are arXiv's numbers."""
