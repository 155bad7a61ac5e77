import itertools
import math

import numpy as np
import pytest

from lloco_jax.evaluation.intervals import bootstrap_mean, paired_difference


def exact_quantiles(groups, tails):
  """Quantiles of the mean over every possible resample of the clusters."""
  means = sorted(
    np.concatenate(sample).mean()
    for sample in itertools.product(groups, repeat=len(groups))
  )
  return [means[math.ceil(tail * len(means)) - 1] for tail in tails]


def test_interval_is_that_of_all_resamples():
  groups = [[0.0, 0.1], [1.0], [0.5, 0.7, 0.2], [0.9, 0.8], [0.3]]
  values = [value for group in groups for value in group]
  clusters = [name for name, group in zip('abcde', groups) for _ in group]
  # With 3,125 resamples the quantiles lie on steps: compare within them.
  low, high = exact_quantiles(groups, [0.1, 0.9])
  interval = bootstrap_mean(values, clusters, samples=40_000, level=0.8)
  assert interval.mean == pytest.approx(np.mean(values))
  assert interval.low == pytest.approx(low, abs=0.012)
  assert interval.high == pytest.approx(high, abs=0.012)
  assert (interval.count, interval.clusters) == (9, 5)


def test_interval_agrees_with_scipy_where_clusters_are_single_values():
  from scipy import stats

  values = np.random.default_rng(3).beta(0.5, 1, size=60)
  theirs = stats.bootstrap(
    (values,), np.mean, n_resamples=20_000, method='percentile', rng=1
  ).confidence_interval
  ours = bootstrap_mean(values, range(60), samples=20_000)
  assert ours.low == pytest.approx(theirs.low, abs=0.004)
  assert ours.high == pytest.approx(theirs.high, abs=0.004)


