"""What installed distributions offer, by entry point."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from recordd.extending.backend import NotConfigured

__all__ = ["load_installed"]


def load_installed(group: str, kind: str, name: str) -> Any:
    """Return what an entry point names; `kind` is what people call it.

    Raises:
        NotConfigured: none is installed under that name, what it names is not there, or its module
            fails.
    """
    found = importlib.metadata.entry_points(group=group)
    if name not in found.names:
        offered = ", ".join(sorted(found.names)) or "none"
        raise NotConfigured(f"{kind} {name!r} is not installed (there is: {offered})")
    try:
        return found[name].load()
    except (ImportError, AttributeError) as error:
        raise NotConfigured(f"{kind} {name!r} cannot be loaded: {error}") from error
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise NotConfigured(f"{kind} {name!r} cannot be loaded: {text}") from error
