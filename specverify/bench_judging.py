"""What judging a window of drafts costs, and drawing the token that follows, beside reading its laws once.

    python -m specverify.bench_judging --device cuda --out judging.json

Laws have random logits, drafts come from laws near them, and most are kept. The floor is the time in which p and q
could be read once, at the bandwidth of a large copy in the same run. Beside the rules are measured a loop over tokens
in Python, which stops at the first rejection, and transformers' own function, of one row, which makes laws of logits.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from specverify import environment
from specverify.bench_shape import keep
from specverify.decoders.judging import Draft, Judging, TokenRule, judge
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.laws import draw
from specverify.report.shape_cells import Size, Text, closed
from specverify.rules import registry

Sizes = tuple[int, int, int]
"""Batch, drafts of a window, vocabulary."""
SIZES: tuple[Sizes, ...] = ((1, 16, 8192), (8, 32, 16384), (1, 64, 65536))
RULES = ("scaling", "mixture", "lantern", "gsd", "gsd-static", "gsd-clusters")
LOOP, LIBRARY, TOKEN = "loop", "library", "token rule"
ROUNDS = 10
_DIM, _CLUSTERS = 8, 12
Work = Callable[[], object]


@closed
class Row(TypedDict):
    """One size."""

    batch: Size
    window: Size
    vocab: Size
    floor: Annotated[float, Field(gt=0, description="milliseconds in which p and q could be read once")]
    milliseconds: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(description="of each rule, and beside it")]


@closed
class Record(TypedDict):
    """What judging costs on a device."""

    schema: Literal["specverify-judging"]
    version: Literal[1]
    created: Text
    device: Text
    accelerator: str | None
    threads: Size
    software: dict[str, Text]
    bandwidth: Annotated[float, Field(gt=0, description="bytes a second that a large copy reads and writes")]
    call: Annotated[float, Field(gt=0, description="milliseconds of an addition of one number, waited for in bulk")]
    rows: list[Row]


class Window:
    """Logits and laws of one window, with drafts.

    Attributes:
        logits: of p, Float[batch, window + 1, vocab].
        theirs: of q, Float[batch, window, vocab].
        p, q: the laws.
        draft: from q, Int[batch, window].
    """

    def __init__(self, sizes: Sizes, device: str = "cpu") -> None:
        batch, window, vocab = sizes
        generator = torch.Generator(device).manual_seed(0)
        self.logits = 2 * torch.randn(batch, window + 1, vocab, generator=generator, device=device)
        noise = torch.randn(batch, window, vocab, generator=generator, device=device)
        self.theirs = self.logits[:, :-1] + 0.1 * noise
        self.p, self.q = self.logits.softmax(-1), self.theirs.softmax(-1)
        drawn = torch.multinomial(self.q.flatten(0, 1), 1, generator=generator)
        self.draft = drawn.reshape(batch, window)

    def judging(self, rule: Judging) -> Callable[[], tuple[Tensor, Tensor]]:
        """A rule's work, as a decoder's step does it: how many drafts are kept, and what follows them."""
        batch, window = self.draft.shape
        device = self.draft.device
        draws, everywhere = Sampled(0, device=device), torch.ones(batch, dtype=torch.bool, device=device)
        drafts = Draft(self.draft, self.q, torch.zeros(batch, dtype=torch.int64, device=device))
        drafted = torch.full((batch,), window, device=device)

        def work() -> tuple[Tensor, Tensor]:
            run, law = judge(rule, self.p, drafts, drafted, draws)
            return run, draw(law, draws, everywhere)

        return work

    def loop(self) -> list[tuple[int, int]]:
        """The token rule over rows and tokens, in Python: for each row the drafts that are kept, and what follows."""
        found, (batch, window) = [], self.draft.shape
        for row in range(batch):
            for slot in range(window):
                x = int(self.draft[row, slot])
                if torch.rand((), device=self.p.device) >= self.p[row, slot, x] / self.q[row, slot, x]:
                    left = (self.p[row, slot] - self.q[row, slot]).clamp(min=0)
                    found.append((slot, int(torch.multinomial(left / left.sum(), 1))))
                    break
            else:
                found.append((window, int(torch.multinomial(self.p[row, -1], 1))))
        return found

    def library(self) -> Work | None:
        """transformers' function, of one row; None for more, or where there is none."""
        try:
            function = importlib.import_module("transformers.generation.utils")._speculative_sampling
        except (ImportError, AttributeError):
            return None
        if len(self.draft) > 1:
            return None
        # Up to 4.57 it also asks whether the candidates end there.
        done = [False] if "is_done_candidate" in inspect.signature(function).parameters else []
        return lambda: function(self.draft, self.theirs, self.draft.shape[1], self.logits, *done)


