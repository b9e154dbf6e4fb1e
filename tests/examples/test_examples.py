"""The examples of continuous tokens run as they are, are short, and say what is said of them."""

import ast
import math
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

FOLDER = Path(__file__).parent
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py") if not path.name.startswith("test_"))


def ran(name, capsys):
    runpy.run_path(str(FOLDER / name))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_has_at_most_20_lines_of_code(name):
    text = (FOLDER / name).read_text()
    body = text.split('"""', 2)[2]
    assert sum(bool(line.strip()) for line in body.splitlines()) <= 20
    assert ast.get_docstring(ast.parse(text))


def test_a_lossless_decoder_is_judged_consistent(capsys):
    cost, found, verdict = ran("continuous_tokens.py", capsys)
    assert re.fullmatch(r"2\.1\d passes instead of 4, 6[12]\.\d% of drafts accepted", cost)
    assert found == "rejected: False; sees a Kolmogorov distance of 0.034 in any of 32 coordinates"
    assert verdict.startswith("CONSISTENT: 1 setting, ")


@pytest.mark.slow
def test_cspd_as_published_is_far_from_what_is_due(capsys):
    *points, last = ran("cspd_density.py", capsys)
    rows = [[float(x) for x in re.findall(r"-?\d+\.\d+", point)] for point in points]
    assert [row[0] for row in rows] == [-2, -1, 0, 1, 2]
    # What comes is symmetric, too low in the middle and too high outside.
    assert rows[0][2] == rows[4][2] > rows[0][1]
    assert rows[2][2] < rows[2][1]
    scale = stats.norm.pdf(0) / rows[2][1]
    assert [stats.norm.pdf(x, scale=scale) for x, _, _ in rows] == pytest.approx([row[1] for row in rows], abs=2e-3)
    tv, exact = re.fullmatch(r"total variation (0\.\d+); of the exact rule (\S+)", last).groups()
    assert float(tv) == pytest.approx(published_tv(), abs=2e-4)
    assert float(exact) < 1e-12


def published_tv():
    """The same by scipy's nested quadrature, from the formulas of the chain alone."""
    cosine = [math.cos((t / 2 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(3)]
    betas = [min(1 - cosine[t] / cosine[t - 1], 0.98) for t in (1, 2)]
    kept = [1, 1 - betas[0], (1 - betas[0]) * (1 - betas[1])]
    noise = math.sqrt(betas[1] * (1 - kept[1]) / (1 - kept[2]))
    slopes = []
    for t in (1, 2):  # with data N(0, 1) the prediction is sqrt(kept) x
        of_data = math.sqrt(kept[t - 1]) * betas[t - 1] / (1 - kept[t])
        of_state = math.sqrt(1 - betas[t - 1]) * (1 - kept[t - 1]) / (1 - kept[t])
        slopes.append(of_data * math.sqrt(kept[t]) + of_state)
    # x_1 = slope_2 x_2 + noise e, of the draft with 1.5 noise e; x_0 given x_1 is N(slope_1 x_1, noise).
    first, second = slopes
    variance = first**2 * (second**2 + noise**2) + noise**2
    wide, sigma = 1.5 * noise, 1.5

    x = np.linspace(-9, 9, 1801)
    step, out = x[1] - x[0], np.zeros_like(x)
    nodes = np.linspace(-7, 7, 141)
    mass = np.exp(-(nodes**2) / 2) / np.exp(-(nodes**2) / 2).sum()
    for a, u in zip(nodes, mass, strict=True):
        mean_p, mean_q = (first * (second * a + s * nodes) for s in (noise, wide))
        p = stats.norm.pdf(x, mean_p[:, None], noise)
        q = stats.norm.pdf(x, mean_q[:, None], wide)
        kept_draft = np.minimum(q, sigma * p)
        residual = np.maximum(p - q / sigma, 0)
        lost = 1 - integrate.trapezoid(kept_draft, dx=step)
        out += u * mass @ (kept_draft + (lost / integrate.trapezoid(residual, dx=step))[:, None] * residual)
    return 0.5 * integrate.trapezoid(abs(out - stats.norm.pdf(x, scale=math.sqrt(variance))), dx=step)
