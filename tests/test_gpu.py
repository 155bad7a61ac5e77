"""Attention by cuDNN against 'xla' in float32, on a GPU.

JAX_PLATFORMS=cuda python -m pytest tests/test_gpu.py
"""

from attention_gradients import B, arrays, gradients
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import relative_error

from lloco_jax.nn import attention as attentions
from lloco_jax.nn import cudnn
from lloco_jax.nn.visibility import SHARED, UNSEEN

pytestmark = pytest.mark.skipif(
  jax.default_backend() != 'gpu', reason='needs an NVIDIA GPU'
)
# bfloat16 keeps 8 bits: 0.4% a rounding.
TOLERANCE = 2e-2
CONTEXT = 70


def cases():
  """Positions, groups and `shared`, with padding, at odd lengths."""
  width = 389
  slots = np.broadcast_to(np.arange(width), (B, width))
  context = np.array([[CONTEXT], [41]])
  padded = (slots < CONTEXT) & (slots >= context) | (slots >= 380)
  places = np.where(slots < CONTEXT, slots, slots - CONTEXT + context)
  question = (places, np.where(padded, UNSEEN, places))
  lengths = np.array([[251], [300]])
  segment = (
    slots[:, CONTEXT:],
    np.where(slots - CONTEXT < lengths, slots, UNSEEN),
  )
  groups = np.select([slots < CONTEXT, slots < 201], [SHARED, 1], 2)
  return {
    'no padding': ((slots, slots), None),
    'question': (question, None),
    'prefix': (segment, None),
    'questions': ((*question, groups, groups), CONTEXT),
  }


@pytest.mark.parametrize('size', [64, 128])
@pytest.mark.parametrize('case', cases())
def test_cudnn_equals_xla(case, size):
  positions, shared = cases()[case]
  t, s = (x.shape[1] for x in positions[:2])
  half = [x.astype(jnp.bfloat16) for x in arrays(t, s, size)]
  assert cudnn.can(half[0])
  run = gradients(positions, shared)
  with attentions.use_backend('cudnn'):
    compiled = jax.jit(run).lower(half).compile()
  assert 'cudnn' in compiled.as_text()
  with attentions.use_backend('xla'):
    expected = jax.jit(run)([x.astype(jnp.float32) for x in half])
  for actual, wanted in zip(*map(jax.tree.leaves, (compiled(half), expected))):
    assert relative_error(actual.astype(jnp.float32), wanted) < TOLERANCE
