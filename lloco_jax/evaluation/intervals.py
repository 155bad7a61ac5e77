"""Means and paired differences with intervals bootstrapped over documents.

Questions about one document share its luck: the interval resamples whole
documents (the cluster bootstrap), so many questions about few documents do
not look like much evidence.
"""

from collections.abc import Hashable, Sequence
import dataclasses
import math

import numpy as np

# Cluster draws held at once: bounds the memory at about 32 MB.
_DRAWS_PER_BLOCK = 1_000_000


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean of `count` values from `clusters` documents, and its interval.

  `low` and `high` are NaN where one document gives nothing to resample, and
  `mean` too where there is no value at all. Every comparison with NaN is
  false, so an unknown interval never supports a claim.
  """

  mean: float
  low: float
  high: float
  count: int
  clusters: int

  @property
  def known(self) -> bool:
    return math.isfinite(self.low) and math.isfinite(self.high)


NO_VALUES = Interval(math.nan, math.nan, math.nan, 0, 0)


def bootstrap_mean(
  values: Sequence[float],
  clusters: Sequence[Hashable],
  samples: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
) -> Interval:
  """Mean over all values, with a percentile interval over resampled clusters.

  Each sample draws as many clusters as there are, with replacement, and takes
  the mean of all values in them. The same arguments give the same interval.
  Under about ten clusters percentile intervals are too narrow.

  Args:
    values: [N] finite numbers.
    clusters: [N] the cluster (document id) of each value.
    samples: number of bootstrap samples.
    seed: of the draws.
    level: share of the samples' means that the interval covers.

  Raises:
    ValueError: no values, values that are not finite, or a length, number of
      samples or level that makes no sense.
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or len(values) == 0 or len(values) != len(clusters):
    raise ValueError(
      f'An interval needs as many clusters as values, at least one; got '
      f'values of shape {values.shape} and {len(clusters)} clusters.'
    )
  if not np.isfinite(values).all():
    raise ValueError(
      f'Value {int(np.argmin(np.isfinite(values)))} of {len(values)} is not a '
      'finite number; score every answer before taking their mean.'
    )
  if samples < 1 or not 0 < level < 1:
    raise ValueError(
      f'An interval needs samples >= 1 and 0 < level < 1; got {samples} and '
      f'{level}.'
    )
  numbers: dict[Hashable, int] = {}
  members = np.array(
    [numbers.setdefault(cluster, len(numbers)) for cluster in clusters]
  )
  sums = np.bincount(members, weights=values)
  counts = np.bincount(members)
  mean = float(sums.sum() / counts.sum())
  if len(numbers) == 1:
    return Interval(mean, math.nan, math.nan, len(values), 1)
  means = _resampled_means(sums, counts, samples, seed)
  tail = (1 - level) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  return Interval(mean, float(low), float(high), len(values), len(numbers))


def paired_difference(
  a: Sequence[float],
  b: Sequence[float],
  clusters: Sequence[Hashable],
  samples: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
) -> Interval:
  """Mean of a - b over the same questions, with its interval.

  Args:
    a: [N] scores of one system.
    b: [N] scores of another on the same questions, in the same order.
    clusters: [N] the document id of each question.
    samples: number of bootstrap samples.
    seed: of the draws.
    level: share of the samples' means that the interval covers.

  Raises:
    ValueError: as `bootstrap_mean`, or a and b differ in length.
  """
  if len(a) != len(b):
    raise ValueError(
      f'Paired scores must be of the same questions; got {len(a)} and {len(b)}.'
    )
  differences = np.subtract(a, b, dtype=np.float64)
  return bootstrap_mean(differences, clusters, samples, seed, level)


def _resampled_means(sums, counts, samples, seed):
  generator = np.random.default_rng(seed)
  number = len(sums)
  block = max(1, _DRAWS_PER_BLOCK // number)
  means = []
  for start in range(0, samples, block):
    size = (min(block, samples - start), number)
    draws = generator.integers(number, size=size)
    means.append(sums[draws].sum(axis=1) / counts[draws].sum(axis=1))
  return np.concatenate(means)
