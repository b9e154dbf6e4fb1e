"""Toy models with known laws, by name, and draft models for them."""

from toymodels.catalogue import names, toy
from toymodels.drafts import draft
from toymodels.tables import TableModel, tabulate

__all__ = ["TableModel", "draft", "names", "tabulate", "toy"]
