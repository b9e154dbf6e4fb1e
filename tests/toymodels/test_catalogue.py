import json
from pathlib import Path

import pytest
import torch

import toymodels
from specverify.errors import InputError
from specverify.model import Model
from specverify.processors import Guided, Processed, parse_processors
from toymodels import TableModel, names, tabulate, toy
from toymodels.catalogue import digest, enumerable, fixed_sequences

DIGESTS = json.loads((Path(toymodels.__file__).parent / "digests.json").read_text())


def test_every_toy_has_its_digest_on_file():
    assert tuple(DIGESTS) == names()


@pytest.mark.parametrize("name", names())
def test_a_name_fixes_its_law_for_ever(name):
    assert digest(toy(name)) == DIGESTS[name]


def test_digests_differ_between_laws_and_between_headers():
    assert len(set(DIGESTS.values())) == len(DIGESTS)
    model = toy("dense-3x6")
    assert digest(Processed(model, parse_processors("top_k=2"))) != DIGESTS["dense-3x6"]
    assert digest(toy("dense-3x6", torch.float32)) != DIGESTS["dense-3x6"]
    assert digest(TableModel("renamed", model.table, 6)) == DIGESTS["dense-3x6"]
    assert digest(TableModel("renamed", model.table, 6, eos=2)) != DIGESTS["dense-3x6"]


@pytest.mark.parametrize("name", names())
def test_toys_are_models_of_the_size_that_they_say(name):
    model = toy(name, torch.float32)
    vocab, length = (int(part) for part in name.split("-")[1].split("x"))
    assert isinstance(model, Model)
    assert (model.name, model.vocab, model.length) == (name, vocab, length)
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))
    assert enumerable(name) == (name not in {"markov-8x32", "hash-16x24"})


def test_a_guided_toy_is_told_by_both_of_its_laws_and_the_scale():
    model = toy("guided-2x5")
    for other in (
        Guided(model.conditional, model.unconditional, 2.0),
        Guided(model.unconditional, model.conditional, 2.5),
        Guided(model.conditional, model.conditional, 2.5),
    ):
        assert digest(other) != DIGESTS["guided-2x5"]


@pytest.mark.parametrize("name", [name for name in names() if enumerable(name) and not name.startswith("guided")])
def test_single_precision_is_double_precision_rounded_once(name):
    assert torch.equal(tabulate(toy(name, torch.float32)).table, tabulate(toy(name)).table.float())


def test_fixed_sequences_are_fixed_and_cover_the_vocabulary():
    sequences = fixed_sequences(4, 8, 6)
    assert sequences.tolist() == fixed_sequences(9, 8, 6)[:4].tolist()
    assert sorted(fixed_sequences(50, 8, 6).unique().tolist()) == list(range(8))
    assert fixed_sequences(2, 3, 8).tolist() == [[2, 0, 2, 0, 0, 0, 1, 0], [2, 0, 1, 2, 2, 2, 0, 2]]


def test_unknown_names_list_close_ones():
    with pytest.raises(InputError, match=r"unknown toy model 'dense-3x7'; did you mean .*dense-3x6.*\?"):
        toy("dense-3x7")
    with pytest.raises(InputError, match=r"unknown toy model '!'; known: dense-2x8, .*hash-16x24"):
        toy("!")
    with pytest.raises(InputError, match=r"unknown toy model 'raster'; did you mean raster-4x6"):
        enumerable("raster")
