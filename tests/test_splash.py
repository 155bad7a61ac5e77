"""The splash back end, interpreted, against 'xla'."""

import functools
import os
import pathlib
import subprocess
import sys

from attention_gradients import B, arrays, gradients
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import relative_error

from lloco_jax.nn import attention as attentions
from lloco_jax.nn import splash
from lloco_jax.nn.attention import attention
from lloco_jax.nn.visibility import SHARED, UNSEEN

SIZE = 16


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
  """Kernels on a CPU, for however few scores, in blocks of 128."""
  run = functools.partial(splash.splash_attention, interpret=True)
  monkeypatch.setattr(splash, 'splash_attention', run)
  monkeypatch.setattr(splash, 'BLOCK', 128)
  monkeypatch.setattr(attentions, 'query_block', lambda keys: 32)


def compared(t, s, positions, shared=None):
  """Outputs and gradients of both back ends where there is no padding."""
  run = gradients(positions, shared)
  results = []
  for name in ('xla', 'splash'):
    with attentions.use_backend(name):
      text = str(jax.make_jaxpr(run)(arrays(t, s, SIZE)))
      assert ('splash' in text) == (name == 'splash')
      results.append(jax.jit(run)(arrays(t, s, SIZE)))
  return zip(*map(jax.tree.leaves, results))


def test_a_kept_prefix_and_padding():
  """As compression has them: slots of the prefix that are not filled, and
  padding between a segment and its summary tokens."""
  t, s = 141, 203
  prefix, width, count = s - t, 130, t - 130
  filled, lengths = 40, np.array([[130], [77]])
  column = np.arange(width)
  segment = np.broadcast_to(filled + column, (B, width))
  summary = filled + lengths + np.arange(count)
  slots = np.where(np.arange(prefix) < filled, np.arange(prefix), UNSEEN)
  query = np.concatenate([segment, summary], axis=1)
  key = np.concatenate(
    [
      np.broadcast_to(slots, (B, prefix)),
      np.where(column < lengths, segment, UNSEEN),
      summary,
    ],
    axis=1,
  )
  for actual, expected in compared(t, s, (query, key)):
    assert relative_error(actual, expected) < 1e-4


@pytest.mark.parametrize('shared', [0, 67])
def test_groups_behind_a_context(shared):
  """Several questions a row, padding behind the context and in each."""
  widths = (50, 13, 61)
  t = shared + sum(widths)
  contexts = np.array([[shared], [shared // 2]])
  slots = np.broadcast_to(np.arange(shared), (B, shared))
  query, key = [slots], [np.where(slots < contexts, slots, UNSEEN)]
  groups = [np.full((B, shared), SHARED)]
  for number, width in enumerate(widths, 1):
    own = contexts + np.arange(width)
    query.append(own)
    key.append(np.where(np.arange(width) < width - 4, own, UNSEEN))
    groups.append(np.full((B, width), number))
  query, key, groups = (
    np.concatenate(parts, axis=1).astype(np.int32)
    for parts in (query, key, groups)
  )
  positions = (query, key, groups, groups)
  for actual, expected in compared(t, t, positions, shared):
    assert relative_error(actual, expected) < 1e-4


def test_what_it_cannot_say_goes_to_xla():
  """Groups of unknown order, and what its kernels have no shape for."""
  t, s = 64, 70
  queries = np.broadcast_to(np.arange(s - t, s), (B, t)).astype(np.int32)
  keys = np.broadcast_to(np.arange(s), (B, s)).astype(np.int32)
  groups = np.ones((B, s), np.int32)

  def uses_kernel(positions, **options):
    with attentions.use_backend('splash'):
      run = functools.partial(attention, **options)
      return 'splash' in str(
        jax.make_jaxpr(run)(*arrays(t, s, SIZE), *positions)
      )

  grouped = (queries, keys, groups[:, :t], groups)
  assert uses_kernel((queries, keys))
  assert uses_kernel(grouped, shared=0)
  assert not uses_kernel(grouped)
  assert not splash.can(jnp.zeros((1, 8, 1, 8), jnp.float16), 8, False)
  many = splash.MOST_KEYS
  assert not splash.can(jnp.zeros((1, 8, 1, 8)), many, True)
  assert splash.can(jnp.zeros((1, 8, 1, 8)), many, False)


def test_padding_alone_is_finite():
  t = 40
  keys = np.full((B, t), UNSEEN)
  with attentions.use_backend('splash'):
    output = attention(*arrays(t, t, SIZE), np.zeros((B, t), np.int32), keys)
  assert np.isfinite(output).all()


@pytest.mark.slow
def test_each_device_has_its_rows_and_heads():
  result = subprocess.run(
    [sys.executable, pathlib.Path(__file__).with_name('splash_program.py')],
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  assert float(result.stdout) < 1e-4


def test_an_unknown_back_end_is_named():
  with pytest.raises(ValueError, match="'flash' is unknown; choose from xla"):
    attentions.use_backend('flash')


def test_long_rows_are_padded_to_lanes():
  """Short ones would become several times as long."""
  sizes = (100, 128, 141, 256)
  with attentions.use_backend('splash'):
    assert [attentions.row_padding(size) for size in sizes] == [0, 0, 115, 0]
  with attentions.use_backend('xla'):
    assert not any(map(attentions.row_padding, sizes))