def beside(works: Mapping[str, Work], rounds: int, calls: int = 1, device: str = "cpu") -> dict[str, float]:
    """Seconds of several pieces of work that take turns, so that a busy machine is busy for all of them.

    Each is the least of `rounds` means over so many calls, which differ where they are random. A GPU is waited for
    once behind these calls.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            _wait(device)
            start = time.perf_counter()
            for _ in range(calls):
                work()
            _wait(device)
            times[name].append((time.perf_counter() - start) / calls)
    return {name: min(taken) for name, taken in times.items()}


def bandwidth(device: str = "cpu") -> float:
    """Bytes a second that a large copy reads and writes."""
    source = torch.zeros(1 << (28 if device == "cuda" else 25), dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    calls = 10 if device == "cuda" else 1  # or the asking and the waiting would count
    return 2 * source.numel() / beside({"copy": lambda: target.copy_(source)}, 10, calls, device)["copy"]


def call(device: str = "cpu") -> float:
    """Seconds of a small operation, many of which are waited for together."""
    one = torch.zeros(1, device=device)
    return beside({"call": lambda: one.add(1)}, 10, 1000, device)["call"]


def rules(names: Sequence[str], vocab: int, device: str) -> dict[str, Judging]:
    """Relaxed rules by name, at their usual values, over a random embedding and clusters that follow from none."""
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(vocab, _DIM, generator=generator).to(device)
    context = registry.Context(embedding, (torch.arange(vocab) % _CLUSTERS).to(device))
    return {name: registry.rule(name).build(None, context) for name in names}


def floor(window: Window, speed: float) -> float:
    """Seconds in which p and q could be read once."""
    return (window.p.nbytes + window.q.nbytes) / speed


@torch.no_grad()
def measure(sizes: Sequence[Sizes], names: Sequence[str], device: str, rounds: int = ROUNDS) -> Record:
    """The token rule, relaxed rules, a loop and transformers' function at each size.

    Raises:
        InputError: for a size below 1, an unknown rule, or a device that cannot be used or holds too little.
    """
    environment.check_device(device)
    for one in sizes:
        if min(one) < 1 or one[2] < _CLUSTERS:
            raise InputError(
                f"size {'x'.join(map(str, one))}: batch and window are at least 1, and there are 12 tokens"
            )
    speed, rows = bandwidth(device), list[Row]()
    for batch, size, vocab in sizes:
        try:
            window = Window((batch, size, vocab), device)
            chosen: dict[str, Judging] = {TOKEN: TokenRule(), **rules(names, vocab, device)}
            works: dict[str, Work] = {name: window.judging(rule) for name, rule in chosen.items()}
            works[LOOP] = window.loop
            if (library := window.library()) is not None:
                works[LIBRARY] = library
            for work in works.values():
                work()
            taken = beside(works, rounds, 5, device)
        except torch.OutOfMemoryError as error:
            raise InputError(f"{batch} x {size} x {vocab} does not fit on {device}; choose smaller sizes") from error
        rows.append(
            {
                "batch": batch,
                "window": size,
                "vocab": vocab,
                "floor": 1e3 * floor(window, speed),
                "milliseconds": {name: 1e3 * seconds for name, seconds in taken.items()},
            }
        )
    return {
        "schema": "specverify-judging",
        "version": 1,
        "created": environment.now(),
        "device": device,
        "accelerator": environment.accelerator(device),
        "threads": torch.get_num_threads(),
        "software": environment.software(),
        "bandwidth": speed,
        "call": 1e3 * call(device),
        "rows": rows,
    }


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


app = typer.Typer(add_completion=False)


@app.command()
def main(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    size: Annotated[str, typer.Option(help="Batch x window x vocabulary, several with commas.")] = ",".join(
        "x".join(map(str, one)) for one in SIZES
    ),
    rule: Annotated[str, typer.Option(help="Relaxed rules, with commas.")] = ",".join(RULES),
    out: Annotated[Path, typer.Option(help="The record.")] = Path("out/judging.json"),
) -> None:
    """Measure what judging costs, and write it down."""
    try:
        found = measure([_size(text) for text in size.split(",")], [r for r in rule.split(",") if r], device)
        keep(found, Record, out)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    for row in found["rows"]:
        costs = ", ".join(f"{name} {value:.3g}" for name, value in row["milliseconds"].items())
        typer.echo(f"{row['batch']} x {row['window']} x {row['vocab']}: floor {row['floor']:.3g} ms; {costs}")
    typer.echo(str(out))


def _size(text: str) -> Sizes:
    parts: list[int] = []
    with contextlib.suppress(ValueError):
        parts = [int(part) for part in text.split("x")]
    if len(parts) != 3:
        raise InputError(f"size {text!r} is not batch x window x vocabulary; write --size 8x32x16384")
    return (parts[0], parts[1], parts[2])


if __name__ == "__main__":
    app()
