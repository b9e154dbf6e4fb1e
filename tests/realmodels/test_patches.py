import pytest
import torch

from realmodels.data import digits
from realmodels.patches import DIM, LENGTH, STEP, to_patches, to_pixels
from specverify.errors import InputError

TOKENS = digits()[1].tokens


def test_a_patch_is_a_square_of_four_neighbours_in_raster_order() -> None:
    image = (torch.arange(64) % 17)[None]
    patches = to_patches(image)
    assert patches.shape == (1, LENGTH, DIM)
    for row, column in ((0, 0), (0, 3), (2, 1)):
        corner = 16 * row + 2 * column
        square = image[0, [corner, corner + 1, corner + 8, corner + 9]]
        assert patches[0, 4 * row + column].tolist() == ((square - 8) / 8).tolist()


def test_rounding_takes_the_noise_away() -> None:
    patches = to_patches(TOKENS, torch.Generator().manual_seed(0))
    assert torch.equal(to_pixels(patches), TOKENS)
    assert torch.equal(to_pixels(to_patches(TOKENS)), TOKENS)
    assert patches.abs().max() <= 1 + STEP / 2


def test_the_noise_is_uniform_over_one_grey_level() -> None:
    noise = (to_patches(TOKENS, torch.Generator().manual_seed(0)) - to_patches(TOKENS)) / STEP
    ordered = noise.flatten().double().sort().values + 0.5
    n = len(ordered)
    distance = (ordered - torch.arange(1, n + 1) / n).abs().max()
    assert distance < 2.7 / n**0.5  # Kolmogorov's limit at 1e-6
    assert not torch.equal(noise[0], noise[1])


def test_numbers_beyond_black_and_white_are_black_and_white() -> None:
    patches = torch.full((1, LENGTH, DIM), -7.0)
    patches[0, 0] = 7.0
    assert to_pixels(patches)[0, [0, 1, 8, 9]].tolist() == [16] * 4
    assert int(to_pixels(patches).sum()) == 64


def test_bad_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"images have 49 pixels; patches are cut from 8 x 8 = 64"):
        to_patches(TOKENS[:, :49])
    with pytest.raises(InputError, match=r"pixels hold 0\.\.17, outside 0\.\.16"):
        to_patches(torch.arange(18).repeat(4)[None, :64])
    with pytest.raises(InputError, match=r"patches have shape \(1, 16, 3\), expected \(n, 16, 4\)"):
        to_pixels(torch.zeros(1, 16, 3))
    with pytest.raises(InputError, match="not finite; it has no nearest grey level"):
        to_pixels(torch.full((1, 16, 4), torch.nan))
