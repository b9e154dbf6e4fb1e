"""Batteries: the one list of checks of each kind of data, for whoever checks, judges, plans or calibrates.

    counts     sequences of which every one can be counted, against their law
    traces     tokens of sequences that are too many to count, against the laws that were looked up along them
    vectors    sequences of vectors, by their transforms and their equal values
    calls      what a verification kernel made of batches that it was given

A check has one name: that of its evidence, of its share of alpha and of its line in a plan.
"""
