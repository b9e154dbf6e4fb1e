"""Adapters: one file each, which makes a `realmodels.session.Network` of weights that somebody else trained."""
