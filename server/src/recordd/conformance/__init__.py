"""The suite that a backend has to pass, for whoever writes one; needs `recordd[conformance]`.

A test module of the backend subclasses `BackendSuite` and says how to make it:

    class TestMine(BackendSuite):
        def make_backend(self, folder):
            return MyBackend(BackendOptions({"folder": str(folder)}))

Tests of a capability run where the backend has it, and say so where they are left out
(`pytest -rs` lists them). The daemon never imports this.
"""

from __future__ import annotations

import pytest

# Before they are imported: an assertion that fails is to show its values.
for _module in ("storing", "moments", "restarts", "refusals", "capabilities", "cleaning"):
    pytest.register_assert_rewrite(f"recordd.conformance.{_module}")

from recordd.conformance.capabilities import Capabilities  # noqa: E402
from recordd.conformance.cleaning import CleaningUp  # noqa: E402
from recordd.conformance.moments import HeldMoments  # noqa: E402
from recordd.conformance.refusals import Refusals  # noqa: E402
from recordd.conformance.restarts import Restarts  # noqa: E402
from recordd.conformance.storing import StoringAndAnswering  # noqa: E402

__all__ = ["BackendSuite"]


class BackendSuite(StoringAndAnswering, HeldMoments, Restarts, Refusals, CleaningUp, Capabilities):
    """All of it."""
