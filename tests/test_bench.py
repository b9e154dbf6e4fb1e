"""`bench.measure`: its arithmetic on a model whose every pass takes a known time, and what it refuses."""

import io
import json

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

import toymodels
from realmodels.models import open_model
from specverify import bench, bench_answer, bench_judging, bench_passes
from specverify.bench import Asked, Clocked
from specverify.bench_shape import Bench
from specverify.errors import ContractError, InputError
from specverify.report.shape import fit

TOY = toymodels.toy("dense-4x6")


class Counter:
    """A clock that stands still but for what is added."""

    now = 0.0


class Slow:
    """A toy whose pass takes a second for its first token and a tenth for each draft; nothing else takes any time."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def laws(self, context, draft):
        Counter.now += 1 + 0.1 * draft.shape[1]
        return self._model.laws(context, draft)


@pytest.fixture
def still(monkeypatch):
    monkeypatch.setattr(bench.Clock, "stamp", lambda self: Counter.now)
    monkeypatch.setattr(bench.Clock, "total", lambda self, spans: float(sum(end - begin for begin, end in spans)))


def test_figures_are_those_of_a_model_whose_times_are_known(still):
    record = bench.measure(Slow(TOY), Asked(("scd-mc", "sjd"), (2, 5), batch=4, rounds=3))
    fit(record, Bench, "the record", "correct it")
    assert [one["milliseconds"] for one in record["passes"]] == pytest.approx([1000, 1200, 1500])
    plain, *others = record["rows"]
    assert (plain["decoder"], plain["passes"], plain["seconds"]) == ("ar", 6, pytest.approx([6, 6, 6]))
    assert (plain["speedup"], plain["limit"], plain["acceptance"]) == (1, 1, None)
    assert [(row["decoder"], row["window"]) for row in others] == [("scd-mc", 2), ("scd-mc", 5), ("sjd", 2), ("sjd", 5)]
    for row in others:
        assert row["limit"] == pytest.approx(6 / (row["passes"] * (1 + 0.1 * row["window"])))
        # A pass of the batch for each of its slowest row's.
        assert sum(row["seconds"]) == pytest.approx(3 * row["calls"] * (1 + 0.1 * row["window"]))
        assert row["seconds_per_image"] == pytest.approx(sum(row["seconds"]) / 12)
        assert row["speedup"] == pytest.approx(18 / sum(row["seconds"]))
        assert row["speedup"] <= row["limit"] * 1.0001
        assert (row["inside"], row["outside"]) == (pytest.approx(1), pytest.approx(0))
        assert 0 < row["acceptance"] < 1


def test_a_draft_models_time_is_its_own(still):
    draft = Slow(toymodels.draft("perturbed", TOY))
    record = bench.measure(Slow(TOY), Asked(("sd",), (2,), batch=2, rounds=2), draft)
    row = record["rows"][1]
    assert row["limit"] is None
    assert row["draft_passes"] > 0
    assert row["inside"] + row["drafting"] == pytest.approx(1)
    assert 0.1 < row["drafting"] < 0.9


def test_what_is_decoded_is_what_would_be_without_a_clock():
    one = bench.measure(TOY, Asked(("scd-mc",), (3,), batch=5, rounds=2, seed=3))
    again = bench.measure(TOY, Asked(("scd-mc",), (3,), batch=5, rounds=2, seed=3))
    assert one["rows"][1]["passes"] == again["rows"][1]["passes"] < 6
    assert one["clock"] in ("processor", "wall")
    assert 0 < one["rows"][1]["outside"] < 1
    timed = Clocked(TOY, bench.Clock(torch.device("cpu")))
    assert (timed.vocab, timed.length, timed.name) == (4, 6, TOY.name)


def test_the_limit_of_passes_that_were_not_measured_is_not_known():
    asked = Asked(("zipar", "sjd-tree", "sjd", "sjd-reuse"), (2,), batch=4, rounds=1)
    record = bench.measure(open_model("digits-s"), asked)
    limits = {row["decoder"]: row["limit"] for row in record["rows"]}
    assert [name for name, limit in limits.items() if limit is None] == ["zipar", "sjd-tree"]


def said(record):
    screen = io.StringIO()
    bench_answer.show(record, Console(file=screen, width=120))
    return screen.getvalue()


def test_the_answer_names_the_fastest_and_its_limit(still):
    record = bench.measure(Slow(TOY), Asked(("scd-mc",), (2, 5), batch=1, rounds=4))
    best = max(record["rows"][1:], key=lambda row: row["speedup"])
    text = said(record)
    assert text.startswith(f"the fastest, scd-mc with a window of {best['window']} takes ")
    told = f"{best['speedup']:.3g} times as fast, {best['limit']:.3g} if only passes took time"
    assert told in text.replace("\n", " ")
    slow = {**record, "rows": [record["rows"][0], {**record["rows"][1], "speedup": 0.8}]}
    assert said(slow).startswith("no decoder is faster than plain decoding; the nearest, scd-mc")
    assert said({**record, "rows": record["rows"][:1]}).startswith("plain decoding takes 6 s an image")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"decoders": ("scd",)}, "unknown decoder 'scd'; did you mean"),
        ({"decoders": ("sd",)}, "'sd' drafts with a second model; name one with --draft"),
        ({"windows": (3, 7)}, "window 7 of dense-4x6: choose 1 to 6"),
        ({"windows": ()}, "needs a decoder and a window at least"),
        ({"batch": 0}, "batch is 0; it must be at least 1"),
        ({"rounds": 0}, "rounds is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(asked, said):
    with pytest.raises(InputError, match=said):
        bench.measure(TOY, Asked(**{"windows": (2,), **asked}))


def test_no_room_is_said_with_the_remedy():
    class Full(Slow):
        def laws(self, context, draft):
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(InputError, match=r"batch 8 with windows up to 2 does not fit.*choose a smaller --batch"):
        bench.measure(Full(TOY), Asked(windows=(2,)))


def test_judging_is_measured_beside_a_floor_a_loop_and_the_library(tmp_path):
    out = tmp_path / "judging.json"
    done = CliRunner().invoke(
        bench_judging.app, ["--size", "1x3x16,2x2x16", "--rule", "lantern,gsd", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text())
    alone, several = record["rows"]
    assert set(alone["milliseconds"]) == {"token rule", "lantern", "gsd", "loop", "library"}
    assert set(several["milliseconds"]) == {"token rule", "lantern", "gsd", "loop"}  # the library's is of one row
    assert alone["floor"] == pytest.approx(1e3 * 4 * (4 + 3) * 16 / record["bandwidth"])
    assert all(value > 0 for row in record["rows"] for value in row["milliseconds"].values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "8x32"], "size '8x32' is not batch x window x vocabulary"),
        (["--size", "0x2x16"], "size 0x2x16: batch and window are at least 1"),
        (["--rule", "gds", "--size", "1x2x16"], "unknown rule 'gds'; did you mean gsd"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
    ],
)
def test_judging_names_what_is_wrong(arguments, message, tmp_path):
    done = CliRunner().invoke(bench_judging.app, [*arguments, "--out", str(tmp_path / "out.json")])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert not list(tmp_path.iterdir())


def test_passes_are_measured_for_every_batch_and_guidance(tmp_path):
    out = tmp_path / "passes.json"
    asked = ["random:tiny", "--batch", "1,3", "--window", "1,2", "--guidance", "1,2", "--out", str(out)]
    done = CliRunner().invoke(bench_passes.app, asked)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text())
    assert [(row["guidance"], row["batch"]) for row in record["rows"]] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert all([one["window"] for one in row["passes"]] == [0, 1, 2] for row in record["rows"])
    assert all(row["fits"] and row["memory"] is None for row in record["rows"])
    assert (record["model"], record["compiled"], record["accelerator"]) == ("random:tiny", False, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["random:tiny", "--batch", "0"], "batch 0; it must be at least 1"),
        (["random:tiny", "--batch", "a"], "batch 'a' is not a list of numbers"),
        (["random:tiny", "--window", "17"], "window 17 of random:tiny: choose 1 to 16"),
        (["random:tiny", "--guidance", "nan"], "guidance 'nan' is not a finite number"),
        (["random:tiny", "--dtype", "flat32"], "dtype 'flat32' is none of torch"),
        (["nothing"], "unknown image model 'nothing'"),
    ],
)
def test_passes_name_what_is_wrong(arguments, message, tmp_path):
    done = CliRunner().invoke(bench_passes.app, [*arguments, "--out", str(tmp_path / "out.json")])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_a_bench_counts_how_often_the_device_is_waited_for():
    """Once for each step, which asks whether all rows are done, and once more where rows are dropped."""
    record = bench.measure(toymodels.toy("markov-8x32", torch.float32), Asked(["sjd"], [4], batch=4, rounds=1))
    for row in record["rows"]:
        assert 1 <= row["waits"] < 1.6


def test_no_pass_that_is_measured_is_wider_than_the_widest_window():
    widths = []

    class Noted(Slow):
        def laws(self, context, draft):
            widths.append(draft.shape[1])
            return self._model.laws(context, draft)

    found = bench.pass_costs(Noted(toymodels.toy("eos-3x6")), (1, 2), 3, bench.Clock(torch.device("cpu")))
    assert [one["window"] for one in found] == [0, 1, 2]
    assert widths[:2] == [2, 1]  # half of six tokens, of which no memory may come
    assert max(widths) == 2


OWN = """
from specverify.decoders import DraftModel, Speculative

