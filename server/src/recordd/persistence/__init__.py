"""Persistence, an extension like any other: it answers `record.query` and retires old rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard

from recordd.config.settings import ConfigurationError
from recordd.extending.backend import (
    CleansUp,
    HasDatabaseFile,
    PersistenceBackend,
    find_capability,
)
from recordd.extending.journal import BackendJournal, Journal
from recordd.extending.points import BackupReporter, QueryHandler, RetentionReporter
from recordd.persistence.query_handler import StoredQueryHandler
from recordd.persistence.retention import Retention, RetentionPolicy
from recordd.persistence.scheduled_backup import BackupPolicy, ScheduledBackup
from recordd.writing.applier import Applier
from recordd.writing.committer import Committer

if TYPE_CHECKING:
    from recordd.core import CoreBuilder

__all__ = ["BackupPolicy", "RetentionPolicy", "with_persistence"]


def with_persistence(
    backend: PersistenceBackend,
    retention: RetentionPolicy | None,
    backups: BackupPolicy | None = None,
    *,
    journal: Journal | None = None,
) -> Callable[[CoreBuilder], None]:
    """Return an extension that stores what is written through `backend`.

    Without `retention` nothing is ever deleted unasked, without `backups` none is made, and
    without a `journal` the backend's own transaction is the journal.

    Raises:
        ConfigurationError: by the extension, where a rule of records bounds their rows, and the
            backend cannot clean up; or where backups are asked for, and it has no file.
    """

    def install(builder: CoreBuilder) -> None:
        timeout_s = builder.settings.query_timeout_ms / 1000
        applier = Applier(builder.hub, backend, builder.turns)
        committer = Committer(journal or BackendJournal(), applier)
        builder.extensions.insert(PersistenceBackend, backend)
        builder.extensions.insert(Committer, committer)
        builder.extensions.insert(
            QueryHandler,
            StoredQueryHandler(builder.hub, backend, builder.page, timeout_s=timeout_s),
        )
        if retention is not None and _can_clean_up(backend, builder):
            job = Retention(
                builder.hub, backend, committer, builder.queue, retention, turns=builder.turns
            )
            builder.extensions.insert(RetentionReporter, job)
            builder.housekeepers.append(job.housekeep)
            builder.extensions.on_start(job.run)
        if backups is not None:
            scheduled = ScheduledBackup(_find_database(backend, builder), backups)
            builder.extensions.insert(BackupReporter, scheduled)
            builder.extensions.on_start(scheduled.run)

    return install


def _can_clean_up(backend: PersistenceBackend, builder: CoreBuilder) -> TypeGuard[CleansUp]:
    """Tell whether there may be retention; refuse one that is asked for and cannot be.

    Rows that were to go and stay for ever would be noticed when the disk is full.
    """
    if isinstance(backend, CleansUp):
        return True
    for rule in builder.hub.rules.rules:
        if rule.retention_ms is not None or rule.max_rows is not None:
            asked = "max_rows" if rule.retention_ms is None else "retention"
            raise ConfigurationError(
                f"{asked} (of {rule.pattern.text!r}): backend {builder.settings.backend!r} cannot"
                ' clean up; retention = "off" and no max_rows keep every row'
            )
    return False


def _find_database(backend: PersistenceBackend, builder: CoreBuilder) -> str:
    """Return the file to copy; refuse backups of a backend that has none."""
    kept = find_capability(backend, HasDatabaseFile)
    if kept is None:
        name = builder.settings.backend
        raise ConfigurationError(f"backup_folder: backend {name!r} has no file to back up")
    return kept.database
