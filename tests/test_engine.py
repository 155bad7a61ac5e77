"""The engine against `lloco.generate`, which answers each request alone."""

import dataclasses
import functools
import gc
import math
import re
import weakref

import jax
import numpy as np
import pytest
import tiny

import lloco_jax as lloco
from lloco_jax.generation.sampling import GREEDY, Sampling
from lloco_jax.nn.lora import merge_adapter
from lloco_jax.serving import engine as engine_module
from lloco_jax.serving.engine import Engine
from lloco_jax.serving.requests import Request
from lloco_jax.serving.slots import (
  Room,
  advance,
  insert_context,
  read_context,
  read_prompts,
  seat,
)

CONFIG = dataclasses.replace(tiny.CONFIG, max_position_embeddings=160)
MODEL = tiny.model(CONFIG)
D = CONFIG.hidden_size
# Contexts in 64 or 96 places, prompts in 16 or 24.
ROOM = Room(context=96, prompt=24, new_tokens=12)
PROGRAMS = (read_context, insert_context, read_prompts, seat, advance)
DRAWN = {'temperature': 2.0, 'top_p': 0.9}


@functools.cache
def adapter(seed):
  """Ranks 1 to 3, on all projections or some."""
  targets = tiny.ALL if seed % 2 else ('q_proj', 'v_proj', 'down_proj')
  return tiny.adapter(seed, rank=1 + seed % 3, targets=targets)


@functools.cache
def merged(seed):
  """The base with an adapter in its weights, so that one program does all."""
  params = merge_adapter(MODEL.params, adapter(seed))
  return dataclasses.replace(MODEL, params=params)


def context(seed, length):
  return 3 * np.asarray(tiny.normal(seed, length, D))


def make_engine(adapters=(), **options):
  options = {'room': ROOM, 'slots': 3, 'steps': 4, 'stop_tokens': ()} | options
  named = {str(seed): adapter(seed) for seed in adapters}
  return Engine(MODEL, named, **options)


def request(seed, **fields):
  """A prompt of 1 to 24 tokens behind up to 96 vectors, unless said."""
  random = np.random.default_rng(seed)
  length = int(random.integers(0, ROOM.context, endpoint=True))
  fields = {
    'ids': tiny.ids(seed, int(random.integers(1, 24, endpoint=True))),
    'context': context(seed, length) if length else None,
    'max_new_tokens': int(random.integers(1, 12, endpoint=True)),
  } | fields
  return Request(**fields)


def alone(asked, stop_tokens=()):
  """Padded, so that few programs are compiled, which changes nothing."""
  ids = np.zeros((1, ROOM.prompt), np.int32)
  ids[0, : len(asked.ids)] = asked.ids
  vectors = np.zeros((1, ROOM.context, D), np.float32)
  length = 0 if asked.context is None else len(asked.context)
  if length:
    vectors[0, :length] = asked.context
  tokens = lloco.generate(
    MODEL if asked.adapter is None else merged(int(asked.adapter)),
    ids,
    vectors,
    max_new_tokens=ROOM.new_tokens,
    lengths=[len(asked.ids)],
    context_lengths=[length],
    **dataclasses.asdict(asked.sampling),
    stop_tokens=(),
  )[0].tolist()[: asked.max_new_tokens]
  stops = [tokens.index(stop) for stop in stop_tokens if stop in tokens]
  return tokens[: min(stops, default=None)]


def test_eight_adapters_and_sixteen_contexts_as_each_row_alone():
  """More requests than slots; some draw their tokens."""
  engine = make_engine(range(8), slots=6)
  contexts = [context(100 + index, 6 * index) for index in range(16)]
  asked = [
    request(
      seed,
      context=contexts[seed % 16],
      adapter=None if seed % 9 == 8 else str(seed % 9),
      sampling=Sampling(**DRAWN, seed=seed) if seed % 3 == 2 else GREEDY,
    )
    for seed in range(32)
  ]
  answers = [engine.submit(one) for one in asked]
  engine.run()
  assert engine.idle and engine.step() == []
  for one, answer in zip(asked, answers):
    assert answer.done and not answer.stopped
    assert answer.tokens == alone(one)
  assert len({tuple(answer.tokens[:3]) for answer in answers}) > 24


