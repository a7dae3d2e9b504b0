"""Distributions of others, made in a folder: a real `.dist-info` that an interpreter finds."""

from __future__ import annotations

from pathlib import Path

__all__ = ["install_distribution"]


def install_distribution(folder: Path, name: str, entry_points: str) -> None:
    """Put beside the modules of a folder what tells of them, as an installer would."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
