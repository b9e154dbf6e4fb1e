"""What is measured on a GPU, in parts that add up: `python -m specverify.gpu`, see `parts`."""
