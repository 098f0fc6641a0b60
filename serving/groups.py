"""Work done in groups: what waits is done together by one thread, and each who waits gets its own answer."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
_END = None


class Groups(Generic[Item, Answer]):
    """One thread that takes whatever waits, at most `most` items, and does it at once: one commit for all of them."""

    def __init__(self, name: str, work: Callable[[Sequence[Item]], Sequence[Answer]], *, most: int) -> None:
        """work: the answer of each item, in order; what it raises is raised for each of them."""
        self._work, self._most = work, most
        self._queue: queue.SimpleQueue[tuple[Item, Future[Answer]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> "Future[Answer]":
        """The answer to come."""
        answer: Future[Answer] = Future()
        self._queue.put((item, answer))
        return answer

    def close(self) -> None:
        """Do what waits, then stop."""
        self._queue.put(_END)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            group: list[tuple[Item, Future[Answer]]] = []
            waiting = self._queue.get()
            while True:
                if waiting is _END:
                    is_open = False
                    break
                group.append(waiting)
                if len(group) >= self._most:
                    break
                try:
                    waiting = self._queue.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._answer(group)

    def _answer(self, group: Sequence[tuple[Item, "Future[Answer]"]]) -> None:
        try:
            answers = self._work([item for item, _ in group])
        except Exception as error:  # whatever it is, it is the callers' to answer, and the thread goes on
            for _, waiting in group:
                waiting.set_exception(error)
            return
        for (_, waiting), answer in zip(group, answers, strict=True):
            waiting.set_result(answer)
