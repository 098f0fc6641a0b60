"""Work in a few threads, results in order: NumPy, Arrow and Polars let go of the interpreter's lock."""

import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8  # malloc.h of glibc
_NEVER = 2**31 - 1

Item = TypeVar("Item")
Result = TypeVar("Result")


def reuse_memory() -> bool:
    """Let this process keep the memory of its big arrays for the next ones; whether the C library can be told.

    glibc gives each back to the system and takes it anew, zeroed page by page: a tenth of the time of a bulk job. For
    processes that do one and end.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(option, value)
        for option, value in ((_MMAP_THRESHOLD, 2**30), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1))
    )


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """`map(work, items)`, at most `threads` + 1 items ahead of who reads, so that memory holds no more of them."""
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque[Future[Result]]()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
