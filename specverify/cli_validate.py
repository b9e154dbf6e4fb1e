"""The commands that judge somebody's subject: validate, replay."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specverify import cli_errors, files
from specverify.errors import INTERRUPTED, InputError, printable
from specverify.subjects import resolve

if TYPE_CHECKING:
    from rich.console import Console

    from specverify.subjects.judgement import Judgement

JUDGEMENT, CERTIFICATE = "judgement.json", "certificate.json"


Seconds = Annotated[
    float,
    typer.Option(
        help="What the checks may take, in seconds of the processor. Starting and the least that a verdict on a "
        "decoder rests on come on top, some 20."
    ),
]
Limit = Annotated[
    float | None,
    typer.Option(
        help="End the subject once its processes have computed for so many seconds together, or waited for so long.",
        show_default="twice --seconds, and 60",
    ),
]
Memory = Annotated[
    int | None,
    typer.Option(help="MiB that its processes may take together.", show_default="half of what the machine has"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the judgement as JSON.")]


def _delta(text: str) -> float | None:
    """A number, or None for "auto"."""
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number, and not auto") from None


def validate(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF", help="PKG.MOD:OBJECT, path/to/file.py:OBJECT, a plug-in, or a trace (.npz, .safetensors)."
        ),
    ],
    claim: Annotated[
        str | None,
        typer.Option(
            metavar="CLAIM",
            help="lossless, relaxed:0.05, or cluster:0,1|2,3.",
            show_default="the subject's own, or lossless",
        ),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(
            metavar=f"[{'|'.join(resolve.LEVELS)}]",
            help="What REF is; a decoder may be of ids or of vectors.",
            show_default="told by looking at it, where it can be",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="All randomness derives from it; at least 0.")] = 0,
    seconds: Seconds = 60.0,
    delta: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER|auto",
            parser=_delta,
            help="What the statistics must be able to see. 'auto' aims at the usual and, where time is short or a log "
            "has no more tokens, answers with what was reached, up to 0.1.",
            show_default="auto; the usual is 0.01 for samplers and decoders of vectors, 0.02 for rounds and traces",
        ),
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--no-exact",
            help="Judge a sampler by following every draw (torch, numpy, random) alone, or by samples alone.",
            show_default="both: samples, then as far as its draws can be followed",
        ),
    ] = None,
    reproducible: Annotated[
        bool | None,
        typer.Option(
            "--reproducible/--no-reproducible",
            help="Whether a sampler gives the same sequences for the same seed; one that does not is sampled alone.",
            show_default="it does",
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Toys of a sampler: smallest, tiny, small, standard, guided or processors; NAME-ties and NAME-high "
            "for other conventions of top-k.",
            show_default="standard; smallest with --exact",
        ),
    ] = None,
    toys: Annotated[
        list[str] | None,
        typer.Option(
            "--toy",
            metavar="NAME",
            help="One toy, of those of `specverify list models`, on which a decoder or a sampler is judged.",
            show_default="all that suit",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE.npz|TOY|...",
            help="A law of your own for a decoder or a sampler: arrays p0, p1, ... of each token's chances after every "
            "prefix. Or, for a sampler, a toy and what is done to it: 'dense-3x6|guidance=2,from=recurrent-3x6|"
            "top_k=2'.",
            show_default="those of --suite",
        ),
    ] = None,
    gamma: Annotated[
        int | None, typer.Option(min=1, help="Slots for drafts of a kernel; others are tried beside.", show_default="3")
    ] = None,
    limit: Limit = None,
    memory: Memory = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the judgement and the certificate.", show_default="out/validate-REF")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Add the judgement to the record and report there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a decoder, kernel, sampler or trace in a process of its own, and exit with the verdict's code.

    Writes judgement.json and, where a decoder of ids is refuted by enumeration or proved for all laws,
    certificate.json, which `specverify replay` runs again. An error replaces no earlier judgement.
    """
    from rich.console import Console

    from specverify.report import record as records
    from specverify.subjects import isolation

    if level is not None and level not in (*resolve.LEVELS, *resolve.ALIASES):
        raise InputError(cli_errors.unknown("--level", level, tuple(resolve.LEVELS)))
    files.check_writable(out or default_out(reference))
    if report is not None:
        records.load(report / records.NAME)  # a record that cannot be added to is said before the work
    if toys and len(toys) > 1:
        raise InputError(f"--toy was given {len(toys)} times ({', '.join(toys)}); judge it on one toy at a time")
    toy = toys[0] if toys else None
    asked = {"delta": delta, "suite": suite, "toy": toy, "target": target, "gamma": gamma}
    asked |= {"exact": exact, "reproducible": reproducible}
    options = {name: value for name, value in asked.items() if value is not None}
    console = Console(highlight=False)
    try:
        with _waiting(f"judging {reference}"):
            judgement = isolation.judge_isolated(
                reference,
                level,
                claim,
                seed=seed,
                seconds=seconds,
                options=options,
                limit=limit,
                memory=memory,
            )
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing was written; the same command begins again", err=True)
        raise typer.Exit(INTERRUPTED) from None
    written = _write(judgement, out or default_out(reference))
    if report is not None:
        from specverify.report import parts

        added = parts.add(report, "judgements", {**judgement.to_json(), "seed": seed})
        written += [added.html, added.markdown]
    _print(console, judgement, as_json)
    if not as_json:
        typer.echo("\n".join(["", *map(str, written)]) if written else "")
    raise typer.Exit(judgement.verdict.kind.exit_code)