def test_adding_adapters_and_documents_changes_no_other_answer():
  """Adapters that fit the bank, and one that makes all of it grow."""
  engine = make_engine([1], capacity=2, rank=2)
  first = request(1, adapter='1', max_new_tokens=12)
  running = engine.submit(first)
  engine.step()
  for seed in (0, 2):
    engine.add_adapter(str(seed), adapter(seed))
    assert not running.done
    asked = [
      request(
        10 * seed + index, adapter=name, context=context(seed, 50 + index),
        ids=tiny.ids(index, 9), max_new_tokens=5,
      )
      for index, name in enumerate((str(seed), '1', None))
    ]  # fmt: skip
    answers = [engine.submit(one) for one in asked]
    while not answers[1].done:
      engine.step()
    assert [answer.tokens for answer in answers[:2]] == [
      alone(one) for one in asked[:2]
    ]
  engine.run()
  assert running.tokens == alone(first)


def test_contexts_read_once_never_mix():
  engine = make_engine([1, 2])
  a, b = context(1, 70), context(2, 70)
  seen = []
  for vectors, name in [
    (a, '1'), (b, '1'), (a, '1'), (a, '2'), (a, None), (b, '2'), (a, '2'),
  ]:  # fmt: skip
    one = request(5, context=vectors, adapter=name, max_new_tokens=12)
    answer = engine.submit(one)
    assert list(answer) == alone(one)
    seen.append((engine.contexts.hits, engine.contexts.misses))
  assert seen == [(0, 1), (0, 2), (1, 2), (1, 3), (1, 4), (1, 5), (2, 5)]
  # Keys and values in float32, 2 heads of 6 in 2 layers, 5 contexts of 96.
  assert engine.contexts.bytes == 5 * 96 * 2 * 2 * 2 * 6 * 4


def test_what_is_read_is_what_was_submitted():
  engine = make_engine()
  vectors = context(1, 70)
  one = request(5, context=vectors.copy(), max_new_tokens=12)
  answer = engine.submit(dataclasses.replace(one, context=vectors))
  vectors[:] = 0
  assert list(answer) == alone(one)


def test_a_context_that_was_dropped_is_read_again():
  engine = make_engine(context_bytes=96 * 2 * 2 * 2 * 6 * 4)
  for seed, misses in [(1, 1), (2, 2), (2, 2), (1, 3)]:
    one = request(5, context=context(seed, 70), max_new_tokens=3)
    assert list(engine.submit(one)) == alone(one)
    assert engine.contexts.misses == misses
    assert len(engine.contexts) == 1


def test_answers_stream_while_others_come_along():
  engine = make_engine(steps=2)
  asked = [request(seed, max_new_tokens=11) for seed in range(2)]
  answers = [engine.submit(one) for one in asked]
  counts, tokens = [], []
  for token in answers[0]:
    tokens.append(token)
    counts.append((len(answers[0].tokens), len(answers[1].tokens)))
  assert tokens == alone(asked[0])
  assert counts[0] == (1, 0) and counts[1] == (3, 3) and counts[-1] == (11, 11)
  assert list(answers[1]) == list(answers[1]) == alone(asked[1])


def test_a_step_names_the_answers_that_changed():
  engine = make_engine(steps=2)
  long, short = (
    engine.submit(request(seed, max_new_tokens=count))
    for seed, count in [(1, 5), (2, 2)]
  )
  changed = [engine.step() for _ in range(5)]
  assert changed == [[long], [short], [long, short], [long], []]


def test_a_slot_that_is_free_ends_the_steps_when_a_request_waits():
  lengths = {}
  for waiting in (False, True):
    engine = make_engine(slots=2, steps=8)
    long = engine.submit(request(1, max_new_tokens=12))
    engine.submit(request(2, max_new_tokens=3))
    if waiting:
      engine.submit(request(3))
    for _ in range(2):
      engine.step()
    lengths[waiting] = len(long.tokens)
    engine.run()
    assert long.tokens == alone(long.request)
  assert lengths == {False: 9, True: 3}


