"""Which conditions images have, in which order."""

import json

import pytest
from commands import ran
from folders import opened

from realmodels.images import labels, turned, unlike
from realmodels.session import ImageTransformer
from toymodels import toy

PROMPTS = ["[1, 2, 9]", "[1, 7, 9]", "[8, 7, 9]"]


def test_every_batch_begins_with_the_first_condition():
    assert labels([7, 3, 5], 8, 4).tolist() == [7, 3, 5, 7, 7, 3, 5, 7]
    assert labels(["a", "b"], 3, 1).tolist() == [0, 0, 0]


def test_a_few_conditions_are_unlike():
    assert unlike((1, 2, 3), 4) == [1, 2, 3]
    many = ["mid", "longest of all", "some", "more", "s", "here", "last"]
    assert unlike(many, 4)[:3] == ["s", "longest of all", "last"]
    assert len({*unlike(many, 4)}) == 4
    assert unlike(range(1000), 4) == [0, 999, 666, 333]


def test_a_model_is_turned_to_any_of_its_conditions(made):
    model = opened(made["janus"])
    model = model.like(conditions=[[1, 2], [1, 7, 2], [2]])
    assert turned(model, 6) is model
    assert [*turned(model, 5).conditions] == [[2], [1, 2], [1, 7, 2]]
    plain = toy("dense-3x6")
    assert turned(plain, 1) is plain


@pytest.mark.parametrize("decoder", ["scd-mc", "sd"])
def test_samples_take_conditions_in_turn_whatever_the_batch(made, tmp_path, monkeypatch, decoder):
    """Greedily, so that an image follows from its condition alone; prompts are as long as each other."""
    begun, start = [], ImageTransformer.start

    def noted(self, batch):
        begun.append(PROMPTS.index(str(self.conditions[0])))
        return start(self, batch)

    monkeypatch.setattr(ImageTransformer, "start", noted)
    asked = [made["causal"], *(word for prompt in PROMPTS for word in ("--condition", prompt))]
    asked += ["--guidance", 1, "--processors", "top_k=1", "--decoder", decoder, "--n", 7]
    asked += ["--draft", made["causal"]] if decoder == "sd" else []
    found = []
    for batch in (2, 3, 7):
        out = tmp_path / f"{batch}.json"
        ran("sample", *asked, "--batch", batch, "--out", out)
        found.append(json.loads(out.read_text()))
    for record in found:
        assert record["conditions"] == [PROMPTS[row % 3] for row in range(7)]
        assert record["tokens"] == found[0]["tokens"]
        assert len({tuple(row) for row in record["tokens"]}) == 3
    models = 2 if decoder == "sd" else 1  # what drafts is asked for the same
    assert begun[: 4 * models] == [first for first in (0, 2, 1, 0) for _ in range(models)]
