"""Scores and paired differences with intervals bootstrapped over documents.

A score is the geometric mean of the means of its columns. Of a single column,
which is what nearly all metrics have, that is its mean.

Questions about one document share its luck: the interval resamples whole
documents (the cluster bootstrap), so many questions about few documents do
not look like much evidence. Documents that questions link are one.
"""

from collections.abc import Hashable, Sequence
import dataclasses
import math

import numpy as np

# Cluster draws held at once: bounds the memory at about 32 MB.
_DRAWS_PER_BLOCK = 1_000_000


@dataclasses.dataclass(frozen=True)
class Interval:
  """The score of `count` answers in `clusters` clusters, or a difference.

  `low` and `high` are NaN where one cluster gives nothing to resample, and
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


def score(values: Sequence[float] | Sequence[Sequence[float]]) -> float:
  """The score of [N] or [N, C] values, without an interval.

  Raises:
    ValueError: as `bootstrap_mean`, of its values.
  """
  return float(_geometric_mean(_columns(values).mean(axis=0)))


def bootstrap_mean(
  values: Sequence[float] | Sequence[Sequence[float]],
  clusters: Sequence[Hashable],
  samples: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
) -> Interval:
  """Mean over all values, with a percentile interval over resampled clusters.

  Each sample draws as many clusters as there are, with replacement, and takes
  the mean of all values in them; of several columns, the geometric mean of
  their means. The same arguments give the same interval. Under about ten
  clusters percentile intervals are too narrow.

  Args:
    values: [N] or [N, C] finite numbers; several columns need all >= 0.
    clusters: [N] the cluster (of documents) of each value.
    samples: number of bootstrap samples.
    seed: of the draws.
    level: share of the samples' scores that the interval covers.

  Raises:
    ValueError: no values, values that are not finite, or a length, number of
      samples or level that makes no sense.
  """
  values = _columns(values)
  return _bootstrap(values, clusters, _geometric_mean, samples, seed, level)


def paired_difference(
  a: Sequence[float] | Sequence[Sequence[float]],
  b: Sequence[float] | Sequence[Sequence[float]],
  clusters: Sequence[Hashable],
  samples: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
) -> Interval:
  """Score of a less that of b over the same questions, with its interval.

  Both scores of a sample are of the same draw of clusters.

  Args:
    a: [N] or [N, C] scores of one system.
    b: [N] or [N, C] scores of another on the same questions, in the same order.
    clusters: [N] the cluster of each question.
    samples: number of bootstrap samples.
    seed: of the draws.
    level: share of the samples' differences that the interval covers.

  Raises:
    ValueError: as `bootstrap_mean`, or a and b differ in shape.
  """
  a, b = _columns(a), _columns(b)
  if len(a) != len(b):
    raise ValueError(
      f'Paired scores must be of the same questions; got {len(a)} and {len(b)}.'
    )
  if a.shape != b.shape:
    raise ValueError(
      f'Paired scores must have the same columns; got {a.shape[1]} and '
      f'{b.shape[1]}.'
    )
  split = a.shape[1]

  def difference(means):
    first, second = means[..., :split], means[..., split:]
    return _geometric_mean(first) - _geometric_mean(second)

  values = np.concatenate([a, b], axis=1)
  return _bootstrap(values, clusters, difference, samples, seed, level)


def bootstrap_ratio(
  numerators: Sequence[float],
  denominators: Sequence[float],
  clusters: Sequence[Hashable],
  samples: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
) -> Interval:
  """Ratio of two means, with its interval; both are of the same draws.

  Args:
    numerators: [N].
    denominators: [N]; where a draw's mean is 0 the ratio is infinite.
    clusters: [N] the cluster of each pair.
    samples: number of bootstrap samples.
    seed: of the draws.
    level: share of the samples' ratios that the interval covers.

  Raises:
    ValueError: as `bootstrap_mean`, or the two differ in length.
  """
  if len(numerators) != len(denominators):
    raise ValueError(
      f'A ratio needs as many numerators as denominators; got '
      f'{len(numerators)} and {len(denominators)}.'
    )

  def ratio(means):
    with np.errstate(divide='ignore', invalid='ignore'):
      return means[..., 0] / means[..., 1]

  values = [_columns(numerators), _columns(denominators)]
  return _bootstrap(
    np.concatenate(values, axis=1), clusters, ratio, samples, seed, level
  )


def _columns(values):
  values = np.asarray(values, np.float64)
  if values.ndim == 1:
    values = values[:, None]
  if values.ndim != 2 or 0 in values.shape:
    raise ValueError(
      'An interval needs at least one value, in one or more columns; got '
      f'values of shape {values.shape}.'
    )
  if not np.isfinite(values).all():
    row = int(np.argmin(np.isfinite(values).all(axis=1)))
    raise ValueError(
      f'Value {row} of {len(values)} is not a finite number; score every '
      'answer before taking their mean.'
    )
  if values.shape[1] > 1 and values.min() < 0:
    row = int(np.argmax((values < 0).any(axis=1)))
    raise ValueError(
      f'Value {row} of {len(values)} is negative, of which there is no '
      'geometric mean; give scores from 0 up.'
    )
  return values


def _geometric_mean(means):
  return np.prod(means, axis=-1) ** (1 / means.shape[-1])


def _bootstrap(values, clusters, score_of, samples, seed, level):
  """The interval of a score of the columns' means."""
  if len(values) != len(clusters):
    raise ValueError(
      'An interval needs as many clusters as values; got '
      f'{len(values)} values and {len(clusters)} clusters.'
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
  sums = [np.bincount(members, weights=column) for column in values.T]
  counts = np.bincount(members)
  means = np.array([column.sum() for column in sums]) / counts.sum()
  score = float(score_of(means))
  if len(numbers) == 1:
    return Interval(score, math.nan, math.nan, len(values), 1)
  scores = score_of(_resampled_means(sums, counts, samples, seed))
  tail = (1 - level) / 2
  # Ratios may be infinite.
  with np.errstate(invalid='ignore'):
    low, high = np.quantile(scores, [tail, 1 - tail])
  return Interval(score, float(low), float(high), len(values), len(numbers))


def _resampled_means(sums, counts, samples, seed):
  """[samples, C] from the sums [C][clusters] and their counts."""
  generator = np.random.default_rng(seed)
  number = len(counts)
  block = max(1, _DRAWS_PER_BLOCK // number)
  means = []
  for start in range(0, samples, block):
    size = (min(block, samples - start), number)
    draws = generator.integers(number, size=size)
    total = counts[draws].sum(axis=1)
    # A column at a time: the block bounds what one takes.
    means.append(
      np.stack([column[draws].sum(axis=1) / total for column in sums], axis=-1)
    )
  return np.concatenate(means)
