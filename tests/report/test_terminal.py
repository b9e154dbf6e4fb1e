"""The summary on the terminal."""

import io

import rich.console

from specverify.report import methods, terminal


def test_the_summary_names_every_method_and_what_to_look_at(record):
    console = rich.console.Console(width=80, file=io.StringIO(), highlight=False)
    console.print(terminal.summary(record))
    out = console.file.getvalue()
    assert max(map(len, out.splitlines())) <= 80
    together = "".join(out.split())
    for row in methods.methods(record).rows:
        assert "".join(row.cells[0][:24].split()) in together
    assert "9 to look at:" in out
    assert "ERROR exact/sjd/skew-3x5/w9\n    ValueError: broken | pipe and a second line\n" in out
    assert "known-wrong decoders caught: 4 of 5" in out
