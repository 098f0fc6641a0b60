"""The training snapshots that a model keeps for the monitors: whose they are only as digests, so that they can be forgotten.

A reference holds features, the risk that the model gave, the moment, and three digests: of the person, of the seat and of
the team. The digests serve to resample by team and to take a person out; they name nobody.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import polars as pl

REFERENCE_FILE = "reference.parquet"
AS_OF, PERSON, SEAT, TEAM = "as_of", "person", "seat", "team"
OWNERS = (PERSON, SEAT, TEAM)
DIGEST_BYTES = 12  # collisions among a million persons: less than one in a thousand million million


def digest(identifier: str) -> str:
    """24 hexadecimal digits for a pseudonym; the same everywhere, so that a person can be found again to be forgotten."""
    return hashlib.blake2b(identifier.encode(), digest_size=DIGEST_BYTES, person=b"reference").hexdigest()


def team_of(organization: str, team: str | None, seat_id: str) -> str:
    """The digest of a seat's team; a seat without one is a team of its own."""
    return digest(f"{organization}/{team}" if team else seat_id)


def of_known(reference: pl.DataFrame, person_ids: Iterable[str]) -> pl.DataFrame:
    """The snapshots of these persons alone."""
    if PERSON not in reference.columns:  # of an early build
        return reference
    return reference.filter(pl.col(PERSON).is_in([digest(person_id) for person_id in person_ids]))


def forget(home: Path, person_ids: Iterable[str]) -> int:
    """Take the persons' snapshots out of every reference below the state folder; how many snapshots went.

    Each file is replaced whole. What the monitors wrote holds no person (groups of fewer than ten are never shown apart),
    so nothing is to be taken out there. References of a tracking server elsewhere: training.registry.forget_unknown.
    """
    wanted = [digest(person_id) for person_id in person_ids]
    gone = 0
    for path in sorted(home.glob(f"mlartifacts/**/{REFERENCE_FILE}")):
        frame = pl.read_parquet(path)
        if PERSON not in frame.columns:
            continue
        kept = frame.filter(~pl.col(PERSON).is_in(wanted))
        if kept.height == frame.height:
            continue
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        os.close(handle)
        kept.write_parquet(partial)
        os.replace(partial, path)  # noqa: PTH105
        gone += frame.height - kept.height
    return gone
