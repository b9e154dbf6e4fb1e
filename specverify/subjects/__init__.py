"""Judging somebody's decoder, at the level at which it is handed over: decoder, continuous, round, sampler or trace."""
