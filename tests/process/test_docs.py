"""What the documentation of the client shows is run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_examples_run(daemon: DaemonProcess) -> None:
    assert len(EXAMPLES) > 2
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(EXAMPLES)],
        env={**os.environ, "RECORDD_CONNECT": daemon.url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("code", [0, 1, 2, 69, 74, 130])
def test_the_docs_list_every_exit_code(code: int) -> None:
    assert f"\n| {code} | " in TEXT
