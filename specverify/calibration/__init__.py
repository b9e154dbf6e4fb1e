"""Calibration: do the checkers keep the rates that they state?

    false alarms        of perfect samplers, against alpha
    misses              of samplers at an exactly known distance, at the n that a check asks for it, against beta
    optional stopping   how often an e-process ever crosses 1 / alpha when it is looked at again and again
    uniform p-values    whether p-values of perfect samplers fall below x with probability x, or at most x

`trial` says what a trial is and judges its rate, `rows` lists the trials, `book` carries them out and keeps them. What
is sampled is in `sources`; how each kind of check is put to the test in `counts`, `traces`, `dependence`, `continuous`,
`logged`, `rounds` and `blackbox`.
"""

from specverify.calibration.book import NAME, Setting, run
from specverify.calibration.rows import all_trials
from specverify.calibration.trial import CERTAIN, Measured, Trial, carry_out

__all__ = [
    "CERTAIN",
    "NAME",
    "Measured",
    "Setting",
    "Trial",
    "all_trials",
    "carry_out",
    "run",
]
