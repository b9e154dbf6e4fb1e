"""`specverify validate` of samplers that no seed repeats."""

from typer.testing import CliRunner

from specverify import cli
from specverify.verdict import Kind

KEEPS = """
import itertools
import torch

CALLS = itertools.count()


def sampler(target, draft, n, seed):
    generator = torch.Generator().manual_seed(1000 * seed + next(CALLS))
    tokens = torch.zeros(n, 0, dtype=torch.int64)
    for _ in range(target.length):
        law = target.laws(target.start(n), tokens)[:, -1]
        tokens = torch.cat([tokens, torch.multinomial(law, 1, generator=generator)], 1)
    return tokens
"""


def test_a_sampler_that_no_seed_repeats_is_judged_where_that_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keeps.py").write_text(KEEPS)
    asked = ["validate", "keeps.py:sampler", "--level", "sampler", "--toy", "dense-3x6", "--seconds", "4"]
    found = CliRunner().invoke(cli.app, asked)
    assert found.exit_code == Kind.ERROR.exit_code, found.output
    assert "--no-reproducible" in found.output
    found = CliRunner().invoke(cli.app, [*asked, "--no-reproducible"])
    assert found.exit_code in (Kind.CONSISTENT.exit_code, Kind.INCONCLUSIVE.exit_code), found.output
    assert "--no-reproducible" in found.output.partition("\nreproduce\n")[2]
