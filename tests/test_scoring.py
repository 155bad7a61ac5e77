import json

import pytest

from lloco_jax.data.squad import read_squad
from lloco_jax.evaluation.comparison import (
  Answer,
  SystemResult,
  compare_systems,
)
from lloco_jax.evaluation.scoring import (
  METRICS,
  SCORES,
  reported_scores,
  score_names,
)

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
      (f'd{number}',),
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


@pytest.mark.parametrize('name', ['squad_exact_match', 'squad_f1'])
@pytest.mark.parametrize(
  ('prediction', 'references', 'expected'),
  [
    ('unanswerable', ('unanswerable',), 1),
    (' Unanswerable.', ('unanswerable',), 1),
    ('The unanswerable', 'unanswerable', 1),
    ('', ('unanswerable',), 1),
    ('the', ('unanswerable',), 1),
    ('unanswerable question', ('unanswerable',), 0),
    ('Paris', ('unanswerable',), 0),
    # Of a question that has an answer both are wrong.
    ('unanswerable', ('Paris', 'the Seine'), 0),
    ('', ('Paris',), 0),
    ('Paris', ('Paris', 'unanswerable'), 1),
    ('Paris', 'Paris', 1),
  ],
)
def test_squads_unanswerable_questions(name, prediction, references, expected):
  assert SCORES[name](prediction, references) == expected


def test_the_word_is_the_one_that_squads_questions_are_given(tmp_path):
  """As the loader tells it, and the official metric its empty answer."""
  asked = {'qas': [], 'context': 'The mill is red.'}
  for id, impossible in (('a', True), ('b', False)):
    answers = [] if impossible else [{'text': 'red', 'answer_start': 12}]
    asked['qas'].append(
      {
        'id': id,
        'question': 'Colour?',
        'answers': answers,
        'is_impossible': impossible,
      }
    )
  data = {'data': [{'title': 'Mill', 'paragraphs': [asked]}]}
  (tmp_path / 'dev-v2.0.json').write_text(json.dumps(data))
  examples = read_squad(tmp_path, 'v2.0', ('validation',)).splits['validation']
  assert [example.tags for example in examples] == [('unanswerable',), ()]
  predictions = ['unanswerable', 'red', '']
  scores = [
    [SCORES['squad_f1'](text, example.answers) for text in predictions]
    for example in examples
  ]
  assert scores == [[1, 0, 1], [0, 1, 0]]
  # Other scores read the word as any other.
  assert SCORES['f1']('', examples[0].answers) == 0


def test_any_other_name_is_that_of_a_score():
  assert score_names('my_own') == ('my_own',)


def test_both_of_squads_official_scores_are_reported():
  assert set(reported_scores('squad_f1')) == {
    'squad_f1',
    'squad_exact_match',
  }
  assert reported_scores('f1') == ('f1',)
