"""Programs that draw tokens by laws in every way that is followed: `WAYS[name](law, seed) -> tokens`, one for each row.

Each is right: row i has a token of law[i], Float64[rows, vocab].
"""

import bisect
import math
import random

import numpy as np
import torch


def own(seed):
    return torch.Generator().manual_seed(seed)


def cdf_of(law):
    return (law.cumsum(-1) / law.sum(-1, keepdim=True))[:, :-1]


def bucketized(law, seed):
    g = own(seed)
    return [
        int(torch.bucketize(torch.rand(1, generator=g, dtype=torch.float64), row, right=True)) for row in cdf_of(law)
    ]


def bisected(law, seed):
    rng = random.Random(seed)
    return [bisect.bisect(row, rng.random()) for row in cdf_of(law).tolist()]


def by_uniform(law, seed):
    u = torch.empty(len(law), 1, dtype=torch.float64)
    u.uniform_(-1, 3, generator=own(seed))
    return (4 * cdf_of(law) - 1 <= u).sum(1).tolist()


def gumbel(law, seed):
    u = torch.rand(law.shape, dtype=law.dtype, generator=own(seed)).clamp(min=1e-20)
    return (law.log() - torch.log(-torch.log(u))).argmax(-1).tolist()


def gumbel_tempered(law, seed):
    u = torch.rand_like(law, generator=own(seed))
    return (((law.log() + 3) - (-(u + 1e-20).log()).log()) / 0.7).max(-1, keepdim=True).indices[:, 0].tolist()


def exponential(law, seed):
    noise = torch.empty_like(law).exponential_(1, generator=own(seed))
    return (law / noise).argmax(dim=-1).tolist()


def exponential_in_place(law, seed):
    noise, p = torch.empty_like(law), law.clone()
    noise.exponential_(2.0, generator=own(seed))
    return p.div_(noise).argmax(dim=-1).tolist()


def exponential_smallest(law, seed):
    noise = -torch.log1p(-torch.rand(law.shape, dtype=law.dtype, generator=own(seed)))
    return torch.argmin(noise / law, -1).tolist()


def powers(law, seed):
    rng = np.random.default_rng(seed)
    return [int(np.argmax(rng.random(len(row)) ** (1 / row))) for row in law.numpy()]


def numpys_gumbel(law, seed):
    rng = np.random.default_rng(seed)
    return (np.log(law.numpy()) + rng.gumbel(size=tuple(law.shape))).argmax(-1).tolist()


def numpys_exponential(law, seed):
    rng = np.random.RandomState(seed)
    return [int(np.argmax(row / rng.exponential(size=len(row)))) for row in law.numpy()]


def logarithms_of_python(law, seed):
    rng = random.Random(seed)
    found = []
    for row in law.tolist():
        u = rng.random()
        total, token = 0.0, 0
        while token < len(row) - 1 and math.log(u) > math.log(total + row[token]):
            total, token = total + row[token], token + 1
        found.append(token)
    return found


def searched_by_numpy(law, seed):
    rng = np.random.default_rng(seed)
    drawn = rng.random(len(law))
    return [int(np.searchsorted(row, drawn[at], side="right")) for at, row in enumerate(cdf_of(law).numpy())]


def chosen_by_numpy(law, seed):
    rng = np.random.default_rng(seed)
    return [int(rng.choice(len(row), p=row)) for row in law.numpy()]


def legacy(law, seed):
    np.random.seed(seed)  # noqa: NPY002
    return [int(np.random.choice(len(row), 1, p=row)[0]) for row in law.numpy()]  # noqa: NPY002


def counted(law, seed):
    rng = np.random.default_rng(seed)
    return [int(rng.multinomial(1, row).argmax()) for row in law.numpy()]


def into_torch(law, seed):
    u = torch.from_numpy(np.random.default_rng(seed).uniform(0.0, 1.0, size=(len(law), 1)))
    return torch.searchsorted(cdf_of(law).contiguous(), u, right=True)[:, 0].tolist()


def chosen_by_python(law, seed):
    rng = random.Random(seed)
    return [rng.choices(range(len(row)), weights=row)[0] for row in law.tolist()]


def rejection(law, seed):
    """Until a token that is proposed is kept; from torch, compared as Python's numbers."""
    g, found = own(seed), []
    for row in law.tolist():
        while True:
            token = int(torch.randint(0, len(row), (1,), generator=g))
            if torch.rand((), generator=g).item() * max(row) < row[token]:
                break
        found.append(token)
    return found


def first_of_an_order(law, seed):
    """The first of all tokens, which are drawn without replacement; then others shuffled, to no effect."""
    g = own(seed)
    first = torch.multinomial(law, law.shape[1], replacement=False, generator=g)[:, 0].tolist()
    torch.randperm(2, generator=g)
    return first


def alias(law, seed):
    """A column by a whole number made of a uniform one, and a coin; for two tokens."""
    rng, found = random.Random(seed), []
    for row in law.tolist():
        column = int(rng.random() * len(row))
        heavy = max(range(len(row)), key=row.__getitem__)
        found.append(column if rng.uniform(0, 1) < len(row) * row[column] else heavy)
    return found


WAYS = {
    way.__name__: way
    for way in (
        bucketized, bisected, by_uniform, gumbel, gumbel_tempered, exponential, exponential_in_place,
        exponential_smallest, powers, numpys_gumbel, numpys_exponential, logarithms_of_python, searched_by_numpy,
        chosen_by_numpy, legacy, counted, into_torch, chosen_by_python, rejection, first_of_an_order, alias,
    )
}  # fmt: skip
