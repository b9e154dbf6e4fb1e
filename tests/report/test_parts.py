"""Parts that other commands add to a record: added, replaced, refused, and the report made anew."""

import json
import threading

import pytest

from specverify.errors import InputError
from specverify.evidence.result import Evidence
from specverify.report import page, parts, render
from specverify.report import record as records
from specverify.subjects.judgement import Judgement
from specverify.verdict import Kind, Verdict


@pytest.fixture
def folder(partial, tmp_path):
    """A report of three cells, without parts."""
    records.save(partial, tmp_path / "record.json")
    render.write(partial, tmp_path)
    return tmp_path


@pytest.fixture
def given(example):
    return example["parts"]()


def test_parts_are_added_and_the_report_tells_them(folder, given, partial):
    records.save(partial | {"judgements": given["judgements"][1:]}, folder / "record.json")
    parts.add(folder, "kill_matrix", given["kill_matrix"])
    written = parts.add(folder, "calibration", given["calibration"])
    assert records.load(folder) == partial | given | {"judgements": given["judgements"][1:]}
    assert "calibration" in {path.stem for path in written.figures}
    assert written.html == folder / "report.html"
    for words in ("Kill matrix: defects of level round", "Calibration of the checks", "kernel.py:kernel"):
        assert words in written.html.read_text()
    for words in ("figures/calibration.png", "kernel.py:kernel"):
        assert words in written.markdown.read_text()


def test_a_part_takes_the_place_of_the_same_part(folder, given, example):
    parts.add(folder, "kill_matrix", given["kill_matrix"])
    few = given["kill_matrix"] | {"rows": given["kill_matrix"]["rows"][:1], "level": "round", "only": "def*"}
    parts.add(folder, "kill_matrix", few)
    assert records.load(folder)["kill_matrix"] == few

    def judged(subject, **others):
        return example["judgement"](subject, "PROVED", **others)

    for one in (judged("a"), judged("b"), judged("a", seed=1), judged("a", claim="relaxed(tv<=0.1)")):
        parts.add(folder, "judgements", one)
    parts.add(folder, "judgements", judged("a", seconds=99.0))
    found = records.load(folder)["judgements"]
    assert [(one["subject"], one["claim"], one["seed"]) for one in found] == [
        *(("b", "lossless", 0), ("a", "lossless", 1), ("a", "relaxed(tv<=0.1)", 0), ("a", "lossless", 0))
    ]
    assert found[-1]["seconds"] == 99.0


def test_what_judging_hands_back_can_be_added(folder):
    evidence = Evidence("joint", float("inf"), 0.0, 1e-6, 1e-6, 0.02, "total variation", 9, True, "exact", "asymptotic")
    judgement = Judgement(
        subject="box.py:box",
        level="unknown",
        claim="lossless",
        verdict=Verdict(Kind.REFUTED, "it is"),
        evidence=(evidence,),
        exact=({"model": "m", "tv": 0.25},),
        location={"prefix": (0, 1)},
        not_covered=("much",),
    )
    parts.add(folder, "judgements", judgement.to_json())
    (found,) = records.load(folder)["judgements"]
    assert found["location"] == {"prefix": [0, 1]}
    assert found["evidence"] == [evidence.to_json()]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cells", {}, "a record has no part 'cells'; use kill_matrix, calibration, judgements"),
        (
            "calibration",
            {"seed": 0, "rows": []},
            r"with this calibration is invalid at \$.calibration.rows: .*as it was",
        ),
        ("calibration", {"seed": 0, "rows": {1, 2}}, "this calibration is not plain JSON: .*set is not JSON"),
        ("calibration", {"seed": float("nan")}, "this calibration is not plain JSON: "),
        ("kill_matrix", {"seed": 0, "rows": [{}]}, r"with this kill_matrix is invalid at \$.kill_matrix"),
    ],
)
def test_what_cannot_be_added_is_said_and_changes_nothing(folder, name, value, message):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=message) as caught:
        parts.add(folder, name, value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("kind", "precision", "tv", "fine"),
    [
        ("PROVED-FOR-ALL", "float32", 3e-8, True),
        ("PROVED", "float32", 1e-2, False),
        ("PROVED", "float64", 3e-8, False),
        ("CONSISTENT", "float64", 3e-8, True),  # up to rounding: the decoder computes in float32
        ("CONSISTENT", "float64", 1e-2, False),
    ],
)
def test_what_rounding_leaves_contradicts_no_verdict(folder, example, kind, precision, tv, fine):
    exact = [{"model": "m", "tv": tv, "precision": precision, "sequences": 64}]
    one = example["judgement"]("a", kind, exact=exact)
    if fine:
        parts.add(folder, "judgements", one)
        assert records.load(folder)["judgements"][0]["exact"] == exact
    else:
        with pytest.raises(InputError, match=rf"verdict: {kind}, with an exact total variation of {tv:g}"):
            parts.add(folder, "judgements", one)


def test_contradictions_are_refused(folder, given):
    rows = given["calibration"]["rows"]
    with pytest.raises(InputError, match=r"contradicts itself at \$.calibration.rows\[1\]: it is there twice"):
        parts.add(folder, "calibration", {"seed": 0, "rows": [rows[0], rows[0]]})
    assert "calibration" not in records.load(folder)


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_without_a_record_it_says_how_to_make_one(tmp_path, given, place):
    with pytest.raises(InputError, match=r"there is no record at .*; `specverify verify --out .*` makes one"):
        parts.add(tmp_path / place, "kill_matrix", given["kill_matrix"])
    assert list(tmp_path.iterdir()) == []


def test_two_that_add_at_once_lose_nothing(folder, given, example, monkeypatch):
    monkeypatch.setattr(render, "write", lambda record, out: page.Written(out, out, ()))
    work = [
        threading.Thread(target=parts.add, args=(folder, "judgements", example["judgement"](f"s{i}", "PROVED")))
        for i in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert {one["subject"] for one in records.load(folder)["judgements"]} == {f"s{i}" for i in range(8)}


def test_parts_are_carried_into_a_record_that_is_written_anew(folder, given, partial):
    assert parts.carried(folder) == parts.carried(folder / "nowhere") == {}
    records.save(partial | given, folder / "record.json")
    assert parts.carried(folder) == given


def test_each_row_is_one_line(folder, given):
    parts.add(folder, "kill_matrix", given["kill_matrix"])
    lines = (folder / "record.json").read_text().splitlines()
    for row in given["kill_matrix"]["rows"]:
        assert json.dumps(row) in [line.rstrip(",") for line in lines]
