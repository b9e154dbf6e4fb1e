"""Laws over continuous tokens, and the protocol of the models that give them."""

from specverify.laws.chain import Chain, Denoised, Denoiser, Head
from specverify.laws.gaussian import FullGaussian, Gaussian, from_covariance
from specverify.laws.law import (
    Law,
    Settled,
    at,
    check_fit,
    check_pair,
    check_tokens,
    choose,
    draw,
    gather,
    leading,
    repeated,
    select,
    window,
)
from specverify.laws.mixture import Mixture
from specverify.laws.model import CheckedContinuous, ContinuousModel, check_model, size_of

__all__ = [
    "Chain",
    "CheckedContinuous",
    "ContinuousModel",
    "Denoised",
    "Denoiser",
    "FullGaussian",
    "Gaussian",
    "Head",
    "Law",
    "Mixture",
    "Settled",
    "at",
    "check_fit",
    "check_model",
    "check_pair",
    "check_tokens",
    "choose",
    "draw",
    "from_covariance",
    "gather",
    "leading",
    "repeated",
    "select",
    "size_of",
    "window",
]
