"""What `conformance` found, by check."""

import re


def checks_of(found):
    """The checks that found something."""
    return {re.sub("^with(out guidance| guidance and without), ", "", one).split(":")[0] for one in found.findings}
