"""`bench.measure`: its arithmetic on a model whose every pass takes a known time, and what it refuses."""

import io

import pytest
import torch
from rich.console import Console

import toymodels
from specverify import bench, bench_answer
from specverify.bench import Asked, Clocked
from specverify.bench_shape import Bench
from specverify.errors import InputError
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