def test_requests_are_read_together_where_enough_wait():
  """Four at a time; each takes the next slot that is free."""
  engine = make_engine([1, 2], slots=4, steps=8)
  asked = [
    request(seed, max_new_tokens=count, adapter=[None, '1', '2'][seed % 3])
    for seed, count in enumerate([6, 3, 12, 4, 6, 5, 7, 1, 9])
  ]
  answers = [engine.submit(one) for one in asked]
  changed = [[answers.index(one) for one in engine.step()] for _ in range(5)]
  assert changed == [
    [0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7], [0, 4, 2, 3], [0, 4, 2, 5],
  ]  # fmt: skip
  counts = [len(answer.tokens) for answer in answers]
  assert counts == [6, 3, 6, 4, 4, 3, 1, 1, 0]
  engine.run()
  assert [answer.tokens for answer in answers] == [alone(one) for one in asked]


def test_a_step_turns_no_keys():
  """Which would take longer than its products."""
  engine = make_engine([0])
  text = advance.lower(
    engine._params, CONFIG, engine._slots, engine._bank.adapter,
    np.ones(3, bool), np.bool_(False), ROOM, 4, (),
  ).as_text()  # fmt: skip
  turned = re.findall(r'stablehlo\.transpose.*: \(tensor<([\dx]+)xf32>', text)
  sizes = {math.prod(map(int, shape.split('x'))) for shape in turned}
  assert sizes and engine._slots.layers[0].key.size not in sizes


@pytest.mark.parametrize('lobby_rows', [1, 3])
def test_a_request_that_overflows_spoils_no_later_one(lobby_rows):
  """Its keys and values stay where the next request is read."""
  engine = make_engine([0], slots=3)
  huge = jax.tree.map(lambda leaf: leaf * 1e25, adapter(1))
  engine.add_adapter('huge', huge)
  bad = request(9, adapter='huge', context=context(9, 90), ids=tiny.ids(9, 24))
  for _ in range(lobby_rows):
    engine.submit(bad)
  engine.run()
  layers = [np.asarray(layer.value) for layer in engine._lobby.layers]
  assert not np.isfinite(layers).all()
  short = [
    request(seed, context=None, ids=tiny.ids(seed, 3), max_new_tokens=6)
    for seed in range(3)
  ]
  for asked in (short, short[:1], short):
    answers = [engine.submit(one) for one in asked]
    engine.run()
    assert [each.tokens for each in answers] == [alone(one) for one in asked]


def test_adapters_are_finite_in_the_dtype_of_the_base():
  half = jax.tree.map(lambda leaf: leaf.astype('float16'), MODEL.params)
  engine = Engine(dataclasses.replace(MODEL, params=half), room=ROOM, slots=2)
  large = adapter(1)
  query = dict(large.weights['layers']['self_attn']['q_proj'])
  query['b'] = query['b'].at[0, 0, 0].set(1e5)
  attention = large.weights['layers']['self_attn'] | {'q_proj': query}
  layers = large.weights['layers'] | {'self_attn': attention}
  large = dataclasses.replace(large, weights={'layers': layers})
  with pytest.raises(ValueError, match="'large' holds .* finite in float16"):
    engine.add_adapter('large', large)
  assert engine.adapters == []
  make_engine().add_adapter('large', large)


def test_stop_tokens_end_an_answer_and_are_not_in_it():
  asked = [request(seed, max_new_tokens=12) for seed in range(6)]
  free = [alone(one) for one in asked]
  stops = (free[0][0], free[1][4])
  engine = make_engine(stop_tokens=stops)
  answers = [engine.submit(one) for one in asked]
  engine.run()
  for one, answer, whole in zip(asked, answers, free):
    assert answer.tokens == alone(one, stops)
    assert answer.stopped == (answer.tokens != whole)
  assert answers[0].tokens == [] and 0 < len(answers[1].tokens) < 12


def test_the_checkpoint_says_where_to_stop():
  one = request(1, max_new_tokens=12)
  eos = alone(one)[5]
  config = dataclasses.replace(CONFIG, eos_token_ids=(eos,))
  engine = Engine(dataclasses.replace(MODEL, config=config), room=ROOM, slots=3)
  assert list(engine.submit(one)) == alone(one, (eos,))


