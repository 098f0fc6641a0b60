"""Work done in groups: what waits is done together by one thread, and each who waits gets its own answer."""

import asyncio
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

Item = TypeVar("Item")
Answer = TypeVar("Answer")
_END = None


class Closed(RuntimeError):
    """It takes in nothing any more: the process is about to end."""


class Line(Generic[Item]):
    """A queue that can be closed: what was put before is still taken, what comes after is refused."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._lock, self._is_closed = threading.Lock(), False

    def put(self, item: Item) -> None:
        """Raises Closed once it was closed: nobody would answer."""
        with self._lock:
            if self._is_closed:
                raise Closed(f"{self._name} is closed: the service is about to end")
            self._queue.put(item)

    def close(self) -> None:
        """Let no more in; safe to repeat."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(_END)

    def take(self, size: Callable[[Item], int], most: int) -> tuple[list[Item], bool]:
        """What waits, at least one and so many that their sizes come to `most`, and whether more may follow."""
        group: list[Item] = []
        taken = 0
        waiting = self._queue.get()
        while waiting is not _END:
            group.append(waiting)
            taken += size(waiting)
            if taken >= most:
                break
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
        return group, waiting is not _END


class Groups(Generic[Item, Answer]):
    """One thread that takes whatever waits, at most `most` of it, and does it at once: one commit for all of it."""

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        most: int,
        size: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        """work: the answer of each item, in order; what it raises is raised for each of them. size: of an item, of which
        together about `most` are done at once.
        """
        self._work, self._most, self._size = work, most, size
        self._line: Line[tuple[Item, Awaited[Answer]]] = Line(name)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> "Future[Answer]":
        """The answer to come, for a thread that may wait. Raises Closed after `close`."""
        answer: Future[Answer] = Future()
        answer.set_running_or_notify_cancel()  # nobody can take it back: to settle what was cancelled would raise
        self._line.put((item, answer))
        return answer

    def ask(self, item: Item) -> "asyncio.Future[Answer]":
        """The answer to come, for the event loop that runs here. Raises Closed after `close`."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.hand(item, answer)
        return answer

    def hand(self, item: Item, awaited: "Awaited[Answer]") -> None:
        """Settle what somebody awaits already. Raises Closed after `close`."""
        self._line.put((item, awaited))

    @property
    def is_working(self) -> bool:
        """Whether its thread lives: without it nobody is answered."""
        return self._thread.is_alive()

    def close(self, *, waits: bool = True) -> None:
        """Do what waits, then stop. waits: for it."""
        self._line.close()
        if waits:
            self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            group, is_open = self._line.take(lambda one: self._size(one[0]), self._most)
            if group:
                self._answer(group)

    def _answer(self, group: Sequence[tuple[Item, "Awaited[Answer]"]]) -> None:
        waiting = [one for _, one in group]
        try:
            answers = self._work([item for item, _ in group])
        except Exception as error:  # whatever it is, it is the callers' to answer, and the thread goes on
            _tell([Told(one, error=error) for one in waiting])
            return
        _tell([Told(one, answer) for one, answer in zip(waiting, answers, strict=True)])


Awaited = Future[Answer] | asyncio.Future[Answer]


@dataclass(frozen=True)
class Told(Generic[Answer]):
    """What became of one item."""

    awaited: Awaited[Answer]
    answer: Answer | None = None
    error: Exception | None = None

    def settle(self) -> None:
        """Tell whoever awaits it, where they still do."""
        if self.awaited.done():  # its caller went away
            return
        if self.error is not None:
            self.awaited.set_exception(self.error)
        else:
            self.awaited.set_result(cast(Answer, self.answer))


def _tell(told: Sequence[Told[Answer]]) -> None:
    """Settle each; those of one event loop together, for waking it costs more than the settling."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Told[Answer]]] = defaultdict(list)
    for one in told:
        if isinstance(one.awaited, Future):
            one.settle()
        else:
            by_loop[one.awaited.get_loop()].append(one)
    for loop, ours in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(settle, ours)


def settle(told: Sequence[Told[Answer]]) -> None:
    """Settle each, in the event loop that awaits it."""
    for one in told:
        one.settle()
