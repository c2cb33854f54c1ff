"""Everything that reads text or bytes from outside, each with a good input: ``READERS`` by name.

``typed`` is what a person writes for us, ``own_data`` a user's data, ``originals`` the official archives,
``written`` what we wrote ourselves, meanwhile.
"""

from readers import originals, own_data, typed, written
from readers.base import READERS

__all__ = ["READERS", "originals", "own_data", "typed", "written"]