def test_questions_of_one_document_are_not_independent_evidence():
  values = [0.0] * 10 + [1.0] * 10
  by_document = bootstrap_mean(values, [n // 5 for n in range(20)])
  by_question = bootstrap_mean(values, range(20))
  width = by_document.high - by_document.low
  assert width > 1.8 * (by_question.high - by_question.low)


def test_interval_covers_the_truth_about_as_often_as_it_says():
  random = np.random.default_rng(0)
  covered = 0
  for _ in range(200):
    effects = random.normal(size=30)
    values = (effects[:, None] + random.normal(size=(30, 4))).ravel()
    interval = bootstrap_mean(values, np.repeat(np.arange(30), 4), samples=500)
    covered += interval.low < 0 < interval.high
  assert 0.88 < covered / 200 < 0.99


def test_same_arguments_give_the_same_interval():
  values, clusters = np.linspace(0, 1, 30), [n % 7 for n in range(30)]
  first = bootstrap_mean(values, clusters, seed=5)
  assert first == bootstrap_mean(values, clusters, seed=5)
  assert first != bootstrap_mean(values, clusters, seed=6)


def test_names_of_clusters_do_not_matter():
  values = [0.1, 0.9, 0.4, 0.6]
  assert bootstrap_mean(values, ['z', 'z', 'a', 'b']) == bootstrap_mean(
    values, [0, 0, 1, 2]
  )


def test_one_document_supports_no_interval():
  interval = bootstrap_mean([0.2, 0.6], ['only', 'only'])
  assert interval.mean == pytest.approx(0.4)
  assert not interval.known
  assert not interval.low > 0


def test_many_clusters_are_resampled_in_blocks():
  values = np.random.default_rng(1).random(4_000)
  interval = bootstrap_mean(values, range(4_000), samples=1_000)
  error = values.std() / math.sqrt(4_000)
  assert interval.high - interval.low == pytest.approx(3.92 * error, rel=0.1)


def test_pairing_removes_what_both_share():
  random = np.random.default_rng(2)
  hard = random.random(50)
  difference = paired_difference(hard + 0.1, hard, range(50))
  assert difference.low == pytest.approx(0.1)
  assert difference.high == pytest.approx(0.1)
  assert paired_difference([0, 1], [1, 1], 'ab').mean == -0.5


def brute_force_scores(columns, clusters, samples, seed):
  """Scores of resamples, each put together answer by answer."""
  columns, names = np.asarray(columns), sorted(set(clusters))
  rows = [np.flatnonzero(np.asarray(clusters) == name) for name in names]
  random, scores = np.random.default_rng(seed), []
  for draw in random.integers(len(names), size=(samples, len(names))):
    chosen = columns[np.concatenate([rows[number] for number in draw])]
    logs = [math.log(column.mean()) for column in chosen.T]
    scores.append(math.exp(sum(logs) / len(logs)))
  return np.array(scores)


@pytest.fixture
def columns_of_two():
  """Three scores of 24 answers about seven documents, by two systems."""
  random = np.random.default_rng(4)
  clusters = [*range(7), *random.integers(7, size=17)]
  return random.random((24, 3)) ** 2, random.random((24, 3)) / 2, clusters


def test_columns_are_combined_after_resampling(columns_of_two):
  columns, _, clusters = columns_of_two
  interval = bootstrap_mean(columns, clusters, samples=500, seed=8, level=0.9)
  scores = brute_force_scores(columns, clusters, 500, 8)
  mean = np.prod(columns.mean(axis=0)) ** (1 / 3)
  assert interval.mean == pytest.approx(mean)
  assert (interval.low, interval.high) == pytest.approx(
    tuple(np.quantile(scores, [0.05, 0.95]))
  )
  assert (interval.count, interval.clusters) == (24, 7)
  # What it must not be: the mean of every answer's own geometric mean.
  of_answers = bootstrap_mean(np.prod(columns, axis=1) ** (1 / 3), clusters)
  assert of_answers.mean < 0.9 * interval.mean


def test_difference_of_columns_is_of_the_same_draws(columns_of_two):
  a, b, clusters = columns_of_two
  interval = paired_difference(a, b, clusters, samples=500, seed=8, level=0.9)
  differences = brute_force_scores(a, clusters, 500, 8) - brute_force_scores(
    b, clusters, 500, 8
  )
  assert interval.mean == pytest.approx(
    np.prod(a.mean(axis=0)) ** (1 / 3) - np.prod(b.mean(axis=0)) ** (1 / 3)
  )
  assert (interval.low, interval.high) == pytest.approx(
    tuple(np.quantile(differences, [0.05, 0.95]))
  )


def test_one_column_is_its_mean(columns_of_two):
  columns, others, clusters = columns_of_two
  column, other = columns[:, 0], others[:, 0]
  assert bootstrap_mean(column, clusters) == bootstrap_mean(
    column[:, None], clusters
  )
  difference = paired_difference(column, other, clusters)
  mean = bootstrap_mean(column - other, clusters)
  assert (difference.mean, difference.low, difference.high) == pytest.approx(
    (mean.mean, mean.low, mean.high)
  )


def test_a_column_of_zeros_scores_nothing():
  columns = np.array([[0.5, 0.0], [1.0, 0.0], [0.2, 0.0]])
  interval = bootstrap_mean(columns, 'abc')
  assert (interval.mean, interval.low, interval.high) == (0, 0, 0)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (dict(values=[], clusters=[]), 'at least one'),
    (dict(values=[1.0], clusters=['a', 'b']), 'as many clusters as values'),
    (dict(values=[1.0, math.nan], clusters='ab'), 'Value 1 of 2'),
    (dict(values=[[1.0, 1.0], [1.0, math.inf]], clusters='ab'), 'Value 1 of 2'),
    (
      dict(values=[[1.0, 1.0], [1.0, -0.1]], clusters='ab'),
      '1 of 2 is negative',
    ),
    (dict(values=[[[1.0]]], clusters='a'), 'one or more columns'),
    (dict(values=[1.0], clusters='a', samples=0), 'samples >= 1'),
    (dict(values=[1.0], clusters='a', level=95), '0 < level < 1'),
  ],
)
def test_bad_input_is_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    bootstrap_mean(**arguments)


def test_pairs_of_different_length_are_refused():
  with pytest.raises(ValueError, match='got 2 and 1'):
    paired_difference([0, 1], [1], 'ab')
  with pytest.raises(ValueError, match='columns; got 1 and 2'):
    paired_difference([0, 1], [[1, 1], [0, 0]], 'ab')
