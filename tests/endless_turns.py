"""A daemon whose turns never end: the control that the suite of dearest requests must flag."""

from __future__ import annotations

import sys

from recordd.system import turns

turns.TURN_S = turns._BEGINNING_S = 1e9  # type: ignore[misc]

if __name__ == "__main__":
    from recordd.cli import main

    sys.exit(main())
