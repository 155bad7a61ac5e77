"""Packed and padded answers are those of one prompt at its exact length."""

import jax
import numpy as np
import pytest
from tiny_model import WIDTH, Characters, tiny_adapter, tiny_model

import lloco_jax as lloco
from lloco_jax.data.contexts import Context, context_bucket
from lloco_jax.generation import answering
from lloco_jax.generation.answering import (
  Asked,
  answer_all,
  answer_questions,
  answer_text,
  whole_text,
)
from lloco_jax.generation.sampling import Sampling

NEW = 6
LENGTHS = (40, 3)
CONTEXT = 35


@pytest.fixture(scope='module')
def model():
  return tiny_model(window=100)


def make_context(random, kind, length):
  if kind == 'text':
    return Context(random.integers(1, 128, length, dtype=np.int32))
  return Context(random.normal(size=(length, WIDTH)).astype(np.float32))


def make_prompts(random, count):
  # Every exact length is a program, so there are two.
  return [
    random.integers(1, 128, LENGTHS[index % 2]).tolist()
    for index in range(count)
  ]


def one_by_one(model, context, prompts, adapter):
  values = context.values
  if context.is_text:
    values = np.asarray(model.params['embed_tokens']['embedding'])[values]
  answers = []
  for prompt in prompts:
    tokens = lloco.generate(model, prompt, values, adapter, NEW).tolist()
    answers.append(until(tokens, model.config.eos_token_ids))
  return answers


def until(tokens, stop):
  ends = [index for index, token in enumerate(tokens) if token in stop]
  return tokens[: ends[0]] if ends else tokens


@pytest.mark.parametrize('kind', ['text', 'vectors'])
@pytest.mark.parametrize('adapted', [False, True])
def test_packed_answers_are_those_one_by_one(model, kind, adapted):
  random = np.random.default_rng(0)
  context = make_context(random, kind, CONTEXT)
  adapter = tiny_adapter() if adapted else None
  prompts = make_prompts(random, 5)
  answers = answer_questions(model, context, prompts, adapter, NEW)
  assert answers.tokens == one_by_one(model, context, prompts, adapter)
  # Not inert: the answers are about this context and by this adapter.
  other = make_context(random, kind, CONTEXT)
  changed = answer_questions(model, other, prompts, adapter, NEW)
  assert changed.tokens != answers.tokens
  without = answer_questions(model, context, prompts, None, NEW)
  assert (without.tokens == answers.tokens) == (not adapted)


def test_prompts_that_fill_their_row(model):
  """New tokens take slots of their own, not those of the last prompts."""
  random = np.random.default_rng(5)
  context = make_context(random, 'vectors', CONTEXT)
  prompts = [random.integers(1, 128, 32).tolist() for _ in range(4)]
  answers = answer_questions(model, context, prompts, None, NEW, ())
  expected = [
    lloco.generate(
      model, prompt, context.values, None, NEW, stop_tokens=()
    ).tolist()
    for prompt in prompts
  ]
  assert answers.tokens == expected


def test_no_context(model):
  prompts = make_prompts(np.random.default_rng(1), 5)[::2]
  context = Context(np.zeros(0, np.int32))
  answers = answer_questions(model, context, prompts, max_new_tokens=NEW)
  empty = Context(np.zeros((0, WIDTH), np.float32))
  assert answers.tokens == one_by_one(model, empty, prompts, None)


def test_more_questions_than_a_row_holds(model, monkeypatch):
  random = np.random.default_rng(2)
  context = make_context(random, 'vectors', CONTEXT)
  prompts = make_prompts(random, 7)
  together = answer_questions(model, context, prompts, max_new_tokens=NEW)
  monkeypatch.setattr(answering, 'QUESTION_BUCKETS', (2, 4))
  apart = answer_questions(model, context, prompts, max_new_tokens=NEW)
  assert apart.tokens == together.tokens
  assert len(apart.tokens) == 7
  (fewer,) = answer_all(
    model,
    [Asked(context, prompts)],
    max_new_tokens=NEW,
    questions_per_row=3,
  )
  assert fewer.tokens == together.tokens


@pytest.mark.parametrize('kind', ['text', 'vectors'])
def test_rows_that_run_together(model, kind):
  """Contexts and counts of their own; the last rows do not fill a batch."""
  random = np.random.default_rng(6)
  asked = [
    Asked(make_context(random, kind, length), make_prompts(random, count))
    for length, count in ((CONTEXT, 2), (3, 1), (CONTEXT, 4), (3, 1), (3, 2))
  ]
  adapter = tiny_adapter()
  answers = answer_all(model, asked, adapter, NEW, rows_at_a_time=3)
  assert [each.tokens for each in answers] == [
    one_by_one(model, each.context, each.prompts, adapter) for each in asked
  ]
  with pytest.raises(ValueError, match='rows_at_a_time is 0'):
    answer_all(model, asked, rows_at_a_time=0)


