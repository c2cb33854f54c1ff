"""One run: the loop, what is recorded of it, and the folder that it can be continued from.

``alharness.run(strategy, dataset)`` is ``alharness.api.run``: this package can be called.
"""

from __future__ import annotations

import sys

from alharness import CallableRoom

sys.modules[__name__].__class__ = CallableRoom
