"""Figures: drawn from the record, and from nothing else."""

import io
import itertools
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
import torch

from specverify.evidence.rounding import floor
from specverify.judge import EXACT_TOLERANCE
from specverify.report import contradictions, drawing
from specverify.report.figures_cost import acceptance_maps, latency, passes_histograms, real_cost
from specverify.report.figures_evidence import e_processes, pit_histograms
from specverify.report.figures_exact import exact_passes
from specverify.report.figures_samples import samples
from specverify.report.figures_testers import calibration

NAMES = [
    *("exact-passes", "e-processes", "pit", "real-cost", "accepted", "passes"),
    *("calibration", "samples-1", "samples-2"),
]


def _pixels(png):
    return matplotlib.image.imread(io.BytesIO(png))[..., :3]


def test_all_figures_are_there(written):
    assert [path.stem for path in written.figures] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_figures_show_something(written, name):
    pixels = _pixels(next(path for path in written.figures if path.stem == name).read_bytes())
    height, width, _ = pixels.shape
    assert width == round(drawing.WIDTH * 96 * 1.5)
    assert height > 225
    ink = (pixels < 0.9).any(-1)
    assert ink.mean() > 0.005
    assert ink[:, :4].mean() < 0.5  # nothing runs over the left edge ...
    assert not ink[:, -2:].all(0).any()  # ... or the right


def test_the_tolerance_is_that_of_the_verdict():
    assert contradictions.TOLERANCE == EXACT_TOLERANCE
    assert floor(torch.float32, 1) == contradictions.FLOAT32


def test_a_decoder_keeps_its_style_from_report_to_report(record, partial):
    styles = drawing.styles(record)
    assert len(set(styles.values())) == len(styles)
    assert all(styles[name] == style for name, style in drawing.styles(partial).items())


def test_unknown_decoders_get_styles_of_their_own(example, record):
    record["cells"] += [example["cell"]("exact", f"new-{i}", "m", "PROVED", "") for i in range(5)]
    styles = drawing.styles(record)
    assert len(set(styles.values())) == len(styles) == 8 + 5


def _draw(draw, cells, *arguments):
    with drawing.drawing():
        return draw(cells, *arguments)


def test_the_same_record_gives_the_same_bytes(partial):
    known = drawing.styles(partial)
    first, second = (_draw(exact_passes, partial["cells"], known) for _ in range(2))
    assert first == second


def test_each_is_written_as_lines_and_words_too(written):
    for path in written.figures:
        root = ElementTree.parse(path.with_suffix(".svg")).getroot()
        assert root.tag.endswith("svg")
        assert next(root.iter("{http://www.w3.org/2000/svg}text")).text


def test_alternative_texts_tell_what_is_to_be_seen(record):
    cells, known = record["cells"], drawing.styles(record)
    assert "2 cross the threshold: sjd-race, tempered." in _draw(e_processes, cells, known).alt
    assert "8 histograms" in (pit := _draw(pit_histograms, cells, 1e-6)).alt
    assert pit.alt.endswith("2 leave the band: scd-gs.")
    assert "highest step compression is 3.37, by scd-gs" in _draw(real_cost, cells, known).alt
    assert "for 8 cells on 2 models" in _draw(passes_histograms, cells, known).alt
    assert [picture.title for picture in _draw(samples, cells)] == [
        "Samples: digits-s, guidance 1",
        "Samples: digits-s, guidance 1.5",
    ]


def test_one_image_at_a_time_is_a_figure_of_its_own(example):
    settings = {"batch": 1, "guidance": 1.0}
    cells = [
        example["cell"]("real", name, "digits-s", "VACUOUS", "", settings=settings, run=example["run"](passes, None))
        for name, passes in (("ar", 64), ("sjd", 20))
    ]
    known = drawing.styles({"cells": cells})
    assert "for 2 cells" in _draw(latency, cells, known).alt
    assert _draw(real_cost, cells, known) is None
    assert _draw(passes_histograms, cells, known) is None