def test_stop_tokens_end_answers(model):
  random = np.random.default_rng(3)
  context = make_context(random, 'text', CONTEXT)
  prompts = make_prompts(random, 5)
  free = answer_questions(model, context, prompts, None, NEW, ()).tokens
  assert all(len(tokens) == NEW for tokens in free)
  stop = free[0][2]
  stopped = answer_questions(model, context, prompts, None, NEW, [stop]).tokens
  assert stopped == [until(tokens, (stop,)) for tokens in free]
  assert stopped[0] != free[0]


def test_sampled_answers_do_not_depend_on_what_is_asked_beside_them(model):
  random = np.random.default_rng(7)
  context = make_context(random, 'vectors', CONTEXT)
  prompts = make_prompts(random, 5)
  draws = [9, 2**32 - 1, 4, 0, 77]

  def sampled(prompts, draws, **settings):
    settings = {'temperature': 1.5, 'top_p': 0.95, 'seed': 3} | settings
    return answer_questions(
      model, context, prompts, None, NEW, (), 'x', Sampling(**settings), draws
    ).tokens

  together = sampled(prompts, draws)
  assert together == [
    sampled([prompt], [draw])[0] for prompt, draw in zip(prompts, draws)
  ]
  assert together == sampled(prompts[::-1], draws[::-1])[::-1]
  # Each of the settings counts, and so does what makes a choice its own.
  for other in ({'seed': 4}, {'temperature': 0.0}, {'top_p': 0.1}):
    assert sampled(prompts, draws, **other) != together
  same = sampled([prompts[0]] * 4, [1, 1, 2, 3])
  assert same[0] == same[1] and len(set(map(tuple, same))) == 3


def test_window(model):
  random = np.random.default_rng(4)
  context = make_context(random, 'vectors', 68)
  # Its row is padded to more slots than the window of 100.
  fits = answer_questions(model, context, [[5] * 26], max_new_tokens=NEW)
  assert fits.tokens == one_by_one(model, context, [[5] * 26], None)
  with pytest.raises(ValueError, match="document 'x'.*101.*has 100"):
    answer_questions(
      model, context, [[5] * 27], max_new_tokens=NEW, name="document 'x'"
    )


@pytest.mark.parametrize('prompts', [[], [[1], []]])
def test_empty_prompts(model, prompts):
  with pytest.raises(ValueError, match='empty'):
    answer_questions(model, Context(np.zeros(0, np.int32)), prompts)


def test_no_new_tokens(model):
  with pytest.raises(ValueError, match='max_new_tokens is 0'):
    answer_questions(
      model, Context(np.zeros(0, np.int32)), [[1]], max_new_tokens=0
    )


def test_buckets():
  sizes = [context_bucket(length, 3000) for length in range(3001)]
  assert sorted(set(sizes)) == [
    0, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3000,
  ]  # fmt: skip
  assert all(size >= length for length, size in enumerate(sizes))
  assert context_bucket(65, 65) == 65


def test_compilation_is_not_timed(model):
  """Nothing is compiled between a clock's start and its end."""
  random = np.random.default_rng(6)
  events = []
  clock = answering.time.perf_counter

  def tick():
    events.append('clock')
    return clock()

  def heard(event, _, **__):
    if event.endswith('backend_compile_duration'):
      events.append('compile')

  jax.monitoring.register_event_duration_secs_listener(heard)
  try:
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(answering.time, 'perf_counter', tick)
      # A number of new tokens that no other test asks for.
      context = make_context(random, 'vectors', 50)
      answers = answer_questions(model, context, [[3, 4]], max_new_tokens=3)
  finally:
    jax.monitoring.unregister_event_duration_listener(heard)
  assert events.count('compile') >= 2
  clocks = [index for index, event in enumerate(events) if event == 'clock']
  assert len(clocks) == 4
  assert clocks[1] == clocks[0] + 1 and clocks[3] == clocks[2] + 1
  assert 0 < answers.seconds_to_first_token < answers.seconds


@pytest.mark.parametrize(
  'text, expected',
  [
    (' oak door \nQuestion: and', 'oak door'),
    ('\n\n oak', 'oak'),
    (' \n ', ''),
    ('', ''),
  ],
)
def test_text_of_an_answer(text, expected):
  tokenizer = Characters()
  assert answer_text(tokenizer, tokenizer.encode(text)) == expected
  assert whole_text(tokenizer, tokenizer.encode(text)) == text
