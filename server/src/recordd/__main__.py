"""`python -m recordd` is `recordd`."""

import sys

from recordd.cli import main

sys.exit(main())
