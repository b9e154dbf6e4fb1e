import dataclasses
import io
import itertools
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

from realmodels import store, train
from realmodels.digits import load
from realmodels.fit import Recipe, fit
from specverify.errors import InputError

SMALL = Recipe(steps=40, batch=32, rate=4e-3, every=15)


def begin(path: Path, recipe: Recipe = SMALL, name: str = "digits-s"):
    job = train.JOBS[name]
    model = job.build(torch.Generator().manual_seed(0))
    return model, fit(model, *train.objectives(job), recipe, path)


@pytest.mark.slow
def test_forty_steps_learn_and_an_interruption_changes_no_bit(tmp_path: Path) -> None:
    whole, steps = begin(tmp_path / "whole")
    log = list(steps)
    assert [entry.step for entry in log] == list(range(1, 41))
    assert sum(entry.loss for entry in log[-5:]) < 0.8 * sum(entry.loss for entry in log[:5])
    assert log[-1].best < log[14].best < 4.09
    assert not (tmp_path / "whole").exists()

    _, steps = begin(tmp_path / "parts")
    first = list(itertools.islice(steps, 20))
    steps.close()
    resumed, steps = begin(tmp_path / "parts")
    assert first + list(steps) == log
    assert all(torch.equal(mine, other) for mine, other in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_a_killed_run_takes_up_at_the_last_look(tmp_path: Path) -> None:
    _, steps = begin(tmp_path / "state")
    for progress in steps:
        if progress.step == 17:
            content = (tmp_path / "state").read_bytes()
            break
    steps.close()
    (tmp_path / "state").write_bytes(content)
    assert next(begin(tmp_path / "state")[1]).step == 16


def test_the_best_weights_are_kept_not_the_last(tmp_path: Path) -> None:
    model, looks = nn.Linear(1, 1, bias=False), iter([3.0, 1.0, 2.0])
    nn.init.constant_(model.weight, 10.0)
    seen = []

    def held_out(average: nn.Module) -> float:
        seen.append(float(average.weight))
        return next(looks)

    log = list(
        fit(model, lambda m, _, __: m.weight.square().sum(), held_out, Recipe(6, 1, 0.1, every=2), tmp_path / "state")
    )
    assert log[-1].best_step == 4
    assert float(model.weight.detach()) == seen[1]
    assert len(set(seen)) == 3


def test_a_state_of_another_recipe_or_no_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    _, steps = begin(path)
    next(steps)
    steps.close()
    with pytest.raises(InputError, match=r"state is of a run with .*'steps': 40.*, not .*'steps': 50.*; delete it"):
        next(begin(path, dataclasses.replace(SMALL, steps=50))[1])
    with pytest.raises(InputError, match=r"state is not a state of this training run .*delete it to start anew"):
        next(begin(path, name="digits-classifier")[1])
    path.write_bytes(b"no state")
    with pytest.raises(InputError, match="state is not a state of this training run"):
        next(begin(path)[1])


def test_the_command_trains_a_model_that_loads(tmp_path: Path) -> None:
    result = CliRunner().invoke(train.app, ["digits-s", "--steps", "3", "--out", str(tmp_path), "--samples", "20"])
    assert result.exit_code == 0, result.output
    assert result.output == ""
    card = store.read_card("digits-s", tmp_path)
    assert card["training"]["steps"] == 3
    assert card["figures"]["samples"] == 20
    assert card["figures"]["classifier_sha256"] == store.read_card("digits-classifier")["sha256"]
    assert load(folder=tmp_path).laws(load(folder=tmp_path).start(2), torch.zeros(2, 1, dtype=torch.int64)).shape == (
        2,
        2,
        17,
    )


def test_interrupting_the_command_stops_it_between_steps_and_running_it_again_ends_it(
    tmp_path: Path, monkeypatch
) -> None:
    def interrupted(*arguments):
        for progress in fit(*arguments):
            if progress.step == 5:
                signal.raise_signal(signal.SIGINT)
            yield progress

    arguments = ["digits-classifier", "--steps", "12", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", interrupted)
        assert CliRunner().invoke(train.app, arguments).exit_code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["digits-classifier.state.safetensors"]
    assert CliRunner().invoke(train.app, arguments).exit_code == 0
    taken_up = (tmp_path / "digits-classifier.safetensors").read_bytes()
    assert CliRunner().invoke(train.app, arguments).exit_code == 0
    assert (tmp_path / "digits-classifier.safetensors").read_bytes() == taken_up
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "digits-classifier.json",
        "digits-classifier.safetensors",
    ]


def test_a_bar_is_shown_on_a_terminal(tmp_path: Path) -> None:
    screen = io.StringIO()
    assert train.run("digits-classifier", tmp_path, 3, None, 10, Console(file=screen, force_terminal=True, width=100))
    assert "held-out loss" in screen.getvalue()


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    result = CliRunner().invoke(train.app, ["digits-xl"])
    assert result.exit_code == 2
    assert "no model 'digits-xl' to train; choose among digits-classifier, digits-s" in result.stderr
