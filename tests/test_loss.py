"""The loss of answers, against one computed from whole logits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import CONFIG, relative_error

import lloco_jax as lloco
from lloco_jax.data.batches import IGNORED, pack
from lloco_jax.finetuning.loss import cross_entropy, packed_loss

TIED = dataclasses.replace(CONFIG, tie_word_embeddings=True)
packed = jax.jit(packed_loss, static_argnums=1)


def rows():
  targets = tiny.ids(1, 13)
  targets[[0, 4, 12]] = IGNORED
  return tiny.normal(0, 13, CONFIG.hidden_size), targets


def plain(params, hidden, targets):
  """From whole logits: log-softmax, then a sum over what counts."""
  if 'lm_head' in params:
    scores = hidden @ params['lm_head']['kernel']
  else:
    scores = hidden @ params['embed_tokens']['embedding'].T
  log = jax.nn.log_softmax(scores)
  counted = np.flatnonzero(targets != IGNORED)
  return -jnp.sum(log[counted, targets[counted]])


@pytest.mark.parametrize('config', [CONFIG, TIED])
@pytest.mark.parametrize('chunk', [1024, 5])
def test_cross_entropy_and_its_gradients(config, chunk):
  hidden, targets = rows()
  whole = tiny.model(config).params
  name = 'embed_tokens' if config.tie_word_embeddings else 'lm_head'
  params = {name: whole[name]}
  expected = jax.jit(
    jax.value_and_grad(lambda *args: plain(*args, targets), argnums=(0, 1))
  )(params, hidden)
  (total, count), gradients = jax.jit(
    jax.value_and_grad(
      lambda params, hidden: cross_entropy(
        params, config, hidden, targets, chunk
      ),
      argnums=(0, 1),
      has_aux=True,
    )
  )(params, hidden)
  assert count == 10
  assert relative_error(total, expected[0]) < 1e-5
  for actual, wanted in zip(
    jax.tree.leaves(gradients), jax.tree.leaves(expected[1])
  ):
    assert relative_error(actual, wanted) < 1e-4


def test_whole_logits_never_exist():
  """Neither forward nor kept for the gradient."""
  hidden, targets = (x[:11] for x in rows())
  params = tiny.model().params

  def loss(hidden, chunk):
    return cross_entropy(params, CONFIG, hidden, targets, chunk)[0]

  shapes = [f'[{rows},{CONFIG.vocab_size}]' for rows in ('11', '12', '3,4')]
  program = str(jax.make_jaxpr(jax.grad(loss), static_argnums=1)(hidden, 4))
  assert not [shape for shape in shapes if shape in program]
  program = str(jax.make_jaxpr(jax.grad(loss), static_argnums=1)(hidden, 11))
  assert shapes[0] in program


def test_nothing_counted_is_zero():
  hidden, targets = rows()
  total, count = cross_entropy(
    tiny.model().params, CONFIG, hidden, np.full_like(targets, IGNORED)
  )
  assert total == 0 and count == 0


def test_sums_are_float32_in_bfloat16():
  hidden, targets = rows()
  low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny.model().params)
  total, _ = cross_entropy(low, CONFIG, hidden.astype(jnp.bfloat16), targets)
  assert total.dtype == jnp.float32
  expected = plain(tiny.model().params, hidden, targets)
  assert relative_error(total, expected) < 0.02


def questions():
  """Two contexts with two questions and one; their lengths all differ."""
  first = [(tiny.ids(2, 5), tiny.ids(3, 3)), (tiny.ids(4, 3), tiny.ids(5, 1))]
  second = [(tiny.ids(6, 6), tiny.ids(7, 4))]
  return [[(list(p), list(a)) for p, a in row] for row in (first, second)]


def test_packed_rows_equal_one_row_a_question():
  """In loss and in the adapter's gradient, behind padded contexts."""
  context = 3 * tiny.normal(8, 2, 6, CONFIG.hidden_size)
  lengths = [6, 4]
  batch = pack(questions(), width_multiple=16, targets_multiple=8)
  adapter = tiny.adapter(1)

  @jax.jit
  @jax.value_and_grad
  def one_a_row(adapter):
    total = 0
    for row, asked in enumerate(questions()):
      for prompt, answer in asked:
        padding = [IGNORED] * (11 - len(prompt) - len(answer))
        ids = np.array(prompt + answer + [0] * len(padding))
        labels = np.array([IGNORED] * len(prompt) + answer + padding)
        mean = lloco.loss(
          tiny.model(), ids, labels, context[row, : lengths[row]], adapter
        )
        total += mean * len(answer)
    return total

  def together(adapter):
    return packed_loss(
      tiny.model().params, CONFIG, batch, context, np.array(lengths), adapter
    )

  expected = one_a_row(adapter)
  (total, count), gradient = jax.jit(
    jax.value_and_grad(together, has_aux=True)
  )(adapter)
  assert count == 8
  assert relative_error(total, expected[0]) < 1e-5
  for actual, wanted in zip(
    jax.tree.leaves(gradient), jax.tree.leaves(expected[1])
  ):
    assert relative_error(actual, wanted) < 1e-4


def test_padding_of_the_batch_has_no_influence():
  context = tiny.normal(8, 2, 4, CONFIG.hidden_size)
  totals = []
  for width, targets in ((16, 8), (24, 12)):
    batch = pack(questions(), width, targets)
    full = jnp.full(2, 4)
    totals.append(packed(tiny.model().params, CONFIG, batch, context, full))
  assert totals[0][1] == totals[1][1] == 8
  assert relative_error(totals[0][0], totals[1][0]) < 1e-5


def test_the_public_loss_counts_the_labels_that_count():
  """Without a context the first token is not predicted; with one it is."""
  model, ids = tiny.model(), tiny.ids(9, 2, 7)
  labels = ids.copy()
  labels[0, :3] = labels[1, 5] = IGNORED
  for size in (0, 3):
    context = tiny.normal(10, 2, size, CONFIG.hidden_size)
    log = jax.nn.log_softmax(lloco.forward(model, ids, context))
    wanted = [
      -log[row, t - 1, labels[row, t]]
      for row, t in np.ndindex(2, 7)
      if t > 0 and labels[row, t] != IGNORED
    ]
    if size:
      wanted.append(first_token(model, context[1], labels[1, 0]))
    actual = lloco.loss(model, ids, labels, context)
    assert relative_error(actual, np.mean(wanted)) < 1e-5
    alone = lloco.loss(model, ids[1], labels[1], context[1])
    beside = np.where(np.arange(2)[:, None] == 1, labels, IGNORED)
    both = lloco.loss(model, ids, beside, context)
    assert relative_error(alone, both) < 1e-5


def first_token(model, context, token):
  """Loss of a token right behind the context: one is put before it whose
  embedding is the last vector of the context."""
  table = model.params['embed_tokens']['embedding'].at[0].set(context[-1])
  params = {**model.params, 'embed_tokens': {'embedding': table}}
  behind = lloco.forward(
    dataclasses.replace(model, params=params), np.array([0]), context[:-1]
  )
  return -jax.nn.log_softmax(behind[-1])[token]
