"""What the cuDNN back end asks for, computed without cuDNN, against 'xla'."""

import functools
import types

from attention_gradients import B, arrays, gradients
import jax
import numpy as np
import pytest
from tiny import relative_error

from lloco_jax.nn import attention as attentions
from lloco_jax.nn import cudnn
from lloco_jax.nn.attention import attention
from lloco_jax.nn.visibility import SHARED, UNSEEN

SIZE = 8


@pytest.fixture(autouse=True)
def without_cudnn(monkeypatch):
  """The same calls by JAX's own code, in float32, for however few scores."""
  for name in ('causal_attention', 'masked_attention'):
    run = functools.partial(getattr(cudnn, name), implementation='xla')
    monkeypatch.setattr(cudnn, name, run)
  monkeypatch.setattr(cudnn, 'can', lambda query: True)
  monkeypatch.setattr(attentions, 'query_block', lambda keys: 4)


def cases():
  """Positions, groups and `shared`: a context and one question; a prefix and
  a segment; two questions; all with padding, at odd lengths."""
  columns = np.arange(19)
  slots = np.broadcast_to(columns, (B, 19))
  context = np.array([[7], [4]])
  padded = (slots < 7) & (slots >= context) | (slots >= 17)
  places = np.where(slots < 7, slots, slots - 7 + context)
  question = (places, np.where(padded, UNSEEN, places))
  lengths = np.array([[9], [12]])
  segment = (slots[:, 6:], np.where(slots - 6 < lengths, slots, UNSEEN))
  groups = np.broadcast_to(
    np.where(columns < 7, SHARED, np.where(columns < 11, 1, 2)), (B, 19)
  )
  return {
    'question': (question, None),
    'prefix': (segment, None),
    'questions': ((*question, groups, groups), 7),
  }


@pytest.mark.parametrize('case', cases())
def test_equals_xla(case):
  positions, shared = cases()[case]
  t, s = (x.shape[1] for x in positions[:2])
  run = gradients(positions, shared)
  results = []
  for name in ('xla', 'cudnn'):
    with attentions.use_backend(name):
      results.append(jax.jit(run)(arrays(t, s, SIZE)))
  for actual, expected in zip(*map(jax.tree.leaves, results)):
    assert relative_error(actual, expected) < 1e-5


@pytest.mark.parametrize(
  ('capability', 'expected'),
  # A T4, an H100, AMD's name of one, and a device that says nothing.
  [('7.5', 'xla'), ('9.0', 'cudnn'), ('gfx90a', 'xla'), (None, 'xla')],
)
def test_it_is_left_to_xla_where_cudnn_cannot(
  monkeypatch, capability, expected
):
  device = types.SimpleNamespace()
  if capability:
    device.compute_capability = capability
  monkeypatch.setattr(jax, 'devices', lambda: [device])
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert attentions.backend() == expected


def test_a_mask_is_asked_for_only_where_lengths_do_not_do(monkeypatch):
  """It is as large as the scores of a head."""
  asked = []
  for name in ('causal_attention', 'masked_attention'):
    run = getattr(cudnn, name)

    def noted(*arguments, run=run, name=name):
      asked.append(name)
      return run(*arguments)

    monkeypatch.setattr(cudnn, name, noted)
  for positions, shared in cases().values():
    t, s = (x.shape[1] for x in positions[:2])
    with attentions.use_backend('cudnn'):
      attention(*arrays(t, s, SIZE), *positions, shared=shared)
  assert asked == ['causal_attention', 'masked_attention', 'masked_attention']
