"""Distillation from the base that reads the text itself."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from tiny import CONFIG, relative_error

import lloco_jax as lloco
from lloco_jax.finetuning.compressor import Compressor, compressor_loss
from lloco_jax.finetuning.distillation import divergence, states_of_whole_text
from lloco_jax.nn.llama import logits

K = CONFIG.summary_length
LENGTHS = np.array([[6, 4, 5], [5, 6, 0]])
SEGMENTS = np.where(np.arange(6) < LENGTHS[..., None], tiny.ids(0, 2, 3, 6), 0)


def whole_texts():
  """The rows as texts without padding."""
  return [
    np.concatenate([row[i, :n] for i, n in enumerate(lengths)])
    for row, lengths in zip(SEGMENTS, LENGTHS)
  ]


def test_the_teacher_reads_the_text_as_if_it_were_not_cut():
  model = tiny.model()
  states = states_of_whole_text(model.params, CONFIG, SEGMENTS, LENGTHS)
  for row, (text, lengths) in enumerate(zip(whole_texts(), LENGTHS)):
    expected = lloco.forward(model, text)
    found = [states[row, i, :n] for i, n in enumerate(lengths)]
    actual = logits(model.params, CONFIG, jnp.concatenate(found))
    assert relative_error(actual, expected) < 1e-5


def test_divergence_is_that_of_whole_distributions():
  model = tiny.model()
  student, teacher = (tiny.normal(seed, 5, 16) for seed in (1, 2))
  counted = np.array([True, False, True, True, False])
  expected = 0.0
  for place in np.flatnonzero(counted):
    q, p = (
      np.asarray(jax.nn.softmax(logits(model.params, CONFIG, x[place])), 'f8')
      for x in (student, teacher)
    )
    expected += np.sum(p * np.log(p / q))
  for chunk in (2, 1024):
    total, count = divergence(
      model.params, CONFIG, student, teacher, counted, chunk
    )
    assert count == 3
    np.testing.assert_allclose(total, expected, rtol=1e-4)
  same, _ = divergence(model.params, CONFIG, teacher, teacher, counted)
  assert abs(same) < 1e-5


def test_the_student_is_taught_what_vectors_should_say():
  """A lone segment has nothing compressed before it, so that an adapter of
  zeros says what the teacher says; behind vectors it does not, and the loss
  reaches the summary tokens that wrote them."""
  model = tiny.model()
  adapter = jax.tree.map(jnp.zeros_like, tiny.adapter(1))
  compressor = Compressor(adapter, tiny.normal(6, K, 16))

  def loss(compressor, params, count):
    batch = {'segments': SEGMENTS[:, :count], 'lengths': LENGTHS[:, :count]}
    return compressor_loss(
      compressor, params, CONFIG, batch, distillation=1.0, language=0.0
    )

  loss = jax.jit(loss, static_argnums=2)
  alone, number = loss(compressor, model.params, 1)
  assert abs(alone) < 1e-4 and number == np.sum(LENGTHS[:, 0])
  gradients = jax.jit(jax.grad(lambda c: loss(c, model.params, 2)[0]))
  (apart, number) = loss(compressor, model.params, 2)
  assert apart > 1e-2 and number == np.sum(LENGTHS[:, :2])
  assert np.abs(gradients(compressor).embed_summary).max() > 1e-6
