"""The figures of a report, each drawn from a record alone."""

from __future__ import annotations

from specverify.report import drawing
from specverify.report.drawing import Picture
from specverify.report.figures_continuous import densities
from specverify.report.figures_cost import acceptance_maps, latency, passes_histograms, real_cost
from specverify.report.figures_evidence import e_processes, pit_histograms
from specverify.report.figures_exact import exact_passes
from specverify.report.figures_relaxed import frontier
from specverify.report.figures_samples import samples
from specverify.report.figures_testers import calibration
from specverify.report.shape import Record


def figures(record: Record) -> list[Picture]:
    """All figures that the record has numbers for, in the report's order."""
    known = drawing.styles(record)
    with drawing.drawing():
        drawn = [exact_passes(record["cells"], known)]
        drawn += [frontier(record["cells"]), densities(record["cells"]), e_processes(record["cells"], known)]
        drawn.append(pit_histograms(record["cells"], float(record["errors"]["alpha"]["total"])))
        drawn += [draw(record["cells"], known) for draw in (latency, real_cost, acceptance_maps, passes_histograms)]
        testing = calibration(record["calibration"]["rows"]) if "calibration" in record else []
        return [*(picture for picture in drawn if picture is not None), *testing, *samples(record["cells"])]