def test_an_answer_is_iterated_on_after_an_error(monkeypatch):
  engine = make_engine(steps=2)
  one = request(1, max_new_tokens=9)
  tokens = iter(engine.submit(one))
  found = [next(tokens)]
  with monkeypatch.context() as patch:
    patch.setattr(engine_module, 'advance', None)
    with pytest.raises(TypeError):
      next(tokens)
  assert found + list(tokens) == alone(one)


def test_an_interrupt_loses_nothing(monkeypatch):
  """Also one that comes when the slots have been given up."""
  engine = make_engine(steps=2)
  asked = [request(seed, max_new_tokens=9) for seed in range(5)]
  answers = [engine.submit(one) for one in asked]
  tokens = []

  for name in ('advance', 'read_prompts', 'seat'):
    tokens.append(next(iter(answers[0])))
    with monkeypatch.context() as patch:
      program = getattr(engine_module, name)

      def stop(*arguments, program=program):
        program(*arguments)
        raise KeyboardInterrupt

      patch.setattr(engine_module, name, stop)
      with pytest.raises(KeyboardInterrupt):
        engine.run()
  engine.run()
  assert [answer.tokens for answer in answers] == [alone(one) for one in asked]
  assert set(tokens) == {answers[0].tokens[0]}


def test_a_second_interrupt_while_slots_are_made_anew(monkeypatch):
  engine = make_engine(steps=2)
  asked = [request(seed, max_new_tokens=9) for seed in range(5)]
  answers = [engine.submit(one) for one in asked]
  engine.step(), engine.step()

  def stop(*arguments):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(engine, '_advance', stop)
    patch.setattr(engine, '_read', stop)
    patch.setattr(engine, '_empty', stop)
    with pytest.raises(KeyboardInterrupt):
      engine.run()
  engine.run()
  assert [answer.tokens for answer in answers] == [alone(one) for one in asked]


def test_a_cancelled_answer_makes_room_and_changes_no_other():
  engine = make_engine(slots=2, steps=2)
  asked = [request(seed, max_new_tokens=12) for seed in range(4)]
  answers = [engine.submit(one) for one in asked]
  for _ in range(2):
    engine.step()
  engine.cancel(answers[0])
  engine.cancel(answers[2])
  engine.run()
  assert all(answer.done and not answer.stopped for answer in answers)
  assert answers[0].tokens == list(answers[0]) == alone(asked[0])[:3]
  assert answers[2].tokens == []
  for which in (1, 3):
    assert answers[which].tokens == alone(asked[which])
  # With nobody to take its place, its slot stays free.
  last = engine.submit(request(5, max_new_tokens=12))
  other = engine.submit(request(6, max_new_tokens=4))
  engine.step(), engine.step()
  engine.cancel(last)
  assert list(other) == alone(other.request)
  assert engine.idle and not np.asarray(engine._slots.left).any()


def test_a_request_that_is_read_and_has_no_slot_can_be_cancelled():
  engine = make_engine(slots=2, steps=2)
  asked = [request(seed, max_new_tokens=4 + seed) for seed in range(6)]
  answers = [engine.submit(one) for one in asked]
  while len(engine._ready) != 1:
    assert engine.step()
  [(_, job)] = engine._ready
  engine.cancel(job.answer)
  engine.run()
  for one, answer in zip(asked, answers):
    assert answer.tokens == alone(one)[: 1 if answer is job.answer else None]


