"""A verification testbed for speculative decoders of autoregressive image models."""

__version__ = "0.1.0"
