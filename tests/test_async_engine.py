"""An engine in a thread, asked from asyncio."""

import asyncio
import dataclasses
import time

import numpy as np
import pytest
import tiny

import lloco_jax as lloco
from lloco_jax.endpoint.async_engine import AsyncEngine, Closed
from lloco_jax.serving.engine import Engine
from lloco_jax.serving.requests import Request
from lloco_jax.serving.slots import Room

CONFIG = dataclasses.replace(tiny.CONFIG, max_position_embeddings=160)
MODEL = tiny.model(CONFIG)
ROOM = Room(context=64, prompt=16, new_tokens=24)


def make_engine(slots=2):
  engine = Engine(MODEL, room=ROOM, slots=slots, steps=4, stop_tokens=())
  engine.add_adapter('first', tiny.adapter(0))
  return engine


def request(seed, **fields):
  context = np.asarray(tiny.normal(seed, 1 + seed, CONFIG.hidden_size))
  fields = {'ids': tiny.ids(seed, 3), 'max_new_tokens': 9} | fields
  return Request(context=context, **fields)


async def tokens_of(running, asked, adapter=None):
  found = []
  async for news in running.generate(asked, adapter):
    found += news.tokens
  assert news.done
  return found


def alone(asked, adapter=None):
  return lloco.generate(
    MODEL,
    asked.ids,
    asked.context,
    adapter,
    asked.max_new_tokens,
    stop_tokens=(),
  ).tolist()


@pytest.fixture
def engine():
  return make_engine()


@pytest.fixture
def running(engine):
  running = AsyncEngine(engine)
  yield running
  running.close()
  running.join()


def wait_until(engine):
  """The thread may still be in its last step."""
  for _ in range(100):
    if engine.idle:
      return
    time.sleep(0.05)
  raise AssertionError('The engine goes on.')


def test_answers_are_those_of_each_alone(running, engine):
  """Also with an adapter that comes with its first request."""
  fresh = tiny.adapter(1)
  asked = [request(seed) for seed in range(3)]
  asked += [request(3, adapter='first'), request(4, adapter='second')]
  adapters = [None, None, None, tiny.adapter(0), fresh]

  async def all_at_once():
    return await asyncio.gather(
      *(tokens_of(running, each, each.adapter and fresh) for each in asked)
    )

  found = asyncio.run(all_at_once())
  assert found == [alone(*each) for each in zip(asked, adapters)]
  assert engine.adapters == ['first', 'second']


def test_who_leaves_frees_the_slot(running, engine):
  async def leave():
    generated = running.generate(request(0, max_new_tokens=24))
    async for news in generated:
      assert not news.done
      break
    await generated.aclose()
    # One whose caller is cancelled while it waits.
    task = asyncio.create_task(tokens_of(running, request(1)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
      await task
    return await tokens_of(running, request(2))

  assert asyncio.run(leave()) == alone(request(2))
  wait_until(engine)
  assert not running._listeners


def test_an_error_ends_those_that_wait_and_no_later_ones(
  running, engine, monkeypatch
):
  advance = engine._advance
  failing = [True]

  def broken():
    if failing:
      raise RuntimeError('out of memory')
    return advance()

  monkeypatch.setattr(engine, '_advance', broken)
  cancel, cancelled = engine.cancel, []
  monkeypatch.setattr(
    engine, 'cancel', lambda answer: (cancelled.append(answer), cancel(answer))
  )

  async def ask():
    found = await asyncio.gather(
      tokens_of(running, request(0)),
      tokens_of(running, request(1)),
      tokens_of(running, request(2, ids=tiny.ids(0, 17))),
      return_exceptions=True,
    )
    failing.clear()
    return found, await tokens_of(running, request(3))

  failed, answer = asyncio.run(ask())
  assert [type(each) for each in failed] == [RuntimeError] * 2 + [ValueError]
  assert 'longer than the 16' in str(failed[2])
  assert answer == alone(request(3))
  # Or the engine would begin them again, for nobody.
  assert len(cancelled) == 2
  wait_until(engine)


def test_answers_that_are_left_at_the_end_are_told(engine):
  running = AsyncEngine(engine)

  async def ask():
    left = asyncio.create_task(
      tokens_of(running, request(0, max_new_tokens=24))
    )
    async for _ in running.generate(request(1, max_new_tokens=24)):
      running.close()
      break
    for _ in range(2):
      with pytest.raises(Closed, match='shutting down'):
        await left
      left = asyncio.create_task(tokens_of(running, request(2)))
      await asyncio.sleep(0)
    with pytest.raises(Closed):
      await left

  asyncio.run(ask())
  running.join()
  assert engine.idle
