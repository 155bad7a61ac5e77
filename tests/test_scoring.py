import pytest

from lloco_jax.evaluation.comparison import (
  Answer,
  SystemResult,
  compare_systems,
)
from lloco_jax.evaluation.scoring import METRICS, SCORES, score_names

# The example in the documentation of SCROLLS' metric, and what it gives x100.
PREDICTIONS = ('exact match example', 'hello there', 'general kenobi')
REFERENCES = (
  ('exact match example',),
  ('hello', 'hi there'),
  ('commander kenobi',),
)
SCROLLS = {
  'f1': 72.2222,
  'exact_match': 33.3333,
  'rouge1': 72.2222,
  'rouge2': 33.3333,
  'rougeL': 72.2222,
  'scrolls_rouge': 55.8136,
}


def system(name, predictions, scores):
  answers = tuple(
    Answer(
      f'e{number}',
      f'd{number}',
      'Which?',
      prediction,
      references,
      {score: SCORES[score](prediction, references) for score in scores},
    )
    for number, (prediction, references) in enumerate(
      zip(predictions, REFERENCES)
    )
  )
  return SystemResult(name, '', answers)


@pytest.mark.parametrize(('metric', 'expected'), SCROLLS.items())
def test_metrics_of_the_scrolls_documentation(metric, expected):
  main = system('LLoCO', PREDICTIONS, score_names(metric))
  results = compare_systems([main], metric, (), samples=10)
  assert 100 * results.scores['LLoCO'].mean == pytest.approx(expected, abs=5e-5)


def test_differences_are_of_the_combined_metric():
  names = score_names('scrolls_rouge')
  main = system('LLoCO', PREDICTIONS, names)
  other = system('other', PREDICTIONS[:1] + ('hi there', 'kenobi'), names)
  results = compare_systems([main, other], 'scrolls_rouge', ['other'])
  assert results.metric == 'scrolls_rouge'
  # 8/9, 2/3 and 8/9 of ROUGE-1, -2 and -L.
  assert results.scores['other'].mean == pytest.approx((128 / 243) ** (1 / 3))
  assert results.differences['other'].mean == pytest.approx(
    results.scores['LLoCO'].mean - results.scores['other'].mean
  )


def test_every_score_of_a_metric_is_asked_for():
  main = system('LLoCO', PREDICTIONS, ['rouge1', 'rougeL'])
  with pytest.raises(ValueError, match="no 'rouge2' score for example 'e0'"):
    compare_systems([main], 'scrolls_rouge', ())


@pytest.mark.parametrize('metric', METRICS)
def test_metrics_are_made_of_known_scores(metric):
  for name in score_names(metric):
    for reference in ('B. Żółw', ['B', 'C']):
      for prediction in ('', 'B', 'B. Żółw', 'the'):
        score = SCORES[name](prediction, reference)
        assert isinstance(score, float) and 0 <= score <= 1


def test_any_other_name_is_that_of_a_score():
  assert score_names('my_own') == ('my_own',)
