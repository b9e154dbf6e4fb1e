"""The record of a sweep and its report, of a table made by hand."""

import json

import pytest

from specverify.errors import InputError
from specverify.tradeoff import answer, report
from specverify.tradeoff import record as records
from specverify.tradeoff.figures import figures
from specverify.tradeoff.plan import AR
from specverify.tradeoff.shown import without_others
from tests.tradeoff.by_hand import sweep


@pytest.fixture(scope="module")
def drawn():
    """The pictures of the record that `record` gives."""
    return figures(sweep())


def test_a_record_is_read_as_it_was_written(record, tmp_path):
    records.save(record, tmp_path / "tradeoff.json")
    assert records.load(tmp_path) == record


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda record: record.pop("rows"), r"invalid at \$: 'rows' is missing"),
        (lambda record: record["rows"].append(record["rows"][0]), "'real' is there twice"),
        (lambda record: record["setting"].update(resamples=3), "has 200 replicates, not 3"),
        (lambda record: record["rows"][1].update(drafting="greedy"), r"invalid at \$.rows\[1\].drafting"),
    ],
)
def test_a_spoilt_record_is_refused(record, tmp_path, spoil, message):
    spoil(record)
    (tmp_path / "tradeoff.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=message):
        records.load(tmp_path)
    with pytest.raises(InputError, match=message):
        records.save(record, tmp_path / "again.json")


def test_files_that_are_no_record_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no sweep at"):
        records.load(tmp_path)
    (tmp_path / "tradeoff.json").write_text('{"rows": NaN}')
    with pytest.raises(InputError, match="is no JSON"):
        records.load(tmp_path)


def test_the_report_is_one_file_and_shows_every_setting(record, tmp_path):
    report.write(record, tmp_path)
    html, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert html.count("src=") == html.count('src="data:image/png;base64,') == 3
    assert html.count("<script") == 1
    assert "://" not in html
    assert "specverify tradeoff &lt;&amp;&gt;" in html
    for word in ("timid", "bold", "wild", "lossless", "real images", "seed-1"):
        assert f"<td>{word}</td>" in html
        assert f"| {word} |" in text
    assert r"3.50 \[3.4" in text  # a speed-up with its interval
    again = text.partition("## How to run it again")[2]
    names = [line.split("|")[1] for line in again.splitlines() if line.startswith("|")]
    assert len(set(names)) == len(names)
    assert (tmp_path / "figures" / "samples-maximal-guidance-1.png").read_bytes().startswith(b"\x89PNG")


def test_distances_are_said_to_be_in_their_features_and_earlier_records_still_have_theirs(record, tmp_path):
    """Of colour images that network is no classifier of ours, and the metrics have its name."""
    for row in record["rows"]:
        row["metrics"]["kd"] = row["metrics"]["fd"]
    before = figures(record)
    earlier = report.text(record, before, html=False)
    assert "Frechet distance between features of a classifier;" in earlier
    assert "| FD at n = 100 | FD above AR | KD |" in earlier
    assert "Distances between features depend on the classifier and" in earlier
    for network, axes, words in (
        ("EfficientNet-Lite0", 64, "EfficientNet-Lite0 along 64 principal axes"),
        ("digits-classifier", None, "digits-classifier"),
    ):
        now = {**record, "features": {"network": network, "axes": axes}}
        records.save(now, tmp_path / "tradeoff.json")
        named = figures(now)
        text = report.text(records.load(tmp_path), named, html=False)
        assert f"Frechet distance between features of {words};" in text
        assert text.count(f"| FD on {network} at n = 100 | FD above AR |") == 2
        assert f"| KD on {network} |" in text
        assert f"Distances between features depend on {network} and" in text
        assert "FID" not in text
        assert named[0].png != before[0].png
    with pytest.raises(InputError, match=r"invalid at \$.features"):
        records.validate({**record, "features": {"network": "", "axes": 64}})


@pytest.mark.slow
def test_several_windows_have_a_column_and_a_picture(record, tmp_path):
    plain, rest = [row for row in record["rows"] if row["drafting"] is None], []
    for one in record["rows"]:
        if one["drafting"] is not None:
            name = one["id"].split("/")
            for size in (8, 16, 32) if one["rule"] == "lossless" or one["value"] == 2.0 else (16,):
                own = "/".join([*name[:3], f"window-{size}", *name[3:]])
                rest.append(one | {"window": size, "id": own})
    record["rows"], record["planned"] = [*plain, *rest], len(plain) + len(rest)
    record["setting"]["window"] = None
    records.save(record, tmp_path / "tradeoff.json")
    assert records.load(tmp_path) == record
    shown = {picture.name: picture for picture in figures(record)}
    assert set(shown) == {
        "tradeoff-maximal-guidance-1", "tradeoff-maximal-guidance-1-close", "windows-maximal-guidance-1",
        "samples-maximal-guidance-1",
    }  # fmt: skip
    assert "over windows of 8, 16, 32 with maximal drafting" in shown["windows-maximal-guidance-1"].alt
    assert "window 16" in shown["tradeoff-maximal-guidance-1"].title
    report.write(record, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "100 images of each setting, windows 8, 16, 32." in text
    assert "| guidance | drafting | rule | window | parameter |" in text
    assert "| 1 | maximal | lossless | 32 | – |" in text


def test_images_that_no_picture_shows_are_left_out(record, drawn):
    kept = without_others(record)
    ids = [row["id"] for row in kept["rows"] if row["images"] is None]
    assert ids == ["guidance-1/maximal/timid/k=1"]
    assert [picture.png for picture in figures(kept)] == [picture.png for picture in drawn]


def test_the_answer_comes_first(record, drawn):
    (choice,) = answer.usual(record)
    for html in (True, False):
        text = report.text(record, drawn, html)
        first = text[text.index("The setting to take") : text.index("The frontier of speed and bias")]
        assert (choice.chosen or choice.nearest).id.rpartition("/")[2] in first
        assert "at most" in first
        assert ("none is confirmed" in first) == (choice.chosen is None)


def test_without_plain_decoding_there_is_no_answer(record):
    rows = [row for row in record["rows"] if row["rule"] != AR]
    section = answer.section(record | {"rows": rows})
    assert section.rows == ()
    assert section.intro.startswith("There is no answer yet: ")


def test_figures_are_the_same_bytes_and_say_what_they_show(record, drawn):
    assert [one.png for one in drawn] == [one.png for one in figures(record)]
    trade, close, samples = drawn
    assert "wild" in trade.alt
    assert "bold" in close.alt
    assert "0.5 per token" in trade.alt
    assert "biased upwards" in trade.caption
    assert "of each class from 7 settings" in samples.alt
