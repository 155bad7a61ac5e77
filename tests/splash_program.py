"""Splash attention, interpreted, on a mesh of eight fake devices.

Prints the largest difference from 'xla' on one device, relative to the
largest value, of the output and the gradients. A process of its own, because
the devices are counted as JAX starts.
"""

import functools

import jax

jax.config.update('jax_num_cpu_devices', 8)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from tiny import normal, relative_error  # noqa: E402

from lloco_jax import sharding  # noqa: E402
from lloco_jax.nn import attention as attentions  # noqa: E402
from lloco_jax.nn import splash  # noqa: E402

B, T, S, N, K, H = 2, 141, 203, 4, 2, 16


def main():
  """Two rows; four heads over four devices, of which two share a key's."""
  splash.BLOCK = 128
  splash.splash_attention = functools.partial(
    splash.splash_attention, interpret=True
  )
  attentions.query_block = lambda keys: 32
  shapes = (B, T, N, H), (B, S, K, H), (B, S, K, H)
  arrays = [normal(i, *shape) for i, shape in enumerate(shapes)]
  slots = np.broadcast_to(np.arange(S, dtype=np.int32), (B, S))
  unseen = (slots > 20) & (slots < 30 + 9 * np.arange(B)[:, None])
  positions = slots[:, S - T :], np.where(unseen, attentions.UNSEEN, slots)

  def loss(arrays):
    output = attentions.attention(*arrays, *positions)
    return jnp.sum(output**3), output

  run = jax.grad(loss, has_aux=True)
  expected = jax.jit(run)(arrays)
  axes = sharding.AXES | {'data': 2, 'tensor': 4}
  with sharding.use(sharding.make_placement(axes)):
    with attentions.use_backend('splash'):
      lowered = jax.jit(run).lower(arrays)
      assert 'manual' in lowered.as_text()
      actual = lowered.compile()(arrays)
  leaves = zip(*map(jax.tree.leaves, (actual, expected)))
  print(max(relative_error(*pair) for pair in leaves))


if __name__ == '__main__':
  main()
