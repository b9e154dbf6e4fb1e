"""Every family's law as its docstring defines it, in plain Python, one prefix at a time."""

MASK = (1 << 64) - 1


def fold(state: int, value: int) -> int:
    mixed = (state + (value + 1) * 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return mixed ^ (mixed >> 31)


def hashed(start: int, values) -> int:
    for value in values:
        start = fold(start, value)
    return start


def skewed(state: int, vocab: int) -> list[int]:
    return [1 + (fold(state, v) >> 61) ** 3 for v in range(vocab)]


def favourite(state: int, vocab: int) -> int:
    return (fold(state, vocab) >> 33) % vocab


def sparse(seed, vocab, s):
    prefix = hashed(seed, s)
    best = favourite(prefix, vocab)
    hashes = [fold(prefix, v) for v in range(vocab)]
    keep = [(hashes[v] % 4 != 0 or v == best) and v != (best + 1) % vocab for v in range(vocab)]
    return [(1 + (hashes[v] >> 61)) if keep[v] else 0 for v in range(vocab)]


def sharp(seed, vocab, s):
    prefix = hashed(seed, s)
    weights = [1 + (fold(prefix, v) >> 62) for v in range(vocab)]
    weights[favourite(prefix, vocab)] = 400 * (vocab - 1)
    return weights


def skew(seed, vocab, s):
    return [(4 + (fold(hashed(seed, s), v) >> 62)) * (2 + len(s)) ** v for v in range(vocab)]


def raster(seed, vocab, s):
    if len(s) % 3 == 2:
        return [0] * (vocab - 1) + [1]
    left = s[-1] if len(s) % 3 else vocab
    up = s[-3] if len(s) >= 3 else vocab
    return [*skewed(hashed(seed, (left, up)), vocab)[:-1], 0]


def synonyms(seed, vocab, s):
    size = vocab // 2
    totals = skewed(hashed(seed, [token // size for token in s]), 2)
    excess = [fold(hashed(seed, s), v) >> 62 for v in range(vocab)]
    nearby = [v // size * size + (v + 1) % size for v in range(vocab)]
    return [totals[v // size] * (8 + excess[v] - excess[nearby[v]]) for v in range(vocab)]


def redundant(seed, vocab, s):
    state = hashed(seed, [token // 2 for token in s])
    totals = skewed(state, vocab // 2)
    first = [1 + (fold(fold(state, vocab), c) >> 33) % 15 for c in range(vocab // 2)]
    return [totals[v // 2] * (16 - first[v // 2] if v % 2 else first[v // 2]) for v in range(vocab)]


def penalty(seed, vocab, s):
    base = skewed(fold(seed, len(s)), vocab)
    return [base[v] * 2 ** (6 - s.count(v)) for v in range(vocab)]


def recurrent(seed, vocab, s):
    state = 0
    for token in s:
        state = (5 * state + token + 1) % 16
    return [1 + (fold(fold(seed, state), v) >> 56) for v in range(vocab)]


def switch(seed, vocab, s):
    weights = skewed(fold(seed, len(s)), vocab)
    weights[s.count(vocab - 1) % 2] = 0
    return weights


DEFINITIONS = {
    "dense": lambda seed, vocab, s: skewed(hashed(seed, s), vocab),
    "hash": lambda seed, vocab, s: skewed(hashed(seed, s), vocab),
    "sparse": sparse,
    "ties": lambda seed, vocab, s: [1 + 3 * (fold(hashed(seed, s), v) >> 63) for v in range(vocab)],
    "sharp": sharp,
    "skew": skew,
    "zero": lambda seed, vocab, s: [512, *skewed(hashed(seed, s), vocab)[1:]],
    "markov": lambda seed, vocab, s: skewed(fold(seed, s[-1] if s else vocab), vocab),
    "raster": raster,
    "synonyms": synonyms,
    "redundant": redundant,
    "eos": lambda seed, vocab, s: [0, 0, 1] if 2 in s else skewed(hashed(seed, s), vocab),
    "penalty": penalty,
    "window": lambda seed, vocab, s: skewed(hashed(seed, ((vocab,) * 3 + s)[-3:]), vocab),
    "recurrent": recurrent,
    "switch": switch,
}


def definition(name: str, vocab: int, prefix: tuple[int, ...]) -> list[float]:
    seed = hashed(0, name.encode())
    weights = DEFINITIONS[name.split("-")[0]](seed, vocab, prefix)
    return [weight / sum(weights) for weight in weights]
