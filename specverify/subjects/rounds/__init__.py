"""Judging a verification kernel: its calling conventions, the contexts that it is tried in, and the checks."""
