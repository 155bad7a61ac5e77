"""An engine in a thread of its own, whose tokens come by asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable
import contextvars
import dataclasses
import functools
import queue
import threading

from lloco_jax.nn.lora import Adapter
from lloco_jax.serving.engine import Engine
from lloco_jax.serving.requests import Answer, Request


@dataclasses.dataclass(frozen=True)
class News:
  """New tokens of an answer; whether it is done, and by a stop token."""

  tokens: list[int]
  done: bool = False
  stopped: bool = False


class Closed(RuntimeError):
  """The engine has been told to end."""

  def __init__(self):
    super().__init__('The endpoint is shutting down; ask again later.')


@dataclasses.dataclass(eq=False)
class _Listener:
  tell: Callable
  answer: Answer | None = None
  given: int = 0


class AsyncEngine:
  """Runs an engine, which nobody else may use meanwhile.

  Its thread begins at once and ends after `close`. An error of the engine ends
  the answers that wait for it, and no others.
  """

  def __init__(self, engine: Engine):
    self._engine = engine
    self._calls: queue.SimpleQueue[Callable | None] = queue.SimpleQueue()
    self._listeners: dict[Answer, _Listener] = {}
    # Those whose answers are awaited, also before the engine has them.
    self._awaited: set[_Listener] = set()
    self._closed, self._lock = False, threading.Lock()
    # With the placement that is in use here.
    run = functools.partial(contextvars.copy_context().run, self._run)
    self._thread = threading.Thread(target=run, name='engine', daemon=True)
    self._thread.start()

  def close(self) -> None:
    """Ends all answers at once, and the thread after its present step."""
    with self._lock:
      self._closed = True
      for listener in self._awaited:
        listener.tell(Closed())
    self._calls.put(None)

  def join(self) -> None:
    """Waits until the thread has ended."""
    self._thread.join()

  async def generate(
    self, request: Request, adapter: Adapter | None = None
  ) -> AsyncIterator[News]:
    """Tokens of an answer as they come; to leave it cancels it.

    Args:
      request: what is asked.
      adapter: of the name that the request gives, added where the engine does
        not have it yet.

    Raises:
      ValueError: the engine refuses it.
      Closed: the engine ends before the answer.
    """
    loop, news = asyncio.get_running_loop(), asyncio.Queue()

    def tell(item):
      # Of a loop that has ended nobody waits for it.
      if not loop.is_closed():
        loop.call_soon_threadsafe(news.put_nowait, item)

    listener = _Listener(tell)
    submit = functools.partial(self._submit, request, adapter, listener)
    with self._lock:
      if self._closed:
        raise Closed
      self._awaited.add(listener)
      self._calls.put(submit)
    try:
      done = False
      while not done:
        item = await news.get()
        if isinstance(item, Exception):
          raise item
        done = item.done
        yield item
    finally:
      with self._lock:
        self._awaited.discard(listener)
      self._calls.put(functools.partial(self._leave, listener))

  def _run(self) -> None:
    while self._take():
      try:
        changed = self._engine.step()
      except Exception as error:
        self._fail(error)
        continue
      for answer in changed:
        self._tell(answer)
    self._fail(Closed())

  def _take(self) -> bool:
    """Does what was asked for, waiting where there is nothing else to do."""
    wait = self._engine.idle
    while True:
      try:
        call = self._calls.get(block=wait)
      except queue.Empty:
        return True
      if call is None:
        return False
      call()
      wait = False

  def _submit(self, request, adapter, listener) -> None:
    try:
      if adapter is not None and request.adapter not in self._engine.adapters:
        self._engine.add_adapter(request.adapter, adapter)
      listener.answer = self._engine.submit(request)
    except Exception as error:
      listener.tell(error)
      return
    self._listeners[listener.answer] = listener

  def _leave(self, listener) -> None:
    answer = listener.answer
    if answer is not None and self._listeners.pop(answer, None):
      self._engine.cancel(answer)

  def _tell(self, answer: Answer) -> None:
    listener = self._listeners.get(answer)
    if listener is None:
      return
    new = answer.tokens[listener.given :]
    listener.given += len(new)
    if answer.done:
      del self._listeners[answer]
    listener.tell(News(new, answer.done, answer.stopped))

  def _fail(self, error: Exception) -> None:
    """The engine would begin them anew, and may fail at them again."""
    failed, self._listeners = self._listeners, {}
    for answer, listener in failed.items():
      self._engine.cancel(answer)
      listener.tell(error)
