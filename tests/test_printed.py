"""What the documentation prints: every command line is one that the program takes, and the short examples run.

The session `soundness` runs the commands that judge; here they are only read.
"""

import re
import shlex
import textwrap
from pathlib import Path

import pytest
import typer

from specverify import cli

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "reports/README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:^    (?:\$ )?|^\s+- run: |^\s+entry: |`)(specverify [^`\n]*)", re.MULTILINE)
ELLIPSIS = re.compile(r"\.\.\.|…|^specverify [A-Z]|--[a-z-]+/")


def printed():
    """Command lines by page, without what is no command but a sentence's shorthand."""
    for page in PAGES:
        for line in COMMAND.findall((ROOT / page).read_text()):
            if not ELLIPSIS.search(line):
                yield page, line


def blocks(page):
    """The indented blocks of a page that are Python."""
    for block in re.findall(r"(?:^    .*\n|^\n)+", (ROOT / page).read_text(), re.MULTILINE):
        body = textwrap.dedent(block).strip()
        if body.startswith(("import ", "from ")):
            yield body


def take(line):
    """Read a command line as the program would, and do nothing."""
    _, name, *arguments = shlex.split(line, comments=True)
    commands = typer.main.get_command(cli.app).commands
    assert name in commands
    if arguments:  # else the command was named, no more
        commands[name].make_context(name, arguments)


def test_the_pages_print_commands():
    assert len(list(printed())) > 40


@pytest.mark.parametrize(("page", "line"), sorted(set(printed())))
def test_a_printed_command_is_one_that_there_is(page, line):
    take(line)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("specverify verfy", "verfy"),
        ("specverify verify --tire quick", "--tire"),
        ("specverify verify --tier quiet", "quiet"),
        ("specverify bench --decoder sjd", "model"),
    ],
)
def test_a_misprint_is_noticed(line, word):
    with pytest.raises(Exception, match=word):
        take(line)


@pytest.mark.parametrize("page", ["docs/decoders.md", "docs/proofs.md"])
def test_an_example_runs_and_prints_what_it_says(page, capsys):
    (body,) = blocks(page)
    exec(compile(body, page, "exec"), {})
    out = capsys.readouterr().out
    assert re.search(r"^proved [89]\d\.\d+ " if page.endswith("proofs.md") else r"e-1[67] 4\.07\d+\n", out)
