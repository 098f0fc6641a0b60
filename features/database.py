"""The database of the log, for tables beside it: how to open a connection that may write, or one that only reads."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True)
class Database:
    """write: a connection in a transaction of its own, committed durably at the end of the block; read: one to read.

    write_soon: as write, but the commit does not wait for the disk: what it wrote survives the end of this process, and
    of a power cut that comes before the next durable commit it may lose the last moments.
    """

    write: Callable[[], AbstractContextManager[sa.Connection]]
    read: Callable[[], AbstractContextManager[sa.Connection]]
    write_soon: Callable[[], AbstractContextManager[sa.Connection]]
