"""A ragged window pass behind a rolled-back cache against one pixel at a time, and what the comparison can see."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from realmodels.data import digits
from realmodels.digits import DigitsModel, load
from specverify.model import Checked
from specverify.tree import join, rows

BATCH, WINDOW = 12, 7


def images(model: DigitsModel, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    held_out = digits()[1]
    return held_out.tokens[:batch].to(model.device), held_out.labels[:batch].to(model.device)


def one_by_one(model: DigitsModel, tokens: Tensor, labels: Tensor) -> Tensor:
    """The laws of every position of given images, one pixel per pass: [batch, 64, vocab]."""
    context, found = model.start_with(labels), []
    for k in range(model.length):
        found.append(model.laws(context, tokens[:, :0])[:, 0])
        context = model.advance(context, tokens[:, k : k + 1], torch.ones_like(labels))
    return torch.stack(found, dim=1)


def windowed_error(model, tokens: Tensor, labels: Tensor, truth: Tensor, advance=None, seed=0) -> tuple[float, int]:
    """Decode given images in windows whose drafts are right for a random number of pixels and junk after them.

    Returns the largest error of a law whose preceding drafts were right, and how many drafts were thrown away.
    """
    generator = torch.Generator().manual_seed(seed)
    inner = model.inner if isinstance(model, Checked) else model
    advance = advance or model.advance
    batch, length = tokens.shape
    context, done = inner.start_with(labels), torch.zeros_like(labels)
    worst, rejected = 0.0, 0
    slots = torch.arange(WINDOW + 1, device=tokens.device)
    while bool((done < length).any()):
        position = done[:, None] + slots
        right = tokens.gather(1, position.clamp(max=length - 1))
        accepted = torch.randint(0, WINDOW + 1, (batch,), generator=generator).to(tokens.device)
        shift = torch.randint(1, inner.vocab, right.shape, generator=generator).to(tokens.device)
        junk = (right + shift) % inner.vocab
        draft = torch.where(slots < accepted[:, None], right, junk)[:, :WINDOW]
        laws = model.laws(context, draft)
        due = truth.gather(1, position.clamp(max=length - 1)[..., None].expand_as(laws))
        counts = (slots <= accepted[:, None]) & (position < length)
        worst = max(worst, float((laws - due).abs().amax(-1)[counts].max()))
        rejected += int((position < length)[:, :WINDOW][slots[:WINDOW] >= accepted[:, None]].sum())
        count = torch.minimum(accepted + 1, length - done)
        context = advance(context, right, count)
        done = done + count
    return worst, rejected


@pytest.mark.thinned(2)
@pytest.mark.parametrize("seed", range(3))
def test_ragged_windows_give_the_laws_of_one_pixel_at_a_time(model: DigitsModel, seed: int) -> None:
    tokens, labels = images(model)
    truth = one_by_one(model, tokens, labels)
    error, rejected = windowed_error(Checked(model), tokens, labels, truth, seed=seed)
    assert rejected > 100
    assert error < (1e-5 if model.device.type == "cpu" else 1e-4)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_ragged_windows_agree_in_double_precision(device: torch.device, guidance: float) -> None:
    model = load(guidance=guidance, dtype=torch.float64, device=device)
    tokens, labels = images(model)
    error, _ = windowed_error(model, tokens, labels, one_by_one(model, tokens, labels))
    assert model.dtype == torch.float64
    assert error < 1e-12


MODEL = load()


def with_length(context, length: Tensor):
    return dataclasses.replace(context, cache=dataclasses.replace(context.cache, length=length))


def keep_rejected_slots(context, tokens, count):
    """Advances the cache by the whole window, as if nothing had been rejected."""
    return with_length(MODEL.advance(context, tokens, count), context.cache.length + tokens.shape[1])


def roll_back_one_too_few(context, tokens, count):
    """Counts one rejected slot of each row that rejected any."""
    after = MODEL.advance(context, tokens, count)
    return with_length(after, after.cache.length + ((count < tokens.shape[1]) & (count > 0)).long())


def wrong_pending(context, tokens, count):
    """Feeds the pixel before the last one of each row."""
    before = tokens.gather(1, (count - 2).clamp(min=0)[:, None])[:, 0]
    return dataclasses.replace(MODEL.advance(context, tokens, count), pending=before)


def neighbour_length(context, tokens, count):
    """Gives every row the length of its neighbour: the raggedness is lost."""
    after = MODEL.advance(context, tokens, count)
    return with_length(after, after.cache.length.roll(1))


@pytest.mark.parametrize("mutant", [keep_rejected_slots, roll_back_one_too_few, wrong_pending, neighbour_length])
def test_the_comparison_sees_a_wrong_rollback(mutant) -> None:
    tokens, labels = images(MODEL)
    error, _ = windowed_error(MODEL, tokens, labels, one_by_one(MODEL, tokens, labels), advance=mutant)
    assert error > 0.1


def test_windows_give_the_laws_of_the_training_forward(model: DigitsModel) -> None:
    tokens, labels = images(model)
    shape, scale = model.shape, model.guidance
    inputs = torch.cat([shape.vocab + labels[:, None], tokens[:, :-1]], dim=1)
    null = torch.cat([torch.full_like(labels[:, None], shape.vocab + shape.null), tokens[:, :-1]], dim=1)
    of_class, of_null = model.transformer(inputs), model.transformer(null)
    expected = ((1 - scale) * of_null + scale * of_class).softmax(-1)
    found = model.laws(model.start_with(labels), tokens[:, :-1])
    assert (found - expected).abs().max() < 1e-5
    assert (of_class.softmax(-1) - of_null.softmax(-1)).abs().max() > 0.1


def test_no_condition_is_guidance_zero_and_the_null_class() -> None:
    tokens, labels = images(MODEL)
    null = torch.full_like(labels, MODEL.shape.null)
    unguided = load(guidance=0.0).laws(load(guidance=0.0).start_with(labels), tokens[:, :20])
    assert (unguided - MODEL.laws(MODEL.start_with(null), tokens[:, :20])).abs().max() < 1e-5


def ragged(model: DigitsModel, tokens: Tensor, labels: Tensor):
    """A context whose row i holds 5 i pixels, so that the last of 12 stands at 55."""
    context = model.start_with(labels)
    model.laws(context, tokens)
    return model.advance(context, tokens, 5 * torch.arange(len(labels), device=model.device))


def test_gathered_and_joined_contexts_keep_their_laws(model: DigitsModel) -> None:
    tokens, labels = images(model)
    context = ragged(model, tokens, labels)
    draft = tokens[:, :WINDOW]
    order = torch.tensor([7, 2, 2, 11, 0, 5], device=model.device)
    parts = join([rows(context, order[:2]), rows(context, order[2:5]), rows(context, order[5:])])
    expected = model.laws(context, draft)
    assert (model.laws(parts, draft[order]) - expected[order]).abs().max() < 1e-5
    assert (expected[7] - expected[2]).abs().max() > 0.1


def test_a_gathered_context_does_not_share_its_buffers(model: DigitsModel) -> None:
    tokens, labels = images(model)
    context = ragged(model, tokens, labels)
    copy = rows(context, torch.arange(BATCH, device=model.device))
    before = model.laws(context, tokens[:, :WINDOW])
    model.laws(copy, (tokens[:, :WINDOW] + 5) % 17)
    after = model.advance(context, tokens[:, :WINDOW], torch.full_like(labels, 3))
    assert (model.laws(after, tokens[:, 3:WINDOW])[:, 0] - before[:, 3]).abs().max() < 1e-5


def test_one_row_has_the_laws_that_it_has_among_many(model: DigitsModel) -> None:
    tokens, labels = images(model)
    context = ragged(model, tokens, labels)
    alone = [
        model.laws(rows(context, torch.tensor([row], device=model.device)), tokens[row : row + 1, :WINDOW])
        for row in range(BATCH)
    ]
    assert (torch.cat(alone) - model.laws(context, tokens[:, :WINDOW])).abs().max() < 1e-5


@pytest.mark.thinned(2)
@pytest.mark.parametrize("begun", [0, 50, 60, 63, 64])
def test_windows_past_the_end_are_finite_and_touch_nothing_that_counts(model: DigitsModel, begun: int) -> None:
    tokens, labels = images(model)
    context = model.start_with(labels)
    model.laws(context, tokens)
    context = model.advance(context, tokens, torch.full_like(labels, begun))
    keys = context.cache.keys.clone()
    laws = model.laws(context, torch.full((BATCH, 80), 16, device=model.device))
    assert laws.shape == (BATCH, 81, 17)
    assert bool(laws.isfinite().all())
    assert (laws.sum(-1) - 1).abs().max() < 1e-5
    assert torch.equal(context.cache.keys[:, :, :, :begun], keys[:, :, :, :begun])
    inside = model.laws(context, tokens[:, :0])[:, 0]
    if begun < model.length:
        assert (inside - one_by_one(model, tokens, labels)[:, begun]).abs().max() < 1e-5


def test_advancing_by_nothing_changes_nothing(model: DigitsModel) -> None:
    tokens, labels = images(model)
    context = ragged(model, tokens, labels)
    still = model.advance(context, tokens[:, :3], torch.zeros_like(labels))
    before = model.laws(context, tokens[:, :2])
    assert torch.equal(model.laws(still, tokens[:, :2]), before)
    assert torch.equal(still.pending, context.pending)


class NoValues(TorchDispatchMode):
    """Raises where a tensor's values are read on the host or decide a shape."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.name() in {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}:
            raise AssertionError(f"{function.name()} waits for the device")
        return function(*args, **(kwargs or {}))


def test_a_pass_never_waits_for_the_device(model: DigitsModel) -> None:
    tokens, labels = images(model)
    context = ragged(model, tokens, labels)
    with NoValues():
        model.laws(context, tokens[:, :WINDOW])
        model.advance(context, tokens[:, :WINDOW], labels % WINDOW)
        with pytest.raises(AssertionError, match="waits for the device"):
            bool(labels[0] > 0)
