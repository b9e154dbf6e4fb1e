"""The record: read, checked, written, refused."""

import gzip
import json
import math
import re
import runpy
from pathlib import Path
from typing import get_args

import jsonschema
import pytest

from specverify.errors import InputError
from specverify.evidence.result import Evidence
from specverify.report import record as records
from specverify.report import shape, shape_cells
from specverify.verdict import Kind

SCHEMAS = Path(__file__).parents[2] / "reports" / "schema"


@pytest.fixture
def record(example):
    return example["small"]()


def test_a_record_comes_back_as_it_was(record, tmp_path):
    records.save(record, tmp_path / "record.json")
    assert records.load(tmp_path / "record.json") == record
    assert records.load(tmp_path) == record  # the folder will do
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]  # nothing temporary stays


def test_a_record_may_be_packed(record, tmp_path):
    records.save(record, tmp_path / "record.json")
    packed = gzip.compress((tmp_path / "record.json").read_bytes())
    (tmp_path / "record.json").unlink()
    (tmp_path / "record.json.gz").write_bytes(packed)
    assert records.load(tmp_path) == records.load(tmp_path / "record.json.gz") == record
    for torn in (packed[:-9], packed[:40] + b"xxxx" + packed[44:]):
        (tmp_path / "record.json.gz").write_bytes(torn)
        with pytest.raises(InputError, match=r"record\.json\.gz cannot be read"):
            records.load(tmp_path)


def test_each_cell_is_one_line(record, tmp_path):
    records.save(record, tmp_path / "record.json")
    lines = (tmp_path / "record.json").read_text().splitlines()
    for cell in record["cells"]:
        assert sum(line.startswith(json.dumps({"id": cell["id"]})[:-1] + ",") for line in lines) == 1


def test_a_partial_and_an_empty_record_are_valid(partial):
    records.validate(partial)
    records.validate(partial | {"cells": [], "verdicts": []})


def test_the_schemas_are_those_of_the_classes():
    write = runpy.run_path(str(SCHEMAS / "write.py"))
    for name in write["SCHEMAS"]:
        text = (SCHEMAS / name).read_text()
        assert text == write["text"](name), "run `python reports/schema/write.py`"
        jsonschema.Draft202012Validator.check_schema(json.loads(text))
    assert sorted(path.name for path in SCHEMAS.glob("*.json")) == sorted(write["SCHEMAS"])


def test_whoever_has_the_schema_alone_judges_alike(record):
    validator = jsonschema.Draft202012Validator(shape.schema())
    assert validator.is_valid(record)
    for name in ("a field is missing", "a field is unknown", "a negative time", "an interval of one", "another tier"):
        other = json.loads(json.dumps(record))
        BROKEN[name][0](other)
        assert not validator.is_valid(other), name


def test_kinds_of_verdicts_are_those_that_there_are():
    assert get_args(shape_cells.Kind) == tuple(kind.value for kind in Kind)


def test_the_reference_record_is_read():
    found = records.load(SCHEMAS.parent / "reference")
    assert (found["version"], found["status"]) == (1, "complete")
    assert len(found["cells"]) > 500


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("code", range(4))
def test_the_exit_code_is_that_of_the_verdict(record, kind, code):
    record["verdict"] = {"kind": kind.value, "reason": "", "exit_code": code}
    if code == kind.exit_code:
        records.validate(record)
    else:
        with pytest.raises(
            InputError,
            match=rf"contradicts itself at \$\.verdict\.exit_code: {kind.value} has {kind.exit_code}, not {code}",
        ):
            records.validate(record)


def test_what_a_check_hands_back_fits_the_schema(record):
    evidence = Evidence(
        check="joint",
        statistic=math.inf,
        p_value=None,
        alpha=1e-6,
        beta=1e-6,
        delta=math.inf,
        metric="total variation",
        n=10,
        rejected=True,
        basis="monte-carlo",
        power="asymptotic",
        estimate=math.nan,
        interval=(-math.inf, 0.5),
        coverage={"cells": 3},
        data={"counts": [1, 2]},
    )
    record["cells"][0]["evidence"] = [evidence.to_json()]
    records.validate(record)


def _cell(record):
    return next(c for c in record["cells"] if c["kind"] == "real" and c["decoder"] == "sjd")


def _delete(mapping, key):
    del mapping[key]


