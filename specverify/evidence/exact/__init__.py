"""Proofs for every law at once: a decoder's own `step`, on numbers of a random finite field (see docs/proofs.md)."""
