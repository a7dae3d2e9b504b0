"""Who may connect."""

from __future__ import annotations

from recordd.config.settings import load
from recordd.connections.admission import Admission, AdmissionStatistics


def admit(admission: Admission, address: str | None) -> str | None:
    """Let one in; return the setting that keeps it out."""
    if (reason := admission.refuse(address)) is not None:
        return reason.split(":")[0]
    admission.enter(address)
    return None


def configured(**settings: str) -> Admission:
    environment = {f"RECORDD_{key.upper()}": value for key, value in settings.items()}
    return Admission(load({"socket": "s"}, environment, None).settings)


def test_the_unix_socket_has_places_of_its_own() -> None:
    doors = configured(max_connections="10", reserved_unix_connections="3")
    assert [admit(doors, f"10.0.0.{n}") for n in range(8)] == [None] * 7 + ["max_connections"]
    assert [admit(doors, None) for _ in range(4)] == [None] * 3 + ["max_connections"]
    doors.leave(None)
    assert admit(doors, "10.0.0.9") == "max_connections"
    assert admit(doors, None) is None


def test_a_small_limit_leaves_room_for_both() -> None:
    doors = configured(max_connections="2")
    assert [admit(doors, f"10.0.0.{n}") for n in range(2)] == [None, "max_connections"]
    assert admit(doors, None) is None


def test_one_address_has_no_more_than_its_share() -> None:
    doors = configured(max_connections_per_address="2")
    assert [admit(doors, "10.0.0.1") for _ in range(3)] == [
        None,
        None,
        "max_connections_per_address",
    ]
    assert admit(doors, "::ffff:10.0.0.1") == "max_connections_per_address"
    assert admit(doors, "10.0.0.2") is None
    doors.leave("10.0.0.1")
    assert admit(doors, "10.0.0.1") is None


def test_a_machine_has_a_whole_ipv6_network() -> None:
    doors = configured(max_connections_per_address="2")
    assert [admit(doors, f"2001:db8::{n}") for n in range(3)][-1] == "max_connections_per_address"
    assert admit(doors, "2001:db8:0:1::1") is None


def test_those_let_in_and_those_turned_away_are_counted() -> None:
    doors = configured(max_connections="2")
    for address in (None, None, None):
        admit(doors, address)
    doors.leave(None)
    doors.note_accept_error()
    assert doors.statistics() == AdmissionStatistics(
        connections=1, connections_total=2, connections_refused=1, accept_errors=1
    )