BROKEN = {
    "a field is missing": (lambda r: _delete(r, "seed"), "$: 'seed' is missing"),
    "a field is unknown": (
        lambda r: r.update(extra=1),
        "$.extra: 'extra' is unknown",
    ),
    "a cell's field is unknown": (lambda r: _cell(r).update(p=1), "$.cells["),
    "an unknown verdict": (
        lambda r: r["verdicts"][0].update(kind="PASSED"),
        "$.verdicts[0].kind: 'PASSED' is not one of",
    ),
    "a probability above 1": (lambda r: _cell(r)["evidence"][0].update(p_value=1.5), ".evidence[0].p_value"),
    "a negative time": (
        lambda r: _cell(r).update(seconds=-1),
        ".seconds: -1: Input should be greater",
    ),
    "no date": (lambda r: r.update(created="yesterday"), "$.created: 'yesterday': String should match pattern"),
    "a text for a number": (
        lambda r: _cell(r)["run"].update(passes_mean="few"),
        ".run.passes_mean: 'few': Input should be a valid number",
    ),
    "an interval of one": (
        lambda r: _cell(r)["run"].update(passes_interval=[1.0]),
        ".run.passes_interval: [1.0]: List should have at least 2 items",
    ),
    "settings that are lists": (lambda r: _cell(r)["settings"].update(window=[1]), ".settings.window"),
    "another tier": (lambda r: r.update(tier="slow"), "$.tier: 'slow' is not one of 'quick' or 'full'"),
    "NaN": (lambda r: _cell(r).update(seconds=math.nan), ".seconds: the number is not finite"),
    "infinity in a check's data": (
        lambda r: _cell(r)["evidence"][1]["data"].update(counts=[1, math.inf]),
        ".evidence[1].data.counts[1]: the number is not finite",
    ),
    "a cell twice": (lambda r: r["cells"].append(r["cells"][0]), "the cell 'exact/ar/dense-2x8' is there twice"),
    "an unknown cell": (
        lambda r: r["verdicts"][1]["cells"].append("x/y"),
        "$.verdicts[1].cells: there is no cell 'x/y'",
    ),
    "a defect that expects nothing": (
        lambda r: next(c for c in r["cells"] if c["kind"] == "defect").update(expected=None),
        ".expected: a defect must say which verdict it expects",
    ),
    "alphas beyond the total": (
        lambda r: r["errors"]["alpha"]["parts"][0].update(alpha=1e-3),
        "$.errors.alpha.parts: they add up to 0.0010009, more than the total of 1e-06",
    ),
    "a label short": (
        lambda r: _cell(r)["figures"]["images"]["labels"].pop(),
        ".figures.images: 49 labels for 50 tokens",
    ),
    "a share short": (
        lambda r: _cell(r)["figures"].update(accepted={"height": 8, "width": 8, "share": [0.5] * 63}),
        ".figures.accepted: 63 shares for a plane of 64",
    ),
    "a pixel short": (
        lambda r: _cell(r)["figures"]["images"]["tokens"][3].pop(),
        ".figures.images.tokens[3]: an image takes 64 levels from 0 to 16",
    ),
    "a pixel too bright": (lambda r: _cell(r)["figures"]["images"]["tokens"][3].__setitem__(0, 17), "images.tokens[3]"),
    "a trial twice": (
        lambda r: r["kill_matrix"]["rows"].append(r["kill_matrix"]["rows"][0]),
        "$.kill_matrix.rows[67]: it is there twice: level round, defect defect 0, checker standard",
    ),
    "a control that is caught": (
        lambda r: r["kill_matrix"]["rows"][0].update(lossy=False),
        "$.kill_matrix.rows[0].outcome: a control cannot be 'caught'",
    ),
    "a defect that is flagged": (
        lambda r: r["kill_matrix"]["rows"][0].update(outcome="flagged"),
        "$.kill_matrix.rows[0].outcome: a defect cannot be 'flagged'",
    ),
    "a defect and a control of one name": (
        lambda r: r["kill_matrix"]["rows"][30].update(lossy=False, outcome="not flagged", verdict="PROVED"),
        "$.kill_matrix.rows[30].lossy: 'defect 0' is a defect in one row and a control in another",
    ),
    "caught without a refutation": (
        lambda r: r["kill_matrix"]["rows"][0].update(verdict="PROVED"),
        "$.kill_matrix.rows[0].verdict: 'defect 0' cannot be caught with the verdict PROVED",
    ),
    "missed with a refutation": (
        lambda r: r["kill_matrix"]["rows"][30].update(verdict="REFUTED"),
        "$.kill_matrix.rows[30].verdict: 'defect 0' cannot be missed with the verdict REFUTED",
    ),
    "flagged without a refutation": (
        lambda r: r["kill_matrix"]["rows"][65].update(verdict="CONSISTENT"),
        "$.kill_matrix.rows[65].verdict: 'sound' cannot be flagged with the verdict CONSISTENT",
    ),
    "a control that must be caught": (
        lambda r: r["kill_matrix"]["rows"][65].update(named=True),
        "$.kill_matrix.rows[65].named: no checker has to catch a control",
    ),
    "an unknown outcome": (lambda r: r["kill_matrix"]["rows"][0].update(outcome="seen"), "rows[0].outcome: 'seen'"),
    "a rate twice": (
        lambda r: r["calibration"]["rows"].append(r["calibration"]["rows"][1]),
        "$.calibration.rows[6]: it is there twice: check joint, what misses, on sparse-3x5, perfect, stated 0.01",
    ),
    "more events than trials": (
        lambda r: r["calibration"]["rows"][0].update(events=1001),
        "$.calibration.rows[0].events: 1001 events in 1000 trials",
    ),
    "an interval without its rate": (
        lambda r: r["calibration"]["rows"][0].update(interval=[0.01, 0.02]),
        "$.calibration.rows[0].interval: the rate of 0.009 is not between 0.01 and 0.02",
    ),
    "a failure of a rate that is kept to": (
        lambda r: r["calibration"]["rows"][0].update(holds=False),
        "$.calibration.rows[0].holds: the rate of 0.009 does not exceed the stated 0.01",
    ),
    "no trials": (
        lambda r: r["calibration"]["rows"][0].update(trials=0),
        "rows[0].trials: 0: Input should be",
    ),
    "a judgement twice": (
        lambda r: r["judgements"].append(r["judgements"][1]),
        "$.judgements[3]: it is there twice: subject kernel.py:kernel, claim lossless, seed 0",
    ),
    "proved and off": (
        lambda r: r["judgements"][0]["verdict"].update(kind="PROVED"),
        "$.judgements[0].verdict: PROVED, with an exact total variation of 0.333333",
    ),
    "consistent and rejected": (
        lambda r: r["judgements"][1]["verdict"].update(kind="CONSISTENT"),
        "$.judgements[1].verdict: CONSISTENT, though a check rejected",
    ),
    "a judgement of an unknown kind": (
        lambda r: r["judgements"][1]["verdict"].update(kind="PASSED"),
        "$.judgements[1].verdict.kind: 'PASSED' is not one of",
    ),
    "infinity in a location": (
        lambda r: r["judgements"][1]["location"].update(observed=math.inf),
        "$.judgements[1].location.observed: the number is not finite",
    ),
    "a count short": (lambda r: _cell(r)["figures"]["passes"]["counts"].pop(), "counts"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_named_with_its_place(record, name, tmp_path):
    change, message = BROKEN[name]
    change(record)
    path = tmp_path / "record.json"
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        records.save(record, path)
    assert str(path) in str(caught.value)
    assert "make the record anew" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON"),
        ('{"schema": "specverify-record", "vers', "is no JSON"),
        ('{"schema": "specverify-record", "version": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "is no JSON"),
        ("[1, 2]", "is not a specverify record"),
        ('{"schema": "other"}', "is not a specverify record"),
        ('{"schema": "specverify-record", "version": 2}', "has version 2, but this specverify reads version 1"),
        ('{"schema": "specverify-record", "version": 1}', "is invalid at $: "),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_broken_file_gets_one_message(tmp_path, text, message):
    path = tmp_path / "broken.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        records.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(
        InputError, match=r"there is no record at .*nowhere.json; `specverify verify --out .*` makes one"
    ):
        records.load(tmp_path / "nowhere.json")


def test_a_refused_record_leaves_the_old_file(record, tmp_path):
    path = tmp_path / "record.json"
    records.save(record, path)
    before = path.read_bytes()
    with pytest.raises(InputError):
        records.save(record | {"tier": "slow"}, path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_an_input_error(record, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .* choose another --out"):
        records.save(record, tmp_path / "file" / "record.json")
