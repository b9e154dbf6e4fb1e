"""How annotations are checked in tests: by beartype, taking an int for a float as the type system does (PEP 484)."""

from beartype import BeartypeConf, beartype

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
