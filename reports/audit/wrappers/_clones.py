"""What wrappers of clones share: definitions of one file, executed without the module that they stand in."""

import ast
import os
import textwrap
from pathlib import Path


def source(file, names):
    """The text of these classes and functions, without blanks at the ends of lines, which checkouts change."""
    text = (Path(os.environ["SPECVERIFY_CLONES"]) / file).read_text(encoding="utf-8")
    found = [one for one in ast.walk(ast.parse(text)) if isinstance(one, ast.ClassDef | ast.FunctionDef)]
    found = [one for one in found if one.name in names]
    if sorted(one.name for one in found) != sorted(names):
        raise LookupError(f"{file} has {len(found)} definitions of {', '.join(names)}")
    whole = "\n\n\n".join(textwrap.dedent(str(ast.get_source_segment(text, one, padded=True))) for one in found)
    return "".join(f"{line.rstrip()}\n" for line in whole.splitlines())


def definitions(file, *names, **given):
    """What they define, in the order of names; of what their module imports they have what is given alone."""
    exec(compile(source(file, names), file, "exec"), given)
    return [given[name] for name in names]
