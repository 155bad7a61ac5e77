"""Generation against a full forward pass for every token."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import CONFIG, relative_error

import lloco_jax as lloco
from lloco_jax.generation import decoding
from lloco_jax.generation.decoding import prefill
from lloco_jax.model import Model
from lloco_jax.nn import attention as attentions
from lloco_jax.nn import llama
from lloco_jax.nn.joining import unstack_layers
from lloco_jax.nn.lora import stack_adapters

D = CONFIG.hidden_size
LENGTHS = np.array([6, 3, 1])
CONTEXT_LENGTHS = np.array([4, 0, 2])
NEW = 9


def prompts():
  """Rows of different lengths; padding is a token like any other."""
  return tiny.ids(0, 3, 6), 3 * tiny.normal(1, 3, 4, D)


def bank():
  adapters = [tiny.adapter(1, rank=1), tiny.adapter(2, rank=2)]
  return adapters, stack_adapters(adapters)


def generate(ids, context, **options):
  options = {'max_new_tokens': NEW, 'stop_tokens': (), **options}
  return np.asarray(lloco.generate(tiny.model(), ids, context, **options))


def one_by_one(ids, context, adapter, count=NEW):
  """Greedy tokens of one row, everything read again for each."""
  tokens = np.zeros(len(ids) + count, np.int32)
  tokens[: len(ids)] = ids
  for place in range(len(ids), len(tokens)):
    scores = lloco.forward(tiny.model(), tokens, context, adapter)
    tokens[place] = np.argmax(scores[place - 1])
  return tokens[len(ids) :]


def test_every_position_equals_the_full_forward():
  """Logits of tokens given one at a time, behind ragged contexts and
  prompts, with an adapter of its own for each row or none."""
  ids, context = prompts()
  adapters, stacked = bank()
  chosen = jnp.asarray([1, -1, 0])
  model, count = tiny.model(), 5
  given = tiny.ids(2, 3, count)
  scores, cache = prefill(
    model.params,
    CONFIG,
    context,
    jnp.asarray(CONTEXT_LENGTHS),
    ids[:, None],
    jnp.asarray(LENGTHS)[:, None],
    stacked,
    chosen,
    count,
  )
  unstacked = stacked.replace(weights=unstack_layers(stacked.weights))

  @jax.jit
  def step(tokens, place, index, cache):
    slot = cache.positions.shape[1] - count + index
    places = cache.positions.at[:, slot].set(place)
    groups = cache.groups.at[:, slot].set(1)
    x = llama.embed(model.params, tokens[:, None])
    ones = jnp.ones((3, 1), jnp.int32)
    positions = llama.Positions(place[:, None], places, ones, groups)
    hidden, layers = llama.hidden_states(
      model.unstacked_params, CONFIG, x, positions, unstacked, chosen,
      cache.layers, slot,
    )  # fmt: skip
    scores = llama.logits(model.params, CONFIG, hidden)
    return scores, decoding.Cache(layers, places, groups)

  actual = [scores]
  for index in range(count):
    place = jnp.asarray(CONTEXT_LENGTHS + LENGTHS + index)
    scores, cache = step(given[:, index], place, index, cache)
    actual.append(scores)
  actual = jnp.concatenate(actual, axis=1)
  for row, which in enumerate((adapters[1], None, adapters[0])):
    length = LENGTHS[row]
    expected = lloco.forward(
      model,
      np.concatenate([ids[row, :length], given[row]]),
      context[row, : CONTEXT_LENGTHS[row]],
      which,
    )
    assert relative_error(actual[row], expected[length - 1 :]) < 1e-4, row


def test_greedy_tokens_of_ragged_rows_with_their_own_adapters():
  ids, context = prompts()
  adapters, stacked = bank()
  actual = generate(
    ids,
    context,
    lengths=LENGTHS,
    context_lengths=CONTEXT_LENGTHS,
    adapter=stacked,
    adapter_ids=jnp.asarray([1, -1, 0]),
  )
  assert actual.shape == (3, NEW) and actual.dtype == np.int32
  for row, which in enumerate((adapters[1], None, adapters[0])):
    expected = one_by_one(
      ids[row, : LENGTHS[row]], context[row, : CONTEXT_LENGTHS[row]], which
    )
    assert actual[row].tolist() == expected.tolist()
  assert len({tuple(row) for row in actual.tolist()}) == 3


@pytest.mark.parametrize('questions', [1, 3])
def test_a_cache_read_in_parts_gives_the_same_tokens(questions):
  """As on a GPU; so many parts that rows alone would not be enough."""
  model, adapter = tiny.model(), tiny.adapter(1)
  ids, context = prompts()
  prompt = jnp.asarray(ids)[:, None, :2].repeat(questions, axis=1)
  sizes = jnp.asarray(CONTEXT_LENGTHS), jnp.full((3, questions), 2)

  def made():
    scores, cache = prefill(
      model.params, CONFIG, context, sizes[0], prompt, sizes[1], adapter,
      new_slots=questions * (NEW - 1),
    )  # fmt: skip
    lengths = sizes[0][:, None] + sizes[1]
    unstacked = model.for_decoding(adapter)
    tokens = decoding.decode(
      unstacked[0], CONFIG, scores, cache, lengths, unstacked[1], None,
      jax.random.key(0), NEW,
    )  # fmt: skip
    return tokens, cache.positions.shape[1]

  expected, places = made()
  with attentions.use_backend('cudnn'):
    tokens, more = made()
    heads, size = CONFIG.num_attention_heads, CONFIG.head_dim
    query = jnp.zeros((3, questions, heads, size))
    key = jnp.zeros((3, CONFIG.num_key_value_heads, more, size))
    assert attentions.parts_of(query, key) == more // attentions.PART_KEYS == 2
    assert attentions.parts_of(jnp.zeros((3, 9, heads, size)), key) is None
  assert places < more == attentions.CACHE_MULTIPLE
  np.testing.assert_array_equal(tokens, expected)


@pytest.mark.parametrize('adapted', [True, False])
def test_stacked_layers_decode_alike(adapted, monkeypatch):
  """Into buffers that are carried, and without a second copy of the base."""
  ids, context = prompts()
  _, bank_of_two = bank()
  options = {
    'lengths': LENGTHS,
    'context_lengths': CONTEXT_LENGTHS,
    'adapter': bank_of_two,
    'adapter_ids': jnp.asarray([1, -1, 0]),
  }
  if not adapted:
    options |= {'adapter': None, 'adapter_ids': None}
  expected = generate(ids, context, **options)
  monkeypatch.setattr(Model, 'decodes_stacked', True)
  monkeypatch.setattr(Model, 'unstacked_params', None)
  assert generate(ids, context, **options).tolist() == expected.tolist()


def test_unstacked_layers_read_alike():
  model, adapter = tiny.model(), tiny.adapter(1)
  unstacked = adapter.replace(weights=unstack_layers(adapter.weights))
  reads = (jnp.zeros((1, 0, D)), jnp.zeros(1, jnp.int32))
  reads = (*reads, tiny.ids(0, 1, 1, 6), jnp.asarray([[5]]))
  expected, actual = (
    prefill(params, CONFIG, *reads, lora, new_slots=3)
    for params, lora in (
      (model.params, adapter),
      (model.unstacked_params, unstacked),
    )
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    actual,
    expected,
  )


def test_reading_with_stacked_layers_holds_no_cache_twice():
  """What is there beside the buffers does not grow with the layers."""
  reads = (jnp.zeros((1, 0, D)), jnp.zeros(1, jnp.int32))
  reads = (*reads, tiny.ids(0, 1, 1, 2048), jnp.asarray([[2048]]))

  def beside(layers):
    config = dataclasses.replace(CONFIG, num_hidden_layers=layers)
    params = jax.eval_shape(
      lambda: llama.init_params(config, jax.random.key(0))
    )
    program = prefill.lower(params, config, *reads, stacked=True).compile()
    return program.memory_analysis().temp_size_in_bytes

  assert beside(16) == beside(2)


def test_questions_behind_one_context_equal_one_row_each():
  """One of them is not there."""
  model = tiny.model()
  context = 3 * tiny.normal(3, 2, 4, D)
  context_lengths = np.array([4, 3])
  asked = tiny.ids(4, 2, 3, 5)
  lengths = np.array([[5, 2, 4], [3, 0, 5]])
  first, cache = prefill(
    model.params,
    CONFIG,
    context,
    jnp.asarray(context_lengths),
    asked,
    jnp.asarray(lengths),
    new_slots=3 * (NEW - 1),
  )
  actual = decoding.decode(
    model.unstacked_params,
    CONFIG,
    first,
    cache,
    context_lengths[:, None] + lengths,
    None,
    None,
    jax.random.key(0),
    NEW,
  )
  assert actual.shape == (2, 3, NEW)
  rows = [(b, q) for b, q in np.ndindex(2, 3) if lengths[b, q]]
  expected = generate(
    np.stack([asked[row] for row in rows]),
    np.stack([context[b] for b, _ in rows]),
    lengths=[lengths[row] for row in rows],
    context_lengths=[context_lengths[b] for b, _ in rows],
  )
  for row, tokens in zip(rows, expected):
    assert actual[row].tolist() == tokens.tolist(), row
  assert len({tuple(tokens) for tokens in expected.tolist()}) > 1


def test_a_row_repeats_its_stop_token_and_leaves_the_others_alone():
  ids, context = prompts()
  free = generate(ids, context)
  stop = int(free[0, 3])
  place = [row.tolist().index(stop) if stop in row else NEW for row in free]
  assert place[0] <= 3 and len(set(place)) > 1, 'choose another seed'
  stopped = generate(ids, context, stop_tokens=(stop,))
  for row, end in enumerate(place):
    wanted = free[row, :end].tolist() + [stop] * (NEW - end)
    assert stopped[row].tolist() == wanted
  alone = generate(ids[:1], context[:1], stop_tokens=(59, stop))
  assert alone[0].tolist() == stopped[0].tolist()


def test_all_rows_stopped_at_once_end_the_loop():
  """The slots of tokens that were never generated are not written."""
  ids, context = prompts()
  stops = tuple(set(generate(ids, context, max_new_tokens=1)[:, 0].tolist()))
  actual = generate(ids, context, stop_tokens=stops)
  assert (actual == actual[:, :1]).all()
  assert set(actual[:, 0].tolist()) == set(stops)


def test_the_checkpoint_says_where_to_stop():
  """Biased towards its EOS, a model stops there unless told otherwise."""
  model, ids = tiny.model(), tiny.ids(0, 4)
  eos = int(generate(ids, None)[2])
  config = {**vars(CONFIG), 'eos_token_ids': (eos,)}
  ending = type(model)(type(CONFIG)(**config), model.params, None, '', '')
  actual = np.asarray(lloco.generate(ending, ids, max_new_tokens=NEW))
  wanted = generate(ids, None, stop_tokens=(eos,))
  assert actual.tolist() == wanted.tolist()
  assert set(actual[2:].tolist()) == {eos}


def test_sampled_tokens_follow_the_seed():
  ids, context = prompts()
  ids, context = np.tile(ids[:1], (3, 1)), jnp.tile(context[:1], (3, 1, 1))
  options = {'temperature': 2.0, 'top_p': 0.95}
  one = generate(ids, context, seed=1, **options)
  assert (one == generate(ids, context, seed=1, **options)).all()
  assert (one != generate(ids, context, seed=2, **options)).any()
  # Equal rows draw on their own, and positions do too.
  assert len({tuple(row) for row in one.tolist()}) == 3
  assert (generate(ids, context, temperature=1e-4) == generate(ids, context))[
    0
  ].all()


def test_one_new_token_needs_no_loop():
  ids, context = prompts()
  short = generate(ids, context, max_new_tokens=1)
  assert short.tolist() == generate(ids, context)[:, :1].tolist()


def test_repeated_shapes_compile_nothing():
  """Lengths, contexts and adapter ids are data, not shapes."""
  ids, context = prompts()
  _, stacked = bank()
  generate(
    ids, context, adapter=stacked, adapter_ids=jnp.asarray([0, 0, 0]),
    lengths=LENGTHS, context_lengths=CONTEXT_LENGTHS,
  )  # fmt: skip
  programs = prefill._cache_size(), decoding.decode_in_place._cache_size()
  assert min(programs) > 0
  for seed in range(3):
    generate(
      tiny.ids(seed, 3, 6),
      context + seed,
      adapter=stacked,
      adapter_ids=jnp.asarray([seed - 1, 0, 1]),
      lengths=LENGTHS - (LENGTHS > 1),
      context_lengths=CONTEXT_LENGTHS[::-1],
      seed=seed,
    )
  assert (
    prefill._cache_size(),
    decoding.decode_in_place._cache_size(),
  ) == programs
  generate(tiny.ids(0, 2, 6), context[:2], lengths=LENGTHS[:2])
  assert prefill._cache_size() == programs[0] + 1


@pytest.mark.parametrize('slots', [1, 3])
def test_free_slots_of_the_cache_are_empty(slots):
  ids, context = prompts()
  _, cache = prefill(
    tiny.model().params,
    CONFIG,
    context,
    jnp.asarray(CONTEXT_LENGTHS),
    ids[:, None],
    jnp.asarray(LENGTHS)[:, None],
    new_slots=slots,
  )
  assert cache.positions.shape == cache.groups.shape == (3, 10 + slots)
  seen = (cache.positions != decoding.UNSEEN).sum(axis=1)
  np.testing.assert_array_equal(seen, LENGTHS + CONTEXT_LENGTHS)
  assert (cache.positions[:, 10:] == decoding.UNSEEN).all()
  assert cache.layers[0].key.shape[2] == 10 + slots


def test_a_model_first_used_in_a_traced_program_can_be_used_again():
  model = dataclasses.replace(tiny.model())
  jax.jit(lambda: model.unstacked_params['layers_0'])()
  ids, context = prompts()
  tokens = lloco.generate(model, ids, context, max_new_tokens=2)
  expected = generate(ids, context, max_new_tokens=2)
  np.testing.assert_array_equal(tokens, expected)


def test_a_step_copies_no_cache():
  """It is written in place: beside it there is less than a layer's. With one
  row the compiler had copied all of it."""
  model, slots = tiny.model(), 4096
  ids, context = prompts()
  lengths = jnp.asarray(LENGTHS[:1])[:, None]
  there = jnp.asarray(CONTEXT_LENGTHS[:1])
  reads = (context[:1], there, ids[:1, None], lengths)
  scores, cache = jax.eval_shape(
    lambda: prefill(model.params, CONFIG, *reads, new_slots=slots)
  )
  program = decoding.decode_in_place.lower(
    model.unstacked_params, CONFIG, scores, cache, lengths, None, None,
    jax.random.key(0), slots + 1, 0.0, 1.0, (),
  ).compile()  # fmt: skip
  beside = program.memory_analysis().temp_size_in_bytes
  assert beside < cache.layers[0].key.size * 4
