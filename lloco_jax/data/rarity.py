"""How rare tokens are, for a loss in which rare ones count more."""

from collections.abc import Iterable, Sequence

import numpy as np


def token_rarity(
  texts: Iterable[Sequence[int]], vocab_size: int, power: float
) -> np.ndarray:
  """Weight [V] of each token: its information in the texts, to a power.

  The information of a token is the negative log of its share of the tokens,
  each counted once more than it occurs, in nats; float32.
  """
  counts = np.ones(vocab_size)
  for ids in texts:
    counts += np.bincount(np.asarray(ids), minlength=vocab_size)
  return ((-np.log(counts / counts.sum())) ** power).astype(np.float32)