@pytest.mark.parametrize(
    ("sigmas", "alpha", "leaving"), [(0, 1e-6, 0), (4.5, 1e-6, 0), (-7, 1e-6, 1), (7, 1e-6, 1), (4.5, 1e-3, 1)]
)
def test_the_band_of_uniform_transforms_is_as_wide_as_its_rate_says(example, sigmas, alpha, leaving):
    # 20 bins of 2000 each, one of them moved; at alpha = 1e-6, two tails of 2.5e-8 lie beyond 5.5 standard deviations
    moved = round(sigmas * (40_000 * 0.05 * 0.95) ** 0.5)
    counts = [2000] * 4 + [2000 + moved] + [2000 - moved // 5] * 5 + [2000] * 10
    cells = [example["cell"]("real", "ar", "m", "CONSISTENT", "", figures={"pit": {"counts": counts}})]
    assert f"{leaving} leave the band" in _draw(pit_histograms, cells, alpha).alt


def test_no_texts_of_a_cost_stand_on_each_other_where_nothing_took_as_many_passes(example, record, monkeypatch):
    monkeypatch.setattr(drawing, "picture", lambda figure, *_: figure)
    settings = {"batch": 400, "guidance": 1.0}
    far = example["run"](22.31, 0.5)
    alone = [example["cell"]("real", "sjd", "m" * 60, "CONSISTENT", "", settings=settings, run=far)]
    fast = [c for c in record["cells"] if c["decoder"] != "ar"]
    for cells in (alone, fast, record["cells"]):
        figure = _draw(real_cost, cells, drawing.styles({"cells": cells}))
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert len(boxes) >= 2 * len(figure.axes[0].get_yticks()) > 0
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_figures_without_numbers_are_left_out(example):
    cells = [example["cell"]("exact", "sd", "m", "ERROR", "")]
    known = drawing.styles({"cells": cells})
    for draw in (exact_passes, e_processes, latency, real_cost, passes_histograms):
        assert _draw(draw, cells, known) is None
    assert _draw(pit_histograms, cells, 1e-6) is None
    assert _draw(samples, cells) == []


def test_defects_alone_can_be_drawn(record):
    known = drawing.styles(record)
    wrong = [c for c in record["cells"] if c["kind"] == "defect"]
    assert _draw(e_processes, wrong, known).alt.startswith("1 e-processes; 1 cross")


def test_an_infinite_e_value_leaves_the_top(example):
    path = {"n": [1, 2, 3], "log10_e": [0.0, 1.0, {"number": "inf"}], "threshold": 6.0}
    cells = [example["cell"]("sampled", "sd", "m", "REFUTED", "", figures={"e_process": path})]
    assert "1 cross the threshold: sd." in _draw(e_processes, cells, drawing.styles({"cells": cells})).alt


def _shares(picture, colours):
    """The part of a picture that each colour takes."""
    pixels = _pixels(picture.png)
    wanted = [np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255 for colour in colours]
    return [(abs(pixels - colour) < 0.02).all(-1).mean() for colour in wanted]


def test_a_calibration_colours_what_does_not_hold(record, example):
    rows = record["calibration"]["rows"]
    (picture,) = _draw(calibration, rows)
    assert picture.alt == (
        f"Counted against stated error rates in 6 rows of 3 checks; 1 do not hold: {example['NASTY']}."
    )
    assert _shares(picture, ("#D55E00",))[0] > 0
    (fine,) = _draw(calibration, rows[:-1])
    assert fine.alt.endswith("0 do not hold.")
    assert _shares(fine, ("#D55E00",)) == [0]
    assert _draw(calibration, []) == []


def test_a_long_calibration_is_one_picture(example):
    rows = [example["rate"](f"check {i}", "misses", 9, on=f"law {j}") for i in range(5) for j in range(60)]
    (picture,) = _draw(calibration, rows)
    assert picture.name == "calibration"
    assert "300 rows of 5 checks; 0 do not hold" in picture.alt
    assert len(picture.png) < 60_000


def test_a_map_shows_each_share_at_its_place_in_the_image(example):
    share = [1.0] * 4 + [0.0] * 4  # two rows of four: the upper one is accepted throughout
    plane = {"accepted": {"height": 2, "width": 4, "share": share}}
    picture = _draw(acceptance_maps, [example["cell"]("real", "sjd", "m", "CONSISTENT", "", figures=plane)], {})
    assert picture.alt == "Maps of the share of accepted drafts, cell by cell (1), from 0.00 to 1.00."
    pixels = _pixels(picture.png)
    yellow, blue = (pixels[..., 0] - pixels[..., 2] > 0.5), (pixels[..., 2] - pixels[..., 0] > 0.2)
    mapped = slice(pixels.shape[1] * 9 // 10)  # the scale stands behind it
    upper, lower = (np.flatnonzero(where[:, mapped].sum(1) > 200) for where in (yellow, blue))
    assert upper.max() < lower.min()
    assert abs(len(upper) - len(lower)) <= 2
    across = yellow[upper[9], mapped].sum()
    assert abs(across - 2 * (len(upper) + len(lower))) <= 8  # fields are squares
    assert _draw(acceptance_maps, [example["cell"]("real", "ar", "m", "CONSISTENT", "")], {}) is None


def test_samples_match_labels_and_begin_with_plain_decoding(example):
    def cell(name, labels, level):
        images = {"height": 2, "width": 2, "levels": 4, "labels": labels, "tokens": [[level] * 4 for _ in labels]}
        return example["cell"]("real", name, "m", "CONSISTENT", "", figures={"images": images})

    cells = [cell("sjd", [0, 1, 1, 2, 2], 3), cell("ar", [2, 1, 2, 3, 1], 0)]
    (picture,) = _draw(samples, cells)
    assert picture.alt == "Sample images on m, 2 for each of the labels 1 to 2, from ar, sjd."
    pixels = _pixels(picture.png)
    black = (pixels < 0.05).all(-1)
    assert black[:, : pixels.shape[1] // 2].mean() > 0.3  # plain decoding's are black here, and stand on the left
    assert black[:, pixels.shape[1] // 2 :].mean() < 0.1
    assert _draw(samples, [cell("sjd", [0], 3), cell("ar", [1], 0)]) == []


def test_a_level_is_shown_as_the_nearest_that_a_picture_has():
    shown = drawing.image(range(17), 1, 17, 17)
    assert shown.shape == (1, 17, 4)
    assert shown[0, :, 0].tolist() == [round(255 * level / 16) for level in range(17)]
    assert (shown[..., 3] == 255).all()
    assert drawing.image([0, 1, 2], 1, 1, 3).tolist() == [[[0, 128, 255, 255]]]  # one colour behind the other
