"""A disk of a few MiB, for tests that fill it: a tmpfs in a mount namespace of its own.

Needs root or unprivileged user namespaces. The disk lives as long as the process that
holds the namespace, over any number of daemons' lives.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

_WAYS = ((["-m"], ["-m"]), (["-Urm"], ["-U", "-m", "--preserve-credentials"]))
"""Flags of `unshare`, and of `nsenter` to come into the same place."""


class SmallDisk:
    """A file system of `size_kib`; `enter` starts commands that see it at `inside`."""

    def __init__(self, folder: Path, size_kib: int) -> None:
        self.inside = folder / "disk"
        self.inside.mkdir()
        complaints = []
        for unshare, self._nsenter in _WAYS:
            mount = f"mount -t tmpfs -o size={size_kib}k tmpfs {self.inside} && echo && exec cat"
            self._holder = subprocess.Popen(
                ["unshare", *unshare, "sh", "-c", mount],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert self._holder.stdout is not None
            if self._holder.stdout.readline() == b"\n":
                break
            complaints.append(self._holder.communicate()[1])
        else:
            raise AssertionError(f"no way to mount a small disk: {complaints}")
        self.enter = ["nsenter", "-t", str(self._holder.pid), *self._nsenter]
        self.outside = Path(f"/proc/{self._holder.pid}/root{self.inside}")
        """The same disk, for this process."""

    @property
    def free_bytes(self) -> int:
        status = os.statvfs(self.outside)
        return status.f_bavail * status.f_frsize

    def fill(self, name: str = "filler") -> None:
        """Take all the room that is left, also beside a daemon that takes some of it."""
        with (self.outside / name).open("ab") as file:
            while free_bytes := self.free_bytes:
                with contextlib.suppress(OSError):  # it was less, by then
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free_bytes)

    def close(self) -> None:
        """End the namespace, and the disk with it."""
        self._holder.communicate()
