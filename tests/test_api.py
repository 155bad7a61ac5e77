"""The public functions: shapes, and what they say to unusable input."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import CONFIG, relative_error

import lloco_jax as lloco
from lloco_jax.generation.sampling import Sampling
from lloco_jax.nn.lora import stack_adapters

D, K = CONFIG.hidden_size, CONFIG.summary_length
IDS = tiny.ids(0, 2, 7)
CONTEXT = tiny.normal(1, 2, 3, D)
PLAIN = dataclasses.replace(
  tiny.model(), config=dataclasses.replace(CONFIG, summary_length=0)
)
WIDE = dataclasses.replace(CONFIG, hidden_size=20)
BANK = stack_adapters([tiny.adapter(1), tiny.adapter(2)])


def test_one_row_is_the_batch_of_one():
  model = tiny.model()
  one = lloco.forward(model, IDS[1], CONTEXT[1])
  assert one.shape == (7, CONFIG.vocab_size)
  assert relative_error(one, lloco.forward(model, IDS, CONTEXT)[1]) < 1e-5
  summaries = lloco.compress(model, IDS[1], segment_length=4)
  assert summaries.shape == (2 * K, D)
  both = lloco.compress(model, IDS, segment_length=4)
  assert relative_error(summaries, both[1]) < 1e-5
  tokens = lloco.generate(model, IDS[1], CONTEXT[1], max_new_tokens=3)
  assert tokens.shape == (3,)
  whole = lloco.generate(model, IDS, CONTEXT, max_new_tokens=3)
  assert tokens.tolist() == whole[1].tolist()


def test_lists_are_taken_as_arrays():
  model = tiny.model()
  listed = lloco.forward(model, IDS.tolist(), np.asarray(CONTEXT).tolist())
  np.testing.assert_array_equal(listed, lloco.forward(model, IDS, CONTEXT))


def test_segment_lengths_are_where_it_is_cut():
  model = tiny.model()
  explicit = lloco.compress(model, IDS, segment_lengths=[3, 3, 1])
  assert explicit.shape == (2, 3 * K, D)
  equal = lloco.compress(model, IDS, segment_length=3)
  assert relative_error(equal, explicit) < 1e-6
  other = lloco.compress(model, IDS, segment_lengths=[1, 3, 3])
  assert relative_error(other, explicit) > 0.01


def test_functions_of_the_adapter_can_be_jitted_and_differentiated():
  model, adapter = tiny.model(), tiny.adapter()

  def loss(adapter):
    return lloco.loss(model, IDS, IDS, CONTEXT, adapter)

  value, gradient = jax.jit(jax.value_and_grad(loss))(adapter)
  assert relative_error(value, loss(adapter)) < 1e-5
  step = 1e-3
  change = jax.tree.map(lambda g: step * g, gradient)
  moved = jax.tree.map(lambda a, c: a + c, adapter, change)
  back = jax.tree.map(lambda a, c: a - c, adapter, change)
  expected = sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient))
  slope = (loss(moved) - loss(back)) / (2 * step)
  np.testing.assert_allclose(slope, expected, rtol=0.02)


def forward(**options):
  return lambda: lloco.forward(
    tiny.model(), **{'ids': IDS, 'context': CONTEXT, **options}
  )


def compress(model=None, **options):
  return lambda: lloco.compress(
    model or tiny.model(), **{'ids': IDS, 'segment_length': 4, **options}
  )


def generate(**options):
  return lambda: lloco.generate(
    tiny.model(), **{'ids': IDS, 'context': CONTEXT, **options}
  )


REFUSED = {
  'empty ids': (forward(ids=np.zeros((2, 0), int)), 'text is empty'),
  'an empty text': (compress(ids=np.zeros(0, int)), 'text is empty'),
  'real ids': (forward(ids=IDS * 1.0), r'float64\[2, 7\]; give integers'),
  'ids of three axes': (forward(ids=IDS[None]), r'int32\[1, 2, 7\]'),
  'an id too large': (forward(ids=IDS + 60), 'vocabulary of 61'),
  'an id below zero': (generate(ids=IDS - 61), 'token id -.* vocabulary'),
  'the id that is one too large': (
    forward(ids=np.array([61]), context=None),
    'token id 61, ',
  ),
  'a context of too few rows': (forward(context=CONTEXT[:1]), r'\[2, n, 16\]'),
  'a context of another width': (
    forward(context=CONTEXT[..., :-1]),
    r'is \[2, 3, 15\]; .* must be \[2, n, 16\]',
  ),
  'a flat context': (forward(context=CONTEXT[0]), r'\[3, 16\]'),
  'no compressor': (compress(PLAIN), 'has no summary tokens'),
  'segments that leave a rest': (
    compress(segment_lengths=[3, 3]),
    r'\[3, 3\] .* the 7 tokens',
  ),
  'a segment beyond the window': (
    compress(ids=np.ones((2, 62), int), segment_length=62),
    'segment of 62 tokens and 3 summary tokens exceeds .* of 64',
  ),
  'an empty segment': (compress(segment_lengths=[7, 0]), 'must be positive'),
  'no segments': (compress(segment_lengths=[]), 'the 7 tokens'),
  'a segment length of zero': (compress(segment_length=0), 'number >= 1'),
  'a segment length with a point': (
    compress(segment_length=4.0),
    'segment_length is 4.0',
  ),
  'rows of different lengths': (
    forward(ids=[[1, 2], [3]]),
    'different lengths; pad them at their ends',
  ),
  'the folder of an adapter': (
    generate(adapter='runs/demo'),
    'The adapter is a str; read it with load_adapter',
  ),
  'a stop token that is no list': (
    generate(stop_tokens=2),
    'stop_tokens is 2; it must be a list',
  ),
  'earlier vectors of another width': (
    compress(earlier=CONTEXT[..., 1:]),
    r'earlier.*\[2, 3, 15\]',
  ),
  'earlier vectors of too few rows': (
    compress(earlier=CONTEXT[:1]),
    r'earlier.*\[1, 3, 16\]',
  ),
  'earlier vectors of part of a segment': (
    compress(earlier=CONTEXT[:, :2]),
    'multiple of 3',
  ),
  'more than the window': (
    generate(max_new_tokens=55),
    'of 10 positions and 55 new tokens exceed the 64',
  ),
  'a text longer than the window': (
    forward(ids=np.ones((2, 62), int)),
    'of 65 positions exceed the 64',
  ),
  'labels longer than the window': (
    lambda: lloco.loss(tiny.model(), *2 * [np.ones((2, 62), int)], CONTEXT),
    'of 65 positions exceed the 64',
  ),
  'no new tokens': (generate(max_new_tokens=0), 'max_new_tokens is 0'),
  'lengths beyond the prompt': (generate(lengths=[7, 8]), 'lengths.* 1 to 7'),
  'an empty prompt': (generate(lengths=[7, 0]), 'lengths.* 1 to 7'),
  'too few lengths': (generate(lengths=[7]), 'lengths.* 2 '),
  'context lengths beyond the context': (
    generate(context_lengths=[3, 4]),
    'context_lengths.* 0 to 3',
  ),
  'a negative temperature': (generate(temperature=-1.0), 'temperature is -1'),
  'a temperature that is no number': (
    generate(temperature=float('nan')),
    'temperature is nan',
  ),
  'a temperature that overflows': (
    generate(temperature=1e-38),
    'temperature is 1e-38; .* at least 1e-30',
  ),
  'a temperature of an array': (
    generate(temperature=np.array([0.5])),
    r'temperature is array\(\[0.5\]\); it must be a number',
  ),
  'a seed of more than 64 bits': (generate(seed=2**64), 'seed is'),
  'half a token': (generate(max_new_tokens=2.5), 'max_new_tokens is 2.5'),
  'a context that is not finite': (
    generate(context=CONTEXT * np.nan),
    'context holds numbers that are not finite in float32',
  ),
  'earlier vectors that are not finite': (
    compress(earlier=CONTEXT * np.inf),
    'earlier holds numbers that are not finite',
  ),
  'a compressor of several adapters': (
    compress(adapter=BANK),
    'A compressor takes one adapter, not a bank',
  ),
  'a top_p above one': (generate(top_p=1.5), 'top_p is 1.5'),
  'a top_p of zero': (generate(top_p=0.0), 'top_p is 0.0'),
  'a bank without ids': (forward(adapter=BANK), 'needs adapter_ids'),
  'ids without a bank': (
    forward(adapter=tiny.adapter(), adapter_ids=[0, 0]),
    'adapter_ids .* bank',
  ),
  'an adapter that the bank has not': (
    generate(adapter=BANK, adapter_ids=[0, 2]),
    'adapter_ids.* -1 to 1',
  ),
  'an adapter of another base': (
    forward(adapter=tiny.adapter(config=WIDE)),
    'adapter changes .*_proj in 2 layers.* another base',
  ),
  'an adapter of a deeper base': (
    generate(
      adapter=tiny.adapter(
        config=dataclasses.replace(CONFIG, num_hidden_layers=3)
      )
    ),
    'another base',
  ),
  'labels of another shape': (
    lambda: lloco.loss(tiny.model(), IDS, IDS[:, 1:], CONTEXT),
    r'labels are \(2, 6\) and ids \(2, 7\)',
  ),
  'labels out of the vocabulary': (
    lambda: lloco.loss(tiny.model(), IDS, IDS + 60, CONTEXT),
    'label.*vocabulary of 61',
  ),
}


@pytest.mark.parametrize('what', REFUSED)
def test_unusable_input_is_refused_in_a_sentence(what):
  call, said = REFUSED[what]
  with pytest.raises(ValueError, match=said) as error:
    call()
  message = str(error.value)
  assert '\n' not in message and message.endswith('.')
  assert message[0].isupper() or message.split()[0].strip("'") in (
    'ids', 'labels', 'lengths', 'max_new_tokens', 'segment_length',
    'segment_lengths', 'context_lengths', 'adapter_ids', 'temperature',
    'top_p', 'earlier', 'seed', 'stop_tokens',
  )  # fmt: skip


def test_padding_needs_no_window():
  prompts = np.pad(IDS, ((0, 0), (0, 60)))
  tokens = lloco.generate(
    tiny.model(), prompts, CONTEXT, lengths=[7, 7], stop_tokens=()
  )
  expected = lloco.generate(tiny.model(), IDS, CONTEXT, stop_tokens=())
  np.testing.assert_array_equal(tokens, expected)


def test_positions_behind_the_window_count():
  model = dataclasses.replace(tiny.model(), beyond=1)
  tokens = lloco.generate(
    model, IDS, CONTEXT, max_new_tokens=55, stop_tokens=()
  )
  assert tokens.shape == (2, 55)


def test_an_answer_ends_with_the_tokenizers_eos():
  """Finetuning ends answers with it, whatever config.json says."""
  free = lloco.generate(tiny.model(), IDS[0], CONTEXT[0], stop_tokens=())
  end = int(free[4])
  tokenizer = types.SimpleNamespace(eos_id=end)
  model = dataclasses.replace(tiny.model(), tokenizer=tokenizer)
  first = free.tolist().index(end)
  tokens = lloco.generate(model, IDS[0], CONTEXT[0]).tolist()
  assert tokens == free.tolist()[:first] + [end] * (len(free) - first)


def test_all_bits_of_a_seed_count():
  def drawn(seed):
    return lloco.generate(
      tiny.model(), IDS, CONTEXT, temperature=2.0, seed=seed, stop_tokens=()
    ).tolist()

  seeds = (7, 7 + 2**40, 7 - 2**40, -7)
  assert len({str(drawn(seed)) for seed in seeds}) == len(seeds)
  assert (Sampling(seed=7).key == jax.random.key(7)).all()
  large = Sampling(seed=2**32 - 1).key
  assert (large == jax.random.key(np.uint32(2**32 - 1))).all()


def test_the_window_is_enough_to_the_last_position():
  tokens = lloco.generate(
    tiny.model(), IDS, CONTEXT, max_new_tokens=54, stop_tokens=()
  )
  assert tokens.shape == (2, 54)
