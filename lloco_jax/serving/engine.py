"""Continuous batching: many requests through a few slots.

Requests are read a few together, take free slots, and all slots generate
together, each with its own context and adapter; a slot whose answer is done
takes the next request. All shapes come from a few buckets, so the programs are
few and their number is fixed.
"""

import collections
from collections.abc import Mapping
import dataclasses
import itertools

import jax
import numpy as np

from lloco_jax.api import check_adapter, check_ids
from lloco_jax.buckets import bucket_sizes
from lloco_jax.data.contexts import SMALLEST_CONTEXT
from lloco_jax.generation.sampling import stop_ids
from lloco_jax.model import Model
from lloco_jax.nn.joining import decoding_adapter
from lloco_jax.nn.lora import Adapter
from lloco_jax.serving.bank import AdapterBank
from lloco_jax.serving.context_cache import (
  ContextCache,
  ContextKey,
  vectors_hash,
)
from lloco_jax.serving.requests import Answer, Request, check_types
from lloco_jax.serving.slots import (
  NOTHING,
  Entry,
  Room,
  Slots,
  advance,
  check_sizes,
  empty_slots,
  insert_context,
  read_context,
  read_prompts,
  seat,
)

SMALLEST_PROMPT = 16
# Requests that are read at a time where so many wait: a short prompt alone
# takes little longer than reading the weights. More would keep those that run
# waiting for longer.
TOGETHER = 6


@dataclasses.dataclass(frozen=True)
class _Job:
  """A checked request, as it is read."""

  answer: Answer
  ids: np.ndarray
  vectors: np.ndarray
  key: ContextKey


