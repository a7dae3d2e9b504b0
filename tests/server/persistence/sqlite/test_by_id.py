"""A value by record id: as a dictionary has it, in less memory."""

import random
import sys
import tracemalloc

from recordd.persistence.sqlite.by_id import ById


def test_it_has_what_a_dictionary_has() -> None:
    chance = random.Random(7)
    known: dict[int, int] = {}
    kept: ById[int] = ById()
    for step in range(5000):
        record = chance.randrange(200)
        if chance.random() < 0.5:
            known[record] = step
            kept.put(record, step)
        else:
            assert kept.pop(record) == known.pop(record, None)
        looked_up = chance.randrange(220)
        assert kept.get(looked_up) == known.get(looked_up)
    assert [kept.get(record) for record in range(220)] == [known.get(n) for n in range(220)]


def test_the_greatest_of_many_is_what_is_put_one_by_one() -> None:
    chance = random.Random(7)
    known: dict[int, int] = {}
    kept: ById[int] = ById()
    for _ in range(200):
        records = [chance.randrange(100) for _ in range(20)]
        values = [chance.randrange(1000) for _ in range(20)]
        first = []
        for record, value in zip(records, values, strict=True):
            if record not in known:
                first.append((record, value))
            known[record] = max(value, known.get(record, 0))
        assert kept.put_greatest(records, values) == first
    assert [kept.get(record) for record in range(100)] == [known.get(n) for n in range(100)]


def test_nothing_is_kept_of_records_that_are_gone() -> None:
    kept: ById[str] = ById()
    for record in range(1000):
        kept.put(record, "a")
        kept.pop(record)
    assert not kept._lists


def test_it_takes_less_than_a_dictionary() -> None:
    records = list(range(30_000))
    dictionary = dict.fromkeys(records, "a")
    tracemalloc.start()
    try:
        kept: ById[str] = ById()
        for record in records:
            kept.put(record, "a")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < sys.getsizeof(dictionary) * 0.6
