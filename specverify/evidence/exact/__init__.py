"""Proofs for every law at once: a decoder's own `step`, run on numbers of a random finite field (see README.md)."""