class Engine:
  """Answers requests, as many at a time as there are slots.

  Nothing runs by itself: `step`, `run`, or iterating over an answer makes
  the engine go on. It is not safe to call from several threads.

  Args:
    model: the base. The engine holds its unstacked parameters alone.
    adapters: of the base, by name; more can be added at any time.
    room: the most that a request may have.
    slots: requests that are answered at a time.
    steps: tokens a slot generates between two looks at what is done.
    capacity: adapters that there is room for, and
    rank: theirs at most. Both double as they are exceeded, which compiles all
      programs again.
    context_bytes: of contexts' keys and values that are kept.
    stop_tokens: ids that end an answer; the model's by default.

  Raises:
    ValueError: the room exceeds the model's window, or a number is below 1.
  """

  def __init__(
    self,
    model: Model,
    adapters: Mapping[str, Adapter] | None = None,
    *,
    room: Room | None = None,
    slots: int = 16,
    steps: int = 8,
    capacity: int = 4,
    rank: int = 8,
    context_bytes: int = 2**30,
    stop_tokens=None,
  ):
    room = room or Room()
    check_sizes(model.window, room, slots, steps)
    self.room = room
    self.contexts = ContextCache(context_bytes)
    # For checks, without the weights.
    self._model = dataclasses.replace(model, params={})
    self._params = model.unstacked_params
    self._dtype = model.params['norm']['scale'].dtype
    self._steps = steps
    self._stop = stop_ids(
      model.stop_tokens if stop_tokens is None else stop_tokens
    )
    self._bank = AdapterBank(capacity, rank)
    self._fit_adapters()
    self._slots = self._empty(slots)
    self._running: list[_Job | None] = [None] * slots
    self._waiting: collections.deque[_Job] = collections.deque()
    # Requests that are read and have no slot yet, with their rows in the lobby.
    self._ready: collections.deque[tuple[int, _Job]] = collections.deque()
    self._context_sizes = bucket_sizes(SMALLEST_CONTEXT, room.context)
    self._prompt_sizes = bucket_sizes(SMALLEST_PROMPT, room.prompt)
    self._together = min(TOGETHER, slots)
    self._lobby = self._empty(self._together)
    for name, adapter in (adapters or {}).items():
      self.add_adapter(name, adapter)

  @property
  def adapters(self) -> list[str]:
    """The names of the adapters."""
    return self._bank.names

  @property
  def idle(self) -> bool:
    """All requests are answered."""
    return not (self._waiting or self._ready or any(self._running))

  @property
  def programs(self) -> int:
    """How many programs requests can need, while adapters fit."""
    contexts, prompts = len(self._context_sizes), len(self._prompt_sizes)
    return 2 * contexts + len({1, self._together}) * prompts + 2

  def add_adapter(self, name: str, adapter: Adapter) -> None:
    """Adds an adapter for requests to come; those that run do not notice.

    Raises:
      ValueError: it is of another base or not finite in the base's dtype, or
        the name is none or has another adapter.
    """
    check_adapter(self._model, adapter)
    self._bank.add(name, adapter, self._dtype)
    self._fit_adapters()

  def submit(self, request: Request) -> Answer:
    """Takes a request; its answer comes as the engine goes on.

    Raises:
      ValueError: it can never be answered as it is.
    """
    check_types(request)
    ids = check_ids(self._model, request.ids)
    if ids.ndim != 1:
      raise ValueError(
        f'The prompt is {list(ids.shape)}; a request has one prompt, [T].'
      )
    vectors = self._vectors(request.context)
    for what, length, most, field in (
      ('context', len(vectors), self.room.context, 'context'),
      ('prompt', len(ids), self.room.prompt, 'prompt'),
      ('answer', request.max_new_tokens, self.room.new_tokens, 'new_tokens'),
    ):
      if length > most:
        unit = 'vectors' if what == 'context' else 'tokens'
        raise ValueError(
          f'The {what} of {length} {unit} is longer than the {most} that the '
          f'engine has room for; shorten it, or give the engine a Room with '
          f'{field}={length}.'
        )
    adapter = self._bank.hash_of(request.adapter)
    key = ContextKey(self._model.fingerprint, adapter, vectors_hash(vectors))
    answer = Answer(request, self.step)
    self._waiting.append(_Job(answer, ids, vectors, key))
    return answer

  def cancel(self, answer: Answer) -> None:
    """Ends an answer where it is, so that its slot is free."""
    answer.done = True
    self._waiting = collections.deque(
      job for job in self._waiting if job.answer is not answer
    )
    self._ready = collections.deque(
      (row, job) for row, job in self._ready if job.answer is not answer
    )
    self._running = [
      None if job is not None and job.answer is answer else job
      for job in self._running
    ]

  def step(self) -> list[Answer]:
    """Reads requests where slots are free, or lets all slots generate.

    Returns:
      The answers that have more tokens now or are done; none when idle.
    """
    try:
      if self._slots is None or self._lobby is None:
        # A second interrupt came while they were made anew.
        self._start_again()
      self._seat()
      if self._waiting and not all(self._running):
        enough = len(self._waiting) >= self._together
        return self._read(self._together if enough else 1)
      return self._advance() if any(self._running) else []
    except BaseException:
      self._start_again()
      raise

  def run(self) -> None:
    """Goes on until all requests are answered."""
    while not self.idle:
      self.step()

  def warm_up(self) -> None:
    """Compiles all programs; call it before the first request.

    Adapters that do not fit compile them again, the first one of all included,
    so add those that are known before.
    """
    width = self._model.config.hidden_size
    for size in self._context_sizes:
      self.submit(Request([0], np.zeros((size, width)), max_new_tokens=1))
    self.run()
    for size in self._prompt_sizes:
      for count in {1, self._together}:
        for _ in range(count):
          self.submit(Request([0] * size, max_new_tokens=1))
        self.run()
    # What is left in the lobby is done, and the slot stays free.
    self._slots = seat(self._slots, self._lobby, np.int32(0), np.int32(0))
    self._advance()
    self.contexts = ContextCache(self.contexts.limit)

  def _vectors(self, context) -> np.ndarray:
    width = self._model.config.hidden_size
    if context is None:
      return np.zeros((0, width), self._dtype)
    # A copy, so that what is read is what was hashed.
    with np.errstate(over='ignore'):
      vectors = np.array(context, self._dtype)
    if vectors.ndim != 2 or vectors.shape[1] != width:
      raise ValueError(
        f'The context is {list(vectors.shape)}; for this model it must be '
        f'[n, {width}].'
      )
    # 0 times them is not 0, so they would reach others that do not see them.
    if not np.isfinite(vectors).all():
      raise ValueError(
        f'The context holds numbers that are not finite in {vectors.dtype}; '
        'compress its documents again.'
      )
    return vectors

  def _fit_adapters(self) -> None:
    self._adapter = decoding_adapter(
      self._bank.adapter, self._params, self._model.config, self._dtype
    )

  def _seat(self) -> None:
    """Gives free slots to requests that are read."""
    for slot, job in enumerate(self._running):
      if job is None and self._ready:
        row, ready = self._ready[0]
        self._slots = seat(
          self._slots, self._lobby, np.int32(row), np.int32(slot)
        )
        self._running[slot] = ready
        self._ready.popleft()

  def _read(self, count: int) -> list[Answer]:
    """Reads so many requests into the lobby, where nobody is left."""
    jobs = list(itertools.islice(self._waiting, count))
    entries = tuple(map(self._entry, jobs, range(count)))
    longest = max(len(job.ids) for job in jobs)
    width = next(size for size in self._prompt_sizes if size >= longest)
    self._lobby, first = read_prompts(
      self._params,
      self._model.config,
      self._lobby,
      entries,
      np.stack([_padded(job.ids, width) for job in jobs]),
      self._adapter,
      self.room,
      self._stop,
    )
    for row, (job, token) in enumerate(zip(jobs, np.asarray(first).tolist())):
      answer = job.answer
      left = 0 if token == NOTHING else answer.request.max_new_tokens - 1
      answer.tokens.clear()
      _extend(answer, [token], left)
      if not answer.done:
        self._ready.append((row, job))
      self._waiting.popleft()
    return [job.answer for job in jobs]

  def _entry(self, job: _Job, row: int) -> Entry:
    """Of a request, whose context is put into a row of the lobby."""
    request, size = job.answer.request, len(job.vectors)
    adapter_id = self._bank.id_of(request.adapter)
    if size:
      self._lobby = insert_context(
        self._lobby, np.int32(row), self._context(job, adapter_id)
      )
    sampling = request.sampling
    return Entry(
      slot=np.int32(row),
      context_length=np.int32(size),
      prompt_length=np.int32(len(job.ids)),
      new_tokens=np.int32(request.max_new_tokens),
      adapter_id=np.int32(adapter_id),
      key=sampling.key,
      temperature=np.float32(sampling.temperature),
      top_p=np.float32(sampling.top_p),
    )

  def _context(self, job, adapter_id):
    """Keys and values of a request's context, kept or read."""
    layers = self.contexts.get(job.key)
    if layers is None:
      count = len(job.vectors)
      width = next(size for size in self._context_sizes if size >= count)
      layers = read_context(
        self._params,
        self._model.config,
        _padded(job.vectors, width)[None],
        np.int32(count),
        self._adapter,
        np.array([adapter_id], np.int32),
      )
      self.contexts.put(job.key, layers)
    return layers

  def _advance(self) -> list[Answer]:
    self._slots, tokens = advance(
      self._params,
      self._model.config,
      self._slots,
      self._adapter,
      np.array([job is not None for job in self._running]),
      np.bool_(len(self._ready) + len(self._waiting)),
      self.room,
      self._steps,
      self._stop,
    )
    tokens, left = jax.device_get((tokens, self._slots.left))
    changed = []
    for slot, job in enumerate(self._running):
      if job is not None:
        _extend(job.answer, tokens[:, slot].tolist(), left[slot])
        changed.append(job.answer)
        self._running[slot] = None if job.answer.done else job
    return changed

  def _start_again(self) -> None:
    """After an error or an interrupt: what ran is answered from its start.

    The slots may be given up, or tokens of theirs lost, half-way. An answer
    comes out the same again, so that who has some of it gets the rest.
    """
    count = len(self._running)
    jobs = [*self._running, *(job for _, job in self._ready), *self._waiting]
    # An interrupt may find one in two places, or done and still in one.
    left = {id(job.answer): job for job in jobs if job and not job.answer.done}
    self._waiting = collections.deque(left.values())
    self._running = [None] * count
    self._ready.clear()
    self._slots = self._lobby = None
    self._slots, self._lobby = map(self._empty, (count, self._together))

  def _empty(self, count: int) -> Slots:
    return empty_slots(self._model.config, self.room, count, self._dtype)


def _padded(values, size):
  """Values [n, ...] with zeros up to a size."""
  return np.pad(
    values, [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1)
  )


def _extend(answer, tokens, left):
  """New tokens up to the first NOTHING; done when none are left."""
  answer.tokens += [token for token in tokens if token != NOTHING]
  answer.done |= bool(left == 0)
  answer.stopped = (
    answer.done and len(answer.tokens) < answer.request.max_new_tokens
  )