def default_out(reference: str) -> Path:
    """Where the results go: what is named by a path has a folder of its own, whatever else has such a name."""
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", reference).strip("-.") or "subject"
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.]+)?", reference):
        name += f"-{hashlib.sha256(os.path.abspath(reference).encode()).hexdigest()[:6]}"
    return Path("out") / f"validate-{name}"


def _write(judgement: Judgement, folder: Path) -> list[Path]:
    from specverify import checksum
    from specverify.subjects import certificate
    from specverify.verdict import Kind

    written = [folder / JUDGEMENT, folder / CERTIFICATE]
    found = judgement.certificate
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole = checksum.sealed(judgement.to_json())
        if judgement.verdict.kind is Kind.ERROR and _answers(written[0]):
            typer.echo(f"{written[0]} holds an earlier judgement, which an error does not replace", err=True)
            return []
        written[0].write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        written[1].unlink(missing_ok=True)  # of an earlier run
        if found is None or judgement.level != "decoder":  # only those can be replayed
            return written[:1]
        certificate.save(found, written[1])
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from error
    return written


def _answers(path: Path) -> bool:
    """Whether an earlier judgement lies there that is no error."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["verdict"]["kind"] != "ERROR")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _json(judgement: Judgement) -> str:
    return json.dumps(judgement.to_json(), indent=1, allow_nan=False)


def _print(console: Console, judgement: Judgement, as_json: bool) -> None:
    from specverify.report.judgement import show

    if as_json:
        typer.echo(_json(judgement))
    else:
        show(judgement, console)


def _waiting(what: str) -> AbstractContextManager[Any]:
    """A spinner, on a terminal only."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    return console.status(Text(printable(what))) if console.is_terminal else contextlib.nullcontext()


def replay(
    certificate: Annotated[
        Path, typer.Argument(metavar="CERT", help="A certificate.json, or the folder that holds one.")
    ],
    subject: Annotated[
        str | None, typer.Option(metavar="REF", help="Try another subject.", show_default="the one it is about")
    ] = None,
    seconds: Seconds = 60.0,
    limit: Limit = None,
    memory: Memory = None,
    as_json: AsJson = False,
) -> None:
    """Run a counterexample again: exits with 1 if it still refutes its subject, and with 0 if the subject passes it."""
    from rich.console import Console

    from specverify.subjects import isolation

    path = certificate / CERTIFICATE if certificate.is_dir() else certificate
    if proofs := sorted(certificate.glob("proofs/*.json")) if not path.exists() else []:
        raise InputError(f"{certificate} is a campaign's folder; give a proof of it, such as {proofs[0]}")
    console = Console(highlight=False)
    with _waiting(f"replaying {path}"):
        judgement = isolation.replay_isolated(path, subject, seconds=seconds, limit=limit, memory=memory)
    _print(console, judgement, as_json)
    raise typer.Exit(judgement.verdict.kind.exit_code)
