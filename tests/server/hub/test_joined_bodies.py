"""Bodies that are replaced: the text of a list that was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd.hub import joined_bodies
from recordd.hub.joined_bodies import JoinedBodies


@given(
    st.integers(0, 20),
    st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.booleans()), max_size=60),
)
def test_the_text_is_that_of_all_bodies_in_their_places(
    count: int, changes: list[tuple[bool, float, bool]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joined_bodies, "_BLOCK", 3)
        bodies = [b"%d" % n for n in range(count)]
        joined = JoinedBodies(bodies.copy())
        for number, (is_new, where, is_joined) in enumerate(changes):
            if is_new:
                place = round(where * len(bodies))
                bodies.insert(place, b"new%d" % number)
                joined.insert(place, b"new%d" % number)
            elif bodies:
                place = int(where * (len(bodies) - 1))
                del bodies[place]
                joined.remove(place)
            if is_joined:
                check(joined, bodies)
        check(joined, bodies)


def check(joined: JoinedBodies, bodies: list[bytes]) -> None:
    texts = joined.texts()
    assert b",".join(texts) == b",".join(b"{%b}" % body for body in bodies)
    assert len(texts) <= max(1, len(bodies))
