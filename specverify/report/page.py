"""What each HTML page of a report has: a script that sorts and filters its tables, and the policy for it."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from markupsafe import Markup


@cache
def page() -> dict[str, str]:
    """`script`, to stand inline, and `policy`, the page's content security policy: nothing is fetched."""
    script = (Path(__file__).parent / "templates" / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return {"script": Markup(script), "policy": Markup(policy)}
