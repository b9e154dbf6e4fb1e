"""Figures of papers, to stand beside those that are measured: passes are compared, seconds never across papers.

Plain decoding of one and the same workload takes 79 to 197 seconds in different papers. Where a paper names no
hardware in the table that the figure is from, none stands here.
"""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """One row of a table.

    Attributes:
        source: the paper.
        model: and what its images are of.
        decoder: and its window or group size, where it is named.
        passes: of the target an image.
        plain: passes of plain decoding there.
        seconds: an image, None where it is not said.
        hardware: as far as it is said.
        quality: as the paper measures it.
    """

    source: str
    model: str
    decoder: str
    passes: float
    plain: float
    seconds: float | None
    hardware: str
    quality: str


_SCD, _GSD, _SV = "SCD, arXiv 2510.24211", "GSD, arXiv 2508.07747", "SJD-SV (ICML 2026)"
_LUMINA, _PARTI = "Lumina-mGPT-7B-768, COCO", "Lumina-mGPT-7B-768, Parti"
FIGURES = (
    Figure(_SV, _LUMINA, "SJD", 1058.6, 2379, 40.10, "A100", "FID 30.78"),
    Figure(_SCD, _LUMINA, "AR", 2390, 2390, 102.0, "", "FID 30.79"),
    Figure(_SCD, _LUMINA, "SJD, window 64", 1036, 2390, 43.0, "", "FID 30.81"),
    Figure(_SCD, _LUMINA, "SCD maximal, window 64", 568, 2390, 24.4, "", "FID 30.83"),
    Figure(_SCD, _LUMINA, "SCD Gumbel, window 64", 568, 2390, 24.2, "", "FID 30.90"),
    Figure(_SCD, _LUMINA, "GSD, groups of 10", 701, 2390, None, "", "FID 33.21"),
    Figure(_SCD, "Janus-Pro-7B, COCO", "SJD, window 32", 318, 576, 10.6, "", "FID 37.76"),
    Figure(_SCD, "Janus-Pro-7B, COCO", "SCD Gumbel, window 32", 154, 576, 5.39, "", "FID 37.49"),
    Figure(_GSD, _PARTI, "SJD", 1035, 2392, 52.34, "", "CLIP 32.090"),
    Figure(_GSD, _PARTI, "GSD, groups of 50", 637, 2392, None, "", "CLIP 32.075"),
    Figure("PJD, arXiv 2606.05703", "LlamaGen-XL", "GSD", 383, 1024, None, "", "FID 47.13 beside 45.02"),
)
"""GSD's own table has 24.13 s for groups of 50, where its other rows' milliseconds a pass make some 30: left out."""
