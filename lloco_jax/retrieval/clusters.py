"""Clusters of vectors by k-means, and how many there are."""

from collections.abc import Iterable
import dataclasses

import numpy as np

# Of all, the start that ends nearest to its centres counts.
_STARTS, _ROUNDS = 20, 100
# Vectors that a silhouette compares with one another at most.
_COMPARED = 2000


@dataclasses.dataclass(frozen=True, eq=False)
class Clustering:
  """Labels [n] from 0 to `count` - 1, and how well apart the clusters are.

  The silhouette is from -1 to 1: how much nearer vectors are to those of
  their own cluster than to those of the next.
  """

  count: int
  labels: np.ndarray
  silhouette: float


def cluster(
  vectors: np.ndarray, counts: Iterable[int], seed: int = 0
) -> list[Clustering]:
  """A clustering of vectors [n, D] for each number of clusters.

  Raises:
    ValueError: a number is below 2, or not below that of the vectors.
  """
  found = []
  for count in counts:
    if not 2 <= count < len(vectors):
      raise ValueError(
        f'{len(vectors)} vectors cannot be put into {count} clusters; it must '
        'be 2 or more and fewer than they are.'
      )
    labels = k_means(vectors, count, seed)
    found.append(Clustering(count, labels, silhouette(vectors, labels, seed)))
  return found


def k_means(vectors: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
  """Labels [n] by Lloyd's algorithm from several starts of k-means++.

  No cluster is empty where so many vectors differ (Arthur and Vassilvitskii
  2007).
  """
  random = np.random.default_rng(seed)
  vectors = np.asarray(vectors, np.float64)
  best = np.inf, np.zeros(len(vectors), int)
  for _ in range(_STARTS):
    centres = _first_centres(vectors, count, random)
    labels = None
    for _ in range(_ROUNDS):
      apart = _squares(vectors, centres)
      before, labels = labels, apart.argmin(axis=1)
      if before is not None and (before == labels).all():
        break
      nearest = apart.min(axis=1)
      for label in range(count):
        own = labels == label
        if own.any():
          centres[label] = vectors[own].mean(axis=0)
        else:
          # The vector that its centre serves worst begins a cluster.
          worst = nearest.argmax()
          centres[label], nearest[worst] = vectors[worst], 0
    inertia = _squares(vectors, centres).min(axis=1).sum()
    if inertia < best[0]:
      best = inertia, labels
  return best[1]


def silhouette(vectors: np.ndarray, labels: np.ndarray, seed: int = 0) -> float:
  """The mean silhouette (Rousseeuw 1987), of a sample where there are many.

  A vector that is alone in its cluster counts as 0.
  """
  if len(vectors) > _COMPARED:
    random = np.random.default_rng(seed)
    places = random.choice(len(vectors), _COMPARED, replace=False)
    vectors, labels = vectors[places], labels[places]
  labels = np.unique(labels, return_inverse=True)[1]
  members = np.eye(labels.max() + 1)[labels]
  sums = np.sqrt(_squares(vectors, vectors)) @ members
  sizes = members.sum(axis=0)
  own = np.arange(len(labels)), labels
  alone = sizes[labels] == 1
  inside = sums[own] / np.maximum(sizes[labels] - 1, 1)
  means = sums / sizes
  means[own] = np.inf
  outside = means.min(axis=1)
  # Where all vectors are equal there is one cluster.
  outside = np.where(np.isinf(outside), inside, outside)
  widest = np.maximum(inside, outside)
  values = (outside - inside) / np.where(widest == 0, 1, widest)
  return float(np.where(alone, 0, values).mean())


def _first_centres(vectors, count, random):
  """Vectors drawn one after the other, the farther the likelier."""
  chosen = [random.integers(len(vectors))]
  while len(chosen) < count:
    nearest = _squares(vectors, vectors[chosen]).min(axis=1)
    total = nearest.sum()
    share = nearest / total if total > 0 else None
    chosen.append(random.choice(len(vectors), p=share))
  return vectors[chosen].copy()


def _squares(vectors, centres):
  """Squared distances [n, k]."""
  lengths = (vectors**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
  return np.maximum(lengths - 2 * vectors @ centres.T, 0)
