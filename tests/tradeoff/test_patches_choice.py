"""What a sweep over models of patches answers: its frontier, its loss, and what the command asks for."""

import numpy as np
import pytest

from realmodels import continuous
from specverify import cli
from specverify.decoders import registry
from specverify.decoders.continuous import Speculative, Surrogate
from specverify.errors import InputError
from specverify.tradeoff import choose, decoders, sweep, tables_patches
from specverify.tradeoff.plan import AR, Asked, Cell
from specverify.tradeoff.setting import Setting

# ---- reporting and choosing


def hand_made(name, speedup, fd, claim="lossless", pit=0.004):
    rule, _, window = name.partition("-")
    metrics = {"speedup": (speedup, 0.01), "fd": (fd, 0.1), "pit": (pit, 0.002), "accuracy": (0.95, 0.01)}
    return {
        "id": f"guidance-1/{name}",
        "rule": rule,
        "guidance": 1.0,
        "drafting": None,
        "window": None if rule == AR else int(window),
        "parameter": None,
        "value": None,
        "claim": claim,
        "n": 40,
        "z": None,
        "seconds_per_image": 0.01,
        "seconds_alone": None,
        "times": None,
        "error": None,
        "metrics": {
            metric: {
                "value": value,
                "interval": [value - half, value + half],
                "replicates": list(value + half * np.linspace(-1, 1, 40)),
            }
            for metric, (value, half) in metrics.items()
        },
    }


@pytest.fixture
def record():
    rows = [
        hand_made("ar-0", 1.0, 0.5),
        hand_made("ar-1", 1.0, 0.6),
        hand_made("wild-8", 8.0, 2.0, "relaxed", pit=0.05),
        hand_made("wild-4", 6.0, 2.5, "relaxed", pit=0.05),
        hand_made("bold-8", 5.0, 0.55, "relaxed", pit=0.03),
        hand_made("sd-8", 3.0, 0.65),
        hand_made("sd-4", 2.5, 0.4),
    ]
    return {
        "rows": rows, "setting": {"model": "digits-diff", "n": 40, "batch": 40}, "tokens": "patches",
        "omitted": {"sd": "no density"}, "hardware": {"accelerator": None},
    }  # fmt: skip


def test_the_frontier_ends_where_nothing_is_told_from_ar(record):
    lines = [(line.cells[0], line.cells[1], line.cells[-1]) for line in tables_patches.frontier(record).rows]
    assert lines == [("wild", "8", "yes"), ("bold", "8", "yes"), ("sd", "8", "no")]
    (omitted,) = tables_patches.others(record)
    assert [line.cells for line in omitted.rows] == [("sd", "no density")]


def test_loss_is_that_of_the_usual_metric_and_the_lossless_are_named(record):
    (choice,) = choose.fastest(record, 0.3)
    assert choice.chosen.id == "guidance-1/bold-8"
    assert "fd" in choice.question
    assert choice.free.id == "guidance-1/sd-8"
    record["rows"].append(hand_made("cspd-8", 9.0, 0.5, "relaxed"))
    assert choose.fastest(record, 0.3)[0].chosen.id == "guidance-1/bold-8"
    (choice,) = choose.fastest(record, 0.01, "pit")
    assert choice.chosen.id == "guidance-1/sd-8"
    record["rows"] = record["rows"][:5]
    assert choose.fastest(record, 0.3)[0].free is None


@pytest.mark.parametrize(
    ("model", "metric", "message"),
    [
        ("digits-gmm", "bias", "the bias of every setting of digits-gmm is not known; choose one of fd, kd, accuracy"),
        ("digits-diff", "surprisal", "the surprisal of every setting of digits-diff is not known"),
        ("digits-diff", "beauty", "unknown metric 'beauty'; known: fd"),
    ],
)
def test_a_metric_that_is_not_there_is_refused_before_the_work(monkeypatch, capsys, model, metric, message):
    monkeypatch.setattr(sweep, "measure", pytest.fail)
    with pytest.raises(SystemExit) as caught:
        cli.main(["tradeoff", "--model", model, "--metric", metric])
    assert caught.value.code == 3
    assert message in capsys.readouterr().err
    assert "surprisal" in choose.metrics("digits-gmm")


def test_the_command_asks_for_decoders_and_windows(monkeypatch, tmp_path, record):
    asked = []
    monkeypatch.setattr(sweep, "measure", lambda *arguments: asked.append(arguments) or record | {"status": "complete"})
    with pytest.raises(SystemExit) as caught:
        cli.main(["tradeoff", "--model", "digits-diff", "--decoders", "cspd, sd-path", "--window", "2,8", "--out", "x"])
    assert caught.value.code == 0
    setting, _, wanted, *_ = asked[0]
    assert setting == Setting("digits-diff", window=None)
    assert wanted == Asked(decoders=["cspd", "sd-path"], windows=[2, 8])
    with pytest.raises(InputError, match=r"window 16 of digits-gmm: of a model of patches each setting has its own"):
        sweep._check(Setting("digits-gmm"), (), 1)


def test_what_decodes_is_what_is_claimed():
    """The published criterion in a sweep is the registry's decoder."""
    draft = continuous.load("digits-diff-draft")
    built = decoders.build(Cell("cspd", 1.0, window=4), draft)
    assert isinstance(built, Speculative)
    assert isinstance(built.judging, Surrogate)
    assert built == registry.build("cspd", registry.Settings(4, draft_model=draft))