def test_a_request_in_two_places_is_answered_once(monkeypatch):
  """As an interrupt between two queues leaves it; or done, and in one."""
  engine = make_engine(slots=2, steps=2)
  asked = [request(seed, max_new_tokens=9) for seed in range(4)]
  answers = [engine.submit(one) for one in asked]
  for _ in range(2):
    engine.step()
  engine._waiting.appendleft(engine._running[0])
  engine.cancel(answers[1])
  engine._running[1] = dataclasses.replace(
    engine._running[0], answer=answers[1]
  )
  with monkeypatch.context() as patch:
    patch.setattr(engine, '_advance', lambda: 1 / 0)
    patch.setattr(engine, '_read', lambda count: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      engine.step()
  engine.run()
  del asked[1], answers[1]
  assert [answer.tokens for answer in answers] == [alone(one) for one in asked]


def test_programs_are_as_many_as_the_buckets_say():
  for program in PROGRAMS:
    program.clear_cache()
  engine = make_engine([0], capacity=4, rank=4)
  engine.warm_up()
  counts = [program._cache_size() for program in PROGRAMS]
  assert counts == [2, 2, 4, 1, 1]
  assert sum(counts) == engine.programs == 10
  for seed in (2, 4, 5):
    engine.add_adapter(str(seed), adapter(seed - seed % 2))
  for seed in range(12):
    engine.submit(
      request(
        seed,
        adapter=[None, '0', '2', '4', '5'][seed % 5],
        sampling=Sampling(**DRAWN, seed=seed) if seed % 2 else GREEDY,
      )
    )
  engine.run()
  assert [program._cache_size() for program in PROGRAMS] == counts
  # One that does not fit.
  engine.add_adapter('6', tiny.adapter(6, rank=5))
  engine.submit(request(1, adapter='6', max_new_tokens=3))
  engine.run()
  assert advance._cache_size() == 2


def test_the_engine_holds_one_copy_of_the_weights():
  config = dataclasses.replace(CONFIG, tie_word_embeddings=True)
  model = dataclasses.replace(
    MODEL, config=config, params=jax.tree.map(lambda x: x + 0, MODEL.params)
  )
  stacked = weakref.ref(model.params['layers']['mlp']['up_proj']['kernel'])
  engine = Engine(model, room=ROOM, slots=3, steps=4)
  unstacked = model.unstacked_params['layers_0']
  assert engine._params['layers_0'] is unstacked
  del model
  gc.collect()
  assert stacked() is None


@pytest.mark.parametrize(
  'fields, said',
  [
    ({'context': context(0, 97)}, 'context of 97 vectors.*96.*context=97'),
    ({'ids': [1] * 25}, 'prompt of 25 tokens.*24.*prompt=25'),
    ({'max_new_tokens': 13}, 'answer of 13 tokens.*12.*new_tokens=13'),
    ({'max_new_tokens': 0}, 'max_new_tokens is 0'),
    ({'adapter': '9'}, "no adapter '9'.*has '1'"),
    ({'max_new_tokens': 2.5}, 'max_new_tokens is 2.5; it must be a whole'),
    ({'max_new_tokens': '5'}, "max_new_tokens is '5'"),
    ({'max_new_tokens': float('nan')}, 'max_new_tokens is nan'),
    ({'adapter': 7}, 'adapter of a request is a int; give its name'),
    ({'sampling': None}, 'sampling of a request is a NoneType; give a'),
    ({'sampling': {'temperature': 1}}, 'sampling of a request is a dict'),
    ({'ids': []}, 'the text is empty'),
    ({'ids': [[1, 2]]}, 'a request has one prompt'),
    ({'ids': [CONFIG.vocab_size]}, 'outside'),
    ({'context': np.zeros((3, D + 1))}, rf'context is \[3, {D + 1}\]'),
    ({'context': np.full((3, D), np.nan)}, 'numbers that are not finite'),
    ({'context': np.full((3, D), 1e300)}, 'not finite in float32'),
  ],
)
def test_requests_that_can_never_be_answered(fields, said):
  engine = make_engine([1])
  with pytest.raises(ValueError, match=said):
    engine.submit(request(1, **fields))
  assert engine.idle


@pytest.mark.parametrize(
  'options, said',
  [
    ({'slots': 0}, 'slots is 0'),
    ({'steps': 0}, 'steps is 0'),
    ({'room': Room(0, 0, 1)}, 'room.prompt is 0'),
    ({'room': Room(96, 24, 41)}, 'takes 161 positions; the model has 160'),
  ],
)
def test_engines_that_cannot_be(options, said):
  with pytest.raises(ValueError, match=said):
    make_engine(**options)


def test_adapters_of_another_base_are_refused():
  wide = dataclasses.replace(CONFIG, hidden_size=8)
  with pytest.raises(ValueError, match='made for another base'):
    make_engine().add_adapter('x', tiny.adapter(config=wide))


def test_an_engine_without_room_for_contexts():
  engine = make_engine(room=Room(0, 24, 12))
  one = request(1, context=None)
  assert list(engine.submit(one)) == alone(one)
