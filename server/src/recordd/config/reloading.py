"""Signals beside those that stop the daemon: none of them kills it.

SIGHUP reads the configuration again and applies what can be changed while it runs: the
level of the log. The log goes to standard error, so there is no file to reopen. What else
has changed is named in the log and waits for a restart; a configuration that cannot be
read is refused there.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Final

import trio

from recordd.config.backend_table import BackendTable
from recordd.config.settings import Configuration, ConfigurationError, describe_settings
from recordd.system.log import set_level

__all__ = ["Reload", "serve_signals"]

logger: Final = logging.getLogger(__name__)

Reload = Callable[[], Configuration]
"""Reads the configuration again. Raises ConfigurationError where it cannot be used."""

_IGNORED: Final = (signal.SIGUSR1, signal.SIGUSR2)
_ALL: Final = (signal.SIGHUP, *_IGNORED)


async def serve_signals(
    configuration: Configuration,
    reload: Reload | None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer signals for ever, in the log."""
    for ours in _ALL:  # also once the receiver is gone, at the very end
        signal.signal(ours, signal.SIG_IGN)
    with trio.open_signal_receiver(*_ALL) as signals:
        task_status.started()
        async for number in signals:
            if number in _IGNORED:
                logger.warning("%s means nothing here: ignored", signal.Signals(number).name)
            elif reload is None:
                logger.warning("SIGHUP: there is no configuration to read again: ignored")
            else:
                _read_again(configuration, reload)


def _read_again(current: Configuration, reload: Reload) -> None:
    """Apply what can be applied; name what else is other than what is in force."""
    try:
        wanted = reload()
    except ConfigurationError as error:
        logger.error("SIGHUP: nothing changes: %s", error)
        return
    set_level(wanted.settings.log_level)
    logger.info("SIGHUP: log_level is %s", wanted.settings.log_level)
    waiting = [
        info.key
        for info in describe_settings()
        if info.key != "log_level"
        and getattr(wanted.settings, info.attribute) != getattr(current.settings, info.attribute)
    ]
    waiting += _list_changed(current.backend, wanted.backend)
    if wanted.extensions != current.extensions:
        waiting.append("extension")
    if wanted.rules.rules != current.rules.rules:
        waiting.append("record")
    if waiting:
        logger.warning("SIGHUP: changed, but not before a restart: %s", ", ".join(waiting))


def _list_changed(current: BackendTable, wanted: BackendTable) -> list[str]:
    """Return the backend's options that are stated otherwise."""
    keys = dict.fromkeys((*current.values, *wanted.values))
    return [key for key in keys if current.values.get(key) != wanted.values.get(key)]
