"""K-means against every partition, silhouettes against their definition."""

import itertools

import numpy as np
import pytest

from lloco_jax.retrieval.clusters import cluster, k_means, silhouette


def inertia(vectors, labels):
  return sum(
    ((vectors[labels == label] - vectors[labels == label].mean(0)) ** 2).sum()
    for label in np.unique(labels)
  )


def blobs(seed=0, spread=0.3):
  """Three clusters of different sizes, and their labels."""
  random = np.random.default_rng(seed)
  centres = np.array([[0, 0], [5, 0], [0, 5.0]])
  labels = np.repeat([0, 1, 2], [12, 7, 3])
  return centres[labels] + spread * random.normal(size=(22, 2)), labels


@pytest.mark.parametrize('count', [2, 3])
def test_no_partition_is_tighter(count):
  vectors = np.random.default_rng(count).normal(size=(8, 2))
  best = min(
    inertia(vectors, np.array(labels))
    for labels in itertools.product(range(count), repeat=len(vectors))
  )
  labels = k_means(vectors, count)
  assert inertia(vectors, labels) == pytest.approx(best)
  assert set(labels) == set(range(count))


def test_clusters_that_are_apart_are_found():
  vectors, truth = blobs()
  [two, three, four] = cluster(vectors, (2, 3, 4))
  assert max((two, three, four), key=lambda c: c.silhouette) is three
  pairs = truth[:, None] == truth
  assert (pairs == (three.labels[:, None] == three.labels)).all()
  again = cluster(vectors, (3,))[0]
  assert (again.labels == three.labels).all()


def test_silhouettes_are_as_defined():
  vectors, _ = blobs(1, spread=2.0)
  labels = k_means(vectors, 4)
  labels[0] = 9
  expected = []
  for place, label in enumerate(labels):
    apart = np.linalg.norm(vectors - vectors[place], axis=1)
    own = (labels == label) & (np.arange(len(labels)) != place)
    if not own.any():
      expected.append(0.0)
      continue
    inside = apart[own].mean()
    outside = min(
      apart[labels == other].mean() for other in set(labels) - {label}
    )
    expected.append((outside - inside) / max(inside, outside))
  assert silhouette(vectors, labels) == pytest.approx(np.mean(expected))


def test_equal_vectors_are_no_fault():
  vectors = np.ones((5, 3))
  [found] = cluster(vectors, (2,))
  assert found.silhouette == 0.0


def test_impossible_numbers_are_refused():
  for count in (1, 3):
    with pytest.raises(ValueError, match=f'into {count} clusters'):
      cluster(np.eye(3), (count,))
