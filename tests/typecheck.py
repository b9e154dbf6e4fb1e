"""How annotations are checked in tests: by beartype, taking an int for a float as the type system does (PEP 484).

Since Python 3.12 an object is no instance of a protocol whose methods it gives by `__getattr__`, as wrappers do.
To call them makes no difference: here they are looked up as they are called, in every release.
"""

import typing

from beartype import BeartypeConf, beartype

if hasattr(typing, "_lazy_load_getattr_static"):
    typing._lazy_load_getattr_static = lambda: getattr

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
