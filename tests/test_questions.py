"""Finetuning on questions: rows, their order, losses and programs."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_loop import record_steps
import tiny
from tiny import relative_error
from tiny_model import WIDTH, Characters, tiny_adapter, tiny_model

import lloco_jax as lloco
from lloco_jax.data.batches import IGNORED
from lloco_jax.data.contexts import (
  Context,
  ContextKind,
  Contexts,
  context_bucket,
)
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import Example
from lloco_jax.data.prompts import Prompt, encode_example
from lloco_jax.finetuning.loop import TrainingConfig, train
from lloco_jax.finetuning.questions import (
  Row,
  check_questions,
  check_rows,
  positions,
  question_rows,
  question_task,
  row_batches,
)
from lloco_jax.nn.lora import LoraConfig, init_adapter
from lloco_jax.nn.visibility import UNSEEN

WINDOW = 512
SHORT = Prompt(question='{question}', answer='{answer}')


def example(name, question, answer, *document_ids):
  return Example(name, question, (answer,), document_ids)


EXAMPLES = [
  example('1', 'What is a?', 'mud', 'one'),
  example('2', 'What is b?', 'sand', 'two'),
  example('3', 'And c?', 'a log', 'one'),
  example('4', 'Which of them?', 'none', 'one', 'two'),
  example('5', 'What about d?', 'oak', 'one'),
]


def vectors(*lengths):
  """A context of summary vectors for each of the documents 0, 1, ..."""
  made = [
    Context(np.asarray(2 * tiny.normal(20 + index, length, WIDTH)))
    for index, length in enumerate(lengths)
  ]
  return lambda document_ids, reserve=0: made[int(document_ids[0])]


def rows_of(*counts):
  """A row for each of the documents 0, 1, ... with so many questions."""
  return [
    Row(
      (str(index),),
      [
        (tiny.ids(90 * index + n, 4).tolist(), tiny.ids(n, 3).tolist())
        for n in range(count)
      ],
      tuple(f'{index}-{n}' for n in range(count)),
    )
    for index, count in enumerate(counts)
  ]


def numbered(count):
  """Rows that their prompts tell apart."""
  return [Row((str(n),), [([n + 1], [1, 2])], ('1',)) for n in range(count)]


def drawn(batches, count):
  """The numbers of the rows of the first batches."""
  return [
    int(tokens[0]) - 1
    for batch in itertools.islice(iter(batches), count)
    for tokens in batch['tokens']
  ]


def test_examples_about_the_same_documents_share_rows():
  pairs = {x.id: encode_example(Characters(), SHORT, x) for x in EXAMPLES}
  rows = question_rows(EXAMPLES, Characters(), SHORT, questions_per_row=2)
  assert rows == [
    Row(('one',), [pairs['1'], pairs['3']], ('1', '3')),
    Row(('one',), [pairs['5']], ('5',)),
    Row(('two',), [pairs['2']], ('2',)),
    Row(('one', 'two'), [pairs['4']], ('4',)),
  ]
  single = question_rows(EXAMPLES, Characters(), SHORT, questions_per_row=1)
  assert [row.questions for row in single] == [
    [pairs[name]] for name in ('1', '3', '5', '2', '4')
  ]


@pytest.mark.parametrize('batch_rows', [1, 2])
def test_an_epoch_holds_every_row_once_and_the_next_another_order(batch_rows):
  batches = row_batches(numbered(8), vectors(*[2] * 8), batch_rows, 3, WINDOW)
  order = drawn(batches, 24 // batch_rows)
  epochs = [order[start : start + 8] for start in (0, 8, 16)]
  assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
  assert epochs[0] != epochs[1] != epochs[2]
  assert order == drawn(batches, 24 // batch_rows)
  other = row_batches(numbered(8), vectors(*[2] * 8), batch_rows, 4, WINDOW)
  assert order != drawn(other, 24 // batch_rows)


def test_batches_never_end_and_are_never_cut():
  """With fewer rows than a batch they come several times."""
  batches = row_batches(numbered(2), vectors(2, 2), 3, 0, WINDOW)
  order = drawn(batches, 40)
  assert order.count(0) == order.count(1) == 60


def test_batches_differ_in_their_contexts_alone():
  context_of = vectors(3, 65, 70, 100)
  batches = row_batches(rows_of(1, 3, 2, 4), context_of, 1, 0, WINDOW)
  shapes = set()
  for batch in itertools.islice(iter(batches), 4):
    shapes.add(batch.pop('context').shape)
    assert batch.pop('context_lengths').shape == (1,)
    assert {name: x.shape for name, x in batch.items()} == {
      'tokens': (1, 24),
      'offsets': (1, 24),
      'groups': (1, 24),
      'predicting': (1, 12),
      'targets': (1, 12),
    }
  assert shapes == {(1, 64, WIDTH), (1, 96, WIDTH), (1, 128, WIDTH)}


def test_a_batch_pads_to_its_longest_context():
  context_of = vectors(3, 65)
  (batch,) = itertools.islice(
    iter(row_batches(rows_of(1, 3), context_of, 2, 0, WINDOW)), 1
  )
  lengths = batch['context_lengths']
  assert sorted(lengths) == [3, 65]
  assert batch['context'].shape == (2, 96, WIDTH)
  for row, length in enumerate(lengths):
    name = '0' if length == 3 else '1'
    np.testing.assert_array_equal(
      batch['context'][row, :length], context_of((name,)).values
    )
    assert (batch['context'][row, length:] == 0).all()
    read = (batch['offsets'][row] != UNSEEN).sum()
    assert read == {3: 6, 65: 18}[length]
  assert positions(batch) == 2 * (18 + 96)


def test_a_text_leaves_room_for_the_longest_question_of_its_row():
  long = ([7] * 30, [8, 9])
  rows = [
    Row(('a',), [([1], [2, 3]), long], ('1', '2')),
    Row(('b',), [([1], [2, 3])], ('3',)),
    Row(('c',), [long], ('4',)),
  ]
  texts = {'a': 'x' * 90, 'b': 'y' * 90, 'c': 'z' * 10}
  contexts = Contexts(
    [Document(key, text) for key, text in texts.items()], Characters(), {}, 80
  )

  def context_of(document_ids, reserve):
    return contexts.of(ContextKind.WINDOW, document_ids, reserve)

  lengths = {}
  for batch in itertools.islice(
    iter(row_batches(rows, context_of, 1, 0, 80)), 3
  ):
    (length,) = batch['context_lengths']
    lengths[chr(batch['context_ids'][0, 0])] = length
    # The last position that is read is the window's last or before.
    offsets = batch['offsets'][batch['offsets'] != UNSEEN]
    assert length + offsets.max() < 80
  assert lengths == {'x': 80 - 32, 'y': 80 - 3, 'z': 10}


def losses(rows, context_of, batch_rows=1, count=None, **changes):
  """Sums and token counts of the batches of one epoch."""
  adapter = dataclasses.replace(tiny_adapter(1), **changes)
  batches = row_batches(rows, context_of, batch_rows, 0, WINDOW)
  task = question_task(tiny_model(), adapter, batches)
  loss = jax.jit(task.loss)
  found = [
    loss(adapter, task.frozen, batch, jax.random.key(0))
    for batch in itertools.islice(iter(batches), count or len(rows))
  ]
  return [(float(total), float(weight)) for total, weight in found]


def test_questions_of_a_row_count_as_if_each_had_its_own():
  """Against the public loss of one question behind an unpadded context."""
  context_of, rows = vectors(5, 9), rows_of(3, 2)
  single = [
    Row(row.document_ids, [question], ('1',))
    for row in rows
    for question in row.questions
  ]
  together = losses(rows, context_of)
  apart = losses(single, context_of)
  assert [weight for _, weight in apart] == [3] * 5
  assert sum(weight for _, weight in together) == 15
  total = sum(loss for loss, _ in together)
  assert relative_error(total, sum(loss for loss, _ in apart)) < 1e-5
  expected = 0
  for row in rows:
    values = context_of(row.document_ids).values
    prompts, answers = map(np.array, zip(*row.questions))
    labels = np.concatenate([np.full_like(prompts, IGNORED), answers], axis=1)
    ids = np.concatenate([prompts, answers], axis=1)
    context = np.broadcast_to(values, (len(ids), *values.shape))
    mean = lloco.loss(tiny_model(), ids, labels, context, tiny_adapter(1))
    expected += mean * answers.size
  assert relative_error(total, expected) < 1e-5
  batched = losses(rows, context_of, batch_rows=2, count=1)
  assert batched[0][1] == 15
  assert relative_error(batched[0][0], total) < 1e-5


def test_a_text_is_read_as_its_embeddings():
  table = np.asarray(tiny_model().params['embed_tokens']['embedding'])
  texts = {'0': tiny.ids(1, 7), '1': tiny.ids(2, 3)}
  rows = rows_of(2, 1)
  as_text = losses(rows, lambda name, _: Context(texts[name[0]]))
  as_vectors = losses(rows, lambda name, _: Context(table[texts[name[0]]]))
  nothing = losses(rows, lambda name, _: Context(np.zeros(0, np.int32)))
  assert as_text == as_vectors
  assert as_text != nothing


def test_dropout_is_the_adapters():
  adapter = tiny_adapter(1)
  batches = row_batches(rows_of(2), vectors(5), 1, 0, WINDOW)
  batch = next(iter(batches))
  found = {}
  for dropout in (0.0, 0.5):
    dropped = dataclasses.replace(adapter, dropout=dropout)
    task = question_task(tiny_model(), dropped, batches)
    loss = jax.jit(task.loss)
    found[dropout] = [
      float(loss(dropped, task.frozen, batch, jax.random.key(seed))[0])
      for seed in (0, 1, 1)
    ]
  assert len(set(found[0.0])) == 1
  one, two, again = found[0.5]
  assert one != two == again
  assert found[0.0][0] not in (one, two)


def test_an_epoch_compiles_as_many_programs_as_buckets(tmp_path, monkeypatch):
  """Of documents of random lengths, and one update."""
  made = record_steps(monkeypatch)
  lengths = np.random.default_rng(0).integers(1, 96, 12).tolist()
  buckets = {context_bucket(length, WINDOW) for length in lengths}
  assert len(buckets) == 2 and len(set(lengths)) > 6
  model, lora = tiny_model(), LoraConfig(rank=2, dropout=0.1)
  task = question_task(
    model,
    init_adapter(model.config, lora, jax.random.key(0)),
    row_batches(
      rows_of(*np.random.default_rng(1).integers(1, 5, 12)),
      vectors(*lengths),
      1,
      0,
      WINDOW,
    ),
    remat='none',
  )
  config = TrainingConfig(
    steps=12, checkpoint_every=6, log_every=0, tensorboard=False
  )
  trained = train(task, config, tmp_path)
  ((accumulate, update),) = made
  assert accumulate._cache_size() == len(buckets)
  assert update._cache_size() == 1
  changed = jax.tree.map(
    lambda a, b: bool(jnp.any(a != b)), trained, task.trainable
  )
  assert all(jax.tree.leaves(changed))


@pytest.mark.parametrize('pair', [([61], [2]), ([1], [2, 61])])
def test_token_ids_outside_the_vocabulary_are_refused(pair):
  row = Row(('0',), [([1], [2]), pair], ('known', 'strange'))
  with pytest.raises(ValueError, match="'strange' has the token id 61, out"):
    check_questions([row], tiny.CONFIG, 7)


def test_rows_that_exceed_the_window_are_refused():
  """A question by itself too; what fits exactly is not."""
  rows, counts = rows_of(2, 1), {'0': 9, '1': 30}
  check_questions(rows, tiny.CONFIG, 7)
  check_rows(rows, counts, 37)
  # As it is asked: prompts of 4 tokens, to which answers of 3 are known.
  asked = [row.to_answer(5) for row in rows]
  with pytest.raises(ValueError, match=r"'1-0' \(9\) exceed the window of 38"):
    check_rows(asked, counts, 38)
  with pytest.raises(ValueError, match='no training examples'):
    check_questions([], tiny.CONFIG, 7)
  with pytest.raises(ValueError, match="example '0-0' takes 7 .* of 6"):
    check_questions(rows, tiny.CONFIG, 6)
  row = Row(('2',), [([1], [2]), ([1, 1], [2, 3])], ('short', 'long'))
  with pytest.raises(ValueError, match="example 'long' takes 4 .* of 3"):
    check_questions([row], tiny.CONFIG, 3)
  with pytest.raises(
    ValueError, match=r"of 1 \(30 positions\) .*'1-0' .* of 36"
  ):
    check_rows(rows, counts, 36)


def answer_scores(params, context, prompt, answer, adapter=None):
  """Log-probabilities [A, V] where each token of an answer is predicted."""
  model = dataclasses.replace(tiny_model(), params=params)
  ids = np.array([[*prompt, *answer]])
  scores = lloco.forward(model, ids, context[None], adapter)[0]
  places = slice(len(prompt) - 1, len(prompt) + len(answer) - 1)
  return np.asarray(jax.nn.log_softmax(scores[places]), 'f8')


def test_a_teacher_that_reads_the_text_is_matched():
  """Against divergences of one question at a time, whole and unpadded."""
  model, adapter = tiny_model(), tiny_adapter(1)
  # Another base, whose head and embeddings are the same.
  taught_by = jax.tree.map(lambda leaf: leaf, model.params)
  taught_by['layers'] = jax.tree.map(
    lambda leaf: 0.5 * leaf, model.params['layers']
  )
  teacher = dataclasses.replace(model, params=taught_by)
  texts = {'0': tiny.ids(1, 7), '1': tiny.ids(2, 70)}
  context_of, rows = vectors(5, 9), rows_of(2, 1)
  table = np.asarray(model.params['embed_tokens']['embedding'])
  expected, said = 0.0, 0.0
  for row in rows:
    [name] = row.document_ids
    for prompt, answer in row.questions:
      ours = answer_scores(
        model.params, context_of((name,)).values, prompt, answer, adapter
      )
      theirs = answer_scores(taught_by, table[texts[name]], prompt, answer)
      expected += np.sum(np.exp(theirs) * (theirs - ours))
      said -= ours[np.arange(len(answer)), answer].sum()
  batches = row_batches(
    rows,
    context_of,
    2,
    0,
    WINDOW,
    text_of=lambda names, _: Context(texts[names[0]]),
  )
  batch = next(iter(batches))
  assert sorted(batch['text_lengths']) == [7, 70]
  for weight in (1.0, 0.25):
    task = question_task(
      model, adapter, batches, teacher=teacher, distillation=weight
    )
    total, count = jax.jit(task.loss)(adapter, task.frozen, batch, None)
    assert count == 9
    wanted = weight * expected + (1 - weight) * said
    assert relative_error(total, wanted) < 1e-5
