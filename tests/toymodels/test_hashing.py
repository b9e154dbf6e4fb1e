import torch

from toymodels.hashing import branches, fold, high_bits, seed

MASK = (1 << 64) - 1


def splitmix(state: int, value: int) -> int:
    mixed = (state + (value + 1) * 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return mixed ^ (mixed >> 31)


def test_first_outputs_are_the_published_ones_of_splitmix64():
    outputs = [int(fold(0, torch.tensor(k))) & MASK for k in range(3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_int64_arithmetic_agrees_with_python_integers():
    states = torch.randint(-(2**63), 2**63 - 1, (500,), generator=torch.Generator().manual_seed(0))
    for value in (0, 1, 15, 16384):
        got = fold(states, torch.tensor(value)).tolist()
        assert [hash_ & MASK for hash_ in got] == [splitmix(state & MASK, value) for state in states.tolist()]
    for bits in (1, 3, 31, 63):
        assert high_bits(states, bits).tolist() == [(state & MASK) >> (64 - bits) for state in states.tolist()]


def test_branches_are_the_folds_of_each_value():
    states = torch.arange(6).view(2, 3)
    together = branches(states, 4)
    assert together.shape == (2, 3, 4)
    for value in range(4):
        assert torch.equal(together[..., value], fold(states, torch.tensor(value)))


def test_seeds_of_names_differ_and_stay():
    assert seed("dense-3x6") != seed("dense-3x5")
    state = 0
    for byte in b"dense-3x6":
        state = splitmix(state, byte)
    assert seed("dense-3x6") & MASK == state
