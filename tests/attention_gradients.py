"""What back ends of attention are compared by, without padding."""

import jax
import jax.numpy as jnp
from tiny import normal

from lloco_jax.nn.attention import attention
from lloco_jax.nn.visibility import UNSEEN

B, N, K = 2, 4, 2


def arrays(t, s, size):
  """Queries [B, t, N, size], and keys and values [B, s, K, size]."""
  shapes = (B, t, N, size), (B, s, K, size), (B, s, K, size)
  return [normal(i, *shape) for i, shape in enumerate(shapes)]


def gradients(positions, shared=None):
  """A function of `arrays` that gives their gradients, and the output."""
  t, s = (x.shape[1] for x in positions[:2])
  real = (positions[1][:, s - t :] != UNSEEN)[..., None, None]

  def loss(arrays):
    output = jnp.where(real, attention(*arrays, *positions, shared=shared), 0)
    return jnp.sum(output**3), output

  return jax.grad(loss, has_aux=True)
