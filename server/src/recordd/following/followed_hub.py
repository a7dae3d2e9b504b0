"""The hub as following sees it: the parts that it asks, without the whole that takes commits."""

from __future__ import annotations

from typing import Protocol

from recordd.hub.catalogue import Catalogue
from recordd.hub.changes import ChangeLog
from recordd.hub.gaps import Gaps
from recordd.hub.topic_index import TopicIndex

__all__ = ["FollowedHub"]


class FollowedHub(Protocol):
    """Parts of the hub, all as of the same moment."""

    @property
    def catalogue(self) -> Catalogue:
        """The current values, and the position that they are of."""

    @property
    def changes(self) -> ChangeLog:
        """What has changed since a position."""

    @property
    def gaps(self) -> Gaps:
        """What storage may lack."""

    @property
    def topics(self) -> TopicIndex:
        """Who is told of a commit."""
