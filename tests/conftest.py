"""Seeds, profiles and the statistical check that all tests share.

`--seed N` (default 0) moves every sampling seed, and with N > 0 hypothesis draws other examples too: by default it is
derandomised. Same N, same run. Tests marked `gpu` are deselected, not skipped, where there is no CUDA device, and the
number of them is reported. Of a test marked `thinned(n)` the session `tests` runs one of n cases; the others are slow.

Shapes are checked against annotations in the folders and files of `SHAPES`, whose tests ask each part by itself;
elsewhere that would take half of the time. The session `shapes` checks them everywhere.
"""

import gc
import zlib
from collections import Counter

import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch
from scipy import optimize, stats

from specverify import tree
from specverify.memory import keep_freed
from specverify.seeds import derived_seed
from specverify.worlds import follow

ALPHA = 1e-6
"""False-alarm rate of each statistical assertion."""
POWER = 0.999
"""Chance that such an assertion sees the discrepancy that it states."""
SHAPES = {"draws", "laws", "rules", "toymodels"} | {
    f"test_{name}.py" for name in ("continuous_rows", "llamagen", "mar", "mar_laws", "patch_models", "step", "window")
}
_DESELECTED = pytest.StashKey[int]()


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=0, help="moves every seed of the tests (default 0: those of CI)")
    parser.addoption("--shapes", action="store_true", help="check shapes in all folders (see the session `shapes`)")


def pytest_configure(config):
    seed = config.getoption("--seed")
    if seed < 0:
        raise pytest.UsageError(f"--seed {seed}: use an integer of at least 0")
    torch.set_num_threads(1)
    keep_freed()
    gc.disable()  # while tests are collected: nothing made then is garbage, and looking for it is a quarter of the time
    jaxtyping.config.update("jaxtyping_disable", True)  # while tests are collected; see pytest_runtest_protocol
    hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, database=None)
    hypothesis.settings.register_profile("vary", deadline=None, database=None, print_blob=True)
    hypothesis.settings.load_profile("vary" if seed else "ci")
    if seed:
        hypothesis.core.global_force_seed = seed


def pytest_report_header(config):
    seed = config.getoption("--seed")
    return f"seed {seed}, hypothesis profile {'vary' if seed else 'ci'}, alpha {ALPHA:g} per statistical assertion"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    _thin(items)
    gpu = [] if torch.cuda.is_available() else [item for item in items if item.get_closest_marker("gpu")]
    items[:] = [item for item in items if item not in gpu]
    config.hook.pytest_deselected(items=gpu)
    config.stash[_DESELECTED] = len(gpu)


def _thin(items):
    """Of each n cases of a test marked `thinned(n)` all but one are slow: the first of the first n, then any.

    Every n-th would meet only some values of a parameter whose number of values shares a factor with n.
    """
    seen = Counter()
    for item in items:
        if thinned := item.get_closest_marker("thinned"):
            name = item.nodeid.partition("[")[0]
            block, place = divmod(seen[name], thinned.args[0])
            if place != (zlib.crc32(f"{name} {block}".encode()) % thinned.args[0] if block else 0):
                item.add_marker("slow")
            seen[name] += 1


def pytest_collection_finish():
    gc.enable()


def pytest_report_collectionfinish(config):
    number = config.stash.get(_DESELECTED, 0)
    return f"no CUDA device: {number} gpu tests deselected, none of them counts as passed" if number else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    checked = item.config.getoption("--shapes") or SHAPES & {item.path.parent.name, item.path.name}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", not checked)
        return (yield)


@pytest.fixture
def seed(request):
    """This test's own sampling seed, moved by --seed."""
    return derived_seed(request.config.getoption("--seed"), zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def agrees():
    """`agrees(counts, law, sees)`: a chi-square test at ALPHA that sees a total variation of `sees` with chance POWER.

    Impossible outcomes must not occur at all; those expected fewer than ten times are pooled.
    """

    def check(counts, law, sees):
        counts, law = np.asarray(counts, dtype=float), np.asarray(law, dtype=float)
        n = counts.sum()
        assert not counts[law == 0].any(), f"impossible outcomes {np.flatnonzero((law == 0) & (counts > 0))}"
        rare = n * law < 10
        observed = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(n * law[~rare], n * law[rare].sum())
        observed, expected = observed[expected > 0], expected[expected > 0]
        assert len(expected) > 1, "a law with one outcome says nothing"
        delta = smallest_seen(len(expected) - 1, n) + float(law[rare].sum())
        assert delta <= sees, f"n = {n:.0f} sees a total variation of {delta:.4f}, not of {sees}"
        p = stats.chisquare(observed, expected * n / expected.sum()).pvalue
        assert p >= ALPHA, f"p = {p:.2e} with n = {n:.0f} and {len(expected)} outcomes (seen from {delta:.4f})"

    return check


def smallest_seen(freedom, n):
    """The total variation delta from which the test has POWER: the noncentrality is at least 4 n delta^2."""
    critical = stats.chi2.isf(ALPHA, freedom)
    noncentrality = optimize.brentq(lambda x: stats.ncx2.sf(critical, freedom, x) - POWER, 1e-3, 1e4)
    return float(np.sqrt(noncentrality / (4 * n)))


@pytest.fixture(scope="session")
def worlds():
    """`worlds(function)`: the result of a function of draws in every possible world, one per row, and their weights."""

    def enumerate_function(function):
        found = follow(lambda _, draws: function(draws), None, torch.ones(1, dtype=torch.float64))
        results, _, _, weights = zip(*found, strict=True)
        return tree.join(list(results)), torch.cat(weights)

    return enumerate_function