class Mine:
    def __init__(self, window=3, draft_model=None):
        self.inner = Speculative(DraftModel(draft_model), window)
        self.name = "mine"
    def init(self, *arguments):
        return self.inner.init(*arguments)
    def step(self, *arguments):
        return self.inner.step(*arguments)
fixed = Speculative(DraftModel(__import__("toymodels").draft("perturbed", __import__("toymodels").toy("dense-4x6"))), 2)
"""


def test_somebodys_own_decoder_is_timed_beside_others_by_its_reference(still, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    second = toymodels.draft("perturbed", TOY)
    asked = Asked((f"{file}:Mine", "sd", f"{file}:fixed"), (2, 4), batch=4, rounds=2)
    record = bench.measure(Slow(TOY), asked, Slow(second))
    fit(record, Bench, "the record", "correct it")
    _, *rows, fixed = record["rows"]
    assert [row["window"] for row in rows] == [2, 4, 2, 4]
    for mine, theirs in zip(rows[:2], rows[2:], strict=True):
        assert mine["decoder"] == f"{file}:Mine"
        assert mine["claim"] == "none is stated"
        for name in ("passes", "seconds", "acceptance", "drafting"):
            assert mine[name] == pytest.approx(theirs[name])
    assert (fixed["window"], fixed["limit"]) == (None, None), "how many drafts it looks at is not known"
    assert fixed["passes"] == pytest.approx(rows[2]["passes"], abs=1)
    with pytest.raises(InputError, match="drafts with a second model"):
        bench.measure(Slow(TOY), asked)


def test_what_somebodys_own_decoder_raises_is_said_with_its_name_and_line(still, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN.replace("return self.inner.step(*arguments)", "raise ValueError('no room for 3 drafts')"))
    asked = Asked((f"{file}:Mine",), (2,), batch=4, rounds=1)
    with pytest.raises(ContractError, match=r"mine.py:Mine raised ValueError: no room for 3 drafts \(mine.py:11, in s"):
        bench.measure(Slow(TOY), asked, Slow(toymodels.draft("perturbed", TOY)))
