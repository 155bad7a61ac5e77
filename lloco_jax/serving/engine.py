"""Continuous batching: many requests through a few slots.

Requests are read into free slots, then all slots generate together, each
with its own context and adapter; slots whose answers are done take the next
requests. All shapes come from a few buckets, so the programs are few and
their number is fixed.
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
from lloco_jax.model import Model
from lloco_jax.nn.lora import Adapter
from lloco_jax.serving.bank import AdapterBank
from lloco_jax.serving.context_cache import (
  ContextCache,
  ContextKey,
  vectors_hash,
)
from lloco_jax.serving.requests import Answer, Request
from lloco_jax.serving.slots import (
  NOTHING,
  Entry,
  Room,
  advance,
  empty_slots,
  insert_context,
  read_context,
  read_prompts,
)

SMALLEST_PROMPT = 16
# Requests that are read at a time where so many wait: reading a short prompt
# takes little longer than reading the weights. Where requests wait, steps end
# when so many slots are free; more would leave slots idle for longer.
TOGETHER = 3


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
    bank: where the adapters go, an empty one.
    context_bytes: of contexts' keys and values that are kept.
    stop_tokens: ids that end an answer; the checkpoint's EOS by default.

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
    bank: AdapterBank | None = None,
    context_bytes: int = 2**30,
    stop_tokens=None,
  ):
    room = room or Room()
    _check_sizes(model.config, room, slots, steps)
    config = model.config
    self.room = room
    self.contexts = ContextCache(context_bytes)
    # For checks, without the weights.
    self._model = dataclasses.replace(model, params={})
    self._params = model.unstacked_params
    self._dtype = model.params['norm']['scale'].dtype
    self._steps = steps
    stop = config.eos_token_ids if stop_tokens is None else stop_tokens
    self._stop = tuple(sorted({int(token) for token in stop}))
    self._bank = bank or AdapterBank()
    self._slots = empty_slots(config, room, slots, self._dtype)
    self._running: list[_Job | None] = [None] * slots
    self._waiting: collections.deque[_Job] = collections.deque()
    self._context_sizes = bucket_sizes(SMALLEST_CONTEXT, room.context)
    self._prompt_sizes = bucket_sizes(SMALLEST_PROMPT, room.prompt)
    self._together = min(TOGETHER, slots)
    for name, adapter in (adapters or {}).items():
      self.add_adapter(name, adapter)

  @property
  def adapters(self) -> list[str]:
    """The names of the adapters."""
    return self._bank.names

  @property
  def idle(self) -> bool:
    """All requests are answered."""
    return not self._waiting and not any(self._running)

  @property
  def programs(self) -> int:
    """How many programs requests can need, while adapters fit the bank."""
    contexts, prompts = len(self._context_sizes), len(self._prompt_sizes)
    return 2 * contexts + len({1, self._together}) * prompts + 1

  def add_adapter(self, name: str, adapter: Adapter) -> None:
    """Adds an adapter for requests to come; those that run do not notice.

    Raises:
      ValueError: it is of another base, or the name has another adapter.
    """
    check_adapter(self._model, adapter)
    self._bank.add(name, adapter)

  def submit(self, request: Request) -> Answer:
    """Takes a request; its answer comes as the engine goes on.

    Raises:
      ValueError: it can never be answered as it is.
    """
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
    if request.max_new_tokens < 1:
      raise ValueError(
        f'max_new_tokens is {request.max_new_tokens}; it must be >= 1.'
      )
    key = ContextKey(
      self._model.fingerprint,
      self._bank.hash_of(request.adapter),
      vectors_hash(vectors),
    )
    answer = Answer(request, self.step)
    self._waiting.append(_Job(answer, ids, vectors, key))
    return answer

  def cancel(self, answer: Answer) -> None:
    """Ends an answer where it is, so that its slot is free."""
    answer.done = True
    self._waiting = collections.deque(
      job for job in self._waiting if job.answer is not answer
    )
    self._running = [
      None if job is not None and job.answer is answer else job
      for job in self._running
    ]

  def step(self) -> list[Answer]:
    """Reads requests into free slots, or lets all slots generate.

    Returns:
      The answers that have more tokens now or are done; none when idle.
    """
    try:
      free = self._running.count(None)
      if self._waiting and free:
        enough = min(free, len(self._waiting)) >= self._together
        return self._admit(self._together if enough else 1)
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

    Adapters that do not fit the bank's arrays compile them again, the first
    one of all included, so add those that are known before.
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
    self._advance()
    self.contexts = ContextCache(self.contexts.limit)

  def _vectors(self, context) -> np.ndarray:
    width = self._model.config.hidden_size
    if context is None:
      return np.zeros((0, width), self._dtype)
    # A copy, so that what is read is what was hashed.
    vectors = np.array(context, self._dtype)
    if vectors.ndim != 2 or vectors.shape[1] != width:
      raise ValueError(
        f'The context is {list(vectors.shape)}; for this model it must be '
        f'[n, {width}].'
      )
    return vectors

  def _admit(self, count: int) -> list[Answer]:
    """Reads so many requests."""
    jobs = list(itertools.islice(self._waiting, count))
    slots = [i for i, job in enumerate(self._running) if job is None][:count]
    entries = tuple(map(self._entry, jobs, slots))
    longest = max(len(job.ids) for job in jobs)
    width = next(size for size in self._prompt_sizes if size >= longest)
    self._slots, first = read_prompts(
      self._params,
      self._model.config,
      self._slots,
      entries,
      np.stack([_padded(job.ids, width) for job in jobs]),
      self._bank.adapter,
      self.room,
      self._stop,
    )
    for job, slot, token in zip(jobs, slots, np.asarray(first).tolist()):
      answer = job.answer
      left = 0 if token == NOTHING else answer.request.max_new_tokens - 1
      answer.tokens.clear()
      _extend(answer, [token], left)
      self._running[slot] = None if answer.done else job
      self._waiting.popleft()
    return [job.answer for job in jobs]

  def _entry(self, job: _Job, slot: int) -> Entry:
    """Of a request, whose context is put into the slot."""
    request, size = job.answer.request, len(job.vectors)
    adapter_id = self._bank.id_of(request.adapter)
    if size:
      self._slots = insert_context(
        self._slots, np.int32(slot), self._context(job, adapter_id)
      )
    sampling = request.sampling
    return Entry(
      slot=np.int32(slot),
      context_length=np.int32(size),
      prompt_length=np.int32(len(job.ids)),
      new_tokens=np.int32(request.max_new_tokens),
      adapter_id=np.int32(adapter_id),
      key=jax.random.key(sampling.seed),
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
        self._bank.adapter,
        np.array([adapter_id], np.int32),
      )
      self.contexts.put(job.key, layers)
    return layers

  def _advance(self) -> list[Answer]:
    self._slots, tokens = advance(
      self._params,
      self._model.config,
      self._slots,
      self._bank.adapter,
      np.array([job is not None for job in self._running]),
      np.int32(min(self._together, len(self._waiting))),
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
    self._waiting.extendleft(filter(None, reversed(self._running)))
    self._running = [None] * count
    self._slots = None
    self._slots = empty_slots(self._model.config, self.room, count, self._dtype)


def _check_sizes(config, room, slots, steps):
  least = {
    'slots': (slots, 1),
    'steps': (steps, 1),
    'room.context': (room.context, 0),
    'room.prompt': (room.prompt, 1),
    'room.new_tokens': (room.new_tokens, 1),
  }
  for name, (value, smallest) in least.items():
    if value < smallest:
      raise ValueError(f'{name} is {value}; it must be {smallest} or more.')
  needed = room.context + room.prompt + room.new_tokens
  window = config.max_position_embeddings
  if needed > window:
    raise ValueError(
      f'A slot with a context of {room.context}, a prompt of {room.prompt} '
      f'and {room.new_tokens} new tokens takes {needed} positions; the model '
      f'has {window}. Give the engine a smaller Room.'
    )


def _padded(values, size):
  """Values [n, ...] with zeros up to a size."""
  return np.pad(
    values, [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1)
  )


def _extend(answer, tokens, left):
  """New tokens up to the first NOTHING; done when none are left."""
  answer.tokens += [token for token in tokens if token != NOTHING]
  answer.done = bool(left == 0)
  answer.stopped = (
    answer.done and len(answer.tokens) < answer.request.max_new_tokens
  )
