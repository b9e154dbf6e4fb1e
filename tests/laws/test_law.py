"""Gathering the rows and slots of laws."""

import torch

from specverify.laws import Gaussian, Mixture, at, choose, gather, repeated, select, window

mean = torch.arange(24, dtype=torch.float64).reshape(3, 4, 2)
law = Gaussian(mean, mean + 1)
mixture = Mixture(torch.zeros(3, 4, 1), mean.float()[:, :, None], mean.float()[:, :, None] + 1)


def test_each_row_has_its_own_slot():
    slot = torch.tensor([0, 3, 1])
    assert at(law, slot).mean.tolist() == [mean[0, 0].tolist(), mean[1, 3].tolist(), mean[2, 1].tolist()]
    assert at(mixture, slot).shape == (3,)
    many = gather(law, torch.tensor([[3, 0], [1, 1], [2, 0]]))
    assert many.shape == (3, 2)
    assert many.scale[0].tolist() == (mean[0, [3, 0]] + 1).tolist()


def test_a_window_repeats_the_last_slot():
    taken = window(law, torch.tensor([0, 2, 3]), 2)
    assert taken.mean.tolist() == torch.stack([mean[0, :2], mean[1, 2:], mean[2, [3, 3]]]).tolist()


def test_masks_pick_laws_over_all_axes():
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0, 1] = mask[2, 3] = True
    assert select(law, mask).mean.tolist() == [mean[0, 1].tolist(), mean[2, 3].tolist()]
    assert select(mixture, mask).mean.shape == (2, 1, 2)
    assert select(law, torch.tensor([2])).shape == (1, 4)
    mixed = choose(mask, law, Gaussian(-mean, mean + 2))
    assert torch.equal(mixed.mean, torch.where(mask[..., None], mean, -mean))
    assert torch.equal(mixed.scale, torch.where(mask[..., None], mean + 1, mean + 2))


def test_laws_repeat_along_a_new_axis():
    many = repeated(select(law, torch.tensor([0, 1])), 5)
    assert many.shape == (2, 5, 4)
    assert torch.equal(many.mean[:, 3], mean[:2])
