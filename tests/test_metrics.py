import json
import pathlib

import pytest

from lloco_jax.evaluation.metrics import (
  accuracy,
  exact_match,
  f1,
  hotpotqa_f1,
  lloco_hotpotqa_f1,
  lloco_quality_accuracy,
  normalize,
  quality_accuracy,
  squad_exact_match,
  squad_f1,
)


@pytest.fixture(scope='module')
def cases(golden):
  return json.loads((golden / 'metrics/cases.json').read_text('utf-8'))


def test_f1_equals_official_longbench_scores(cases):
  assert len(cases) == 100
  for case in cases:
    expected = case['longbench_qa_f1']
    actual = f1(case['prediction'], case['reference'])
    assert actual == pytest.approx(expected, abs=1e-12), case


def test_exact_match_equals_official_hotpotqa_scores(cases):
  assert any(case['hotpot_em'] for case in cases)
  for case in cases:
    actual = exact_match(case['prediction'], case['reference'])
    assert actual == float(case['hotpot_em']), case


def test_hotpotqa_f1_equals_official_scores(cases):
  for case in cases:
    actual = hotpotqa_f1(case['prediction'], case['reference'])
    assert actual == pytest.approx(case['hotpot_f1'], abs=1e-12), case


def test_scores_of_the_scrolls_documentation():
  # Its three examples average to F1 72.22 and exact match 33.33.
  predictions = ['exact match example', 'hello there', 'general kenobi']
  references = [
    ['exact match example'],
    ['hello', 'hi there'],
    ['commander kenobi'],
  ]
  pairs = list(zip(predictions, references))
  assert sum(f1(*pair) for pair in pairs) / 3 == pytest.approx(
    0.722222, abs=1e-6
  )
  assert sum(exact_match(*pair) for pair in pairs) / 3 == pytest.approx(1 / 3)


@pytest.mark.parametrize(
  ('text', 'normal'),
  [
    # Punctuation goes before articles do: 'a.n.' is one article by then.
    ('A.N. Answer', 'answer'),
    ('The  U.S.\n Theatre', 'us theatre'),
    # Dashes and quotes beyond ASCII are kept, and end a word.
    ('the—a', '—'),
    ('Ænima', 'ænima'),
    ('state-of-the-art', 'stateoftheart'),
    (' \t', ''),
  ],
)
def test_normalize(text, normal):
  assert normalize(text) == normal


def test_f1_counts_repeated_words():
  # Two of three predicted words are among the two of the reference.
  assert f1('red red red', 'red red') == pytest.approx(
    2 * (2 / 3) / (2 / 3 + 1)
  )


def test_no_words_score_no_f1_but_match():
  assert f1('the', 'a') == 0
  assert exact_match('the', 'a') == 1


def test_best_reference_counts():
  assert f1('blue whale', ['red', 'whale', 'blue whales']) == pytest.approx(
    2 / 3
  )
  assert exact_match('Whale.', ['red', 'a whale']) == 1
  assert accuracy('B', ['A', 'B. Paris']) == 1


@pytest.mark.parametrize(
  ('prediction', 'score'),
  [
    ('B', 1),
    ('b', 1),
    (' (B) Paris', 1),
    ('b. Paris', 1),
    ('B Paris', 1),
    ('**B**', 1),
    ('A. B', 0),
    ('Bonn', 0),
    ('b is my guess', 0),
    ('', 0),
    ('42', 0),
  ],
)
def test_accuracy_takes_the_opening_letter(prediction, score):
  assert accuracy(prediction, 'B. Paris') == score


@pytest.mark.parametrize(
  ('prediction', 'reference', 'official', 'lloco'),
  [
    ('Yes.', 'yes', 1, 1),
    ('yes it was', 'yes', 0, 1 / 2),
    ('no', 'no one', 0, 2 / 3),
    ('No, no one', 'no', 0, 1 / 2),
    ('noanswer', 'noanswer in sight', 0, 1 / 2),
    ('no answer', 'answer', 2 / 3, 2 / 3),
    ('yes and no', 'no and yes', 1, 1),
    ('the', 'a', 0, 0),
    ('', 'yes', 0, 0),
    ('Żółw', 'żółw', 1, 1),
    # The first '.' ends what LLoCO's evaluator reads.
    ('St. Louis', 'St Louis', 1, 2 / 3),
    ('Louis. He was St. Louis', 'louis', 1 / 3, 1),
    ('.5 miles', '5 miles', 1, 0),
  ],
)
def test_f1_of_hotpotqa(prediction, reference, official, lloco):
  assert hotpotqa_f1(prediction, reference) == pytest.approx(official)
  assert lloco_hotpotqa_f1(prediction, reference) == pytest.approx(lloco)


@pytest.fixture(scope='module')
def official():
  """What the official scripts said of odd texts; the file names them."""
  path = pathlib.Path(__file__).with_name('official_scores.json')
  return json.loads(path.read_text('utf-8'))


def test_hotpotqa_scores_equal_official_ones_of_odd_texts(official):
  cases = official['hotpotqa']
  ruled = 0
  for case in cases:
    pair = case['prediction'], case['reference']
    assert hotpotqa_f1(*pair) == pytest.approx(case['f1'], abs=1e-12), case
    assert exact_match(*pair) == case['exact_match'], case
    ruled += f1(*pair) != case['f1']
  # The rule of yes and no counts.
  assert ruled >= 5


def test_squad_scores_equal_official_ones_of_odd_texts(official):
  for case in official['squad']:
    pair = case['prediction'], case['references']
    assert squad_f1(*pair) == pytest.approx(case['f1'], abs=1e-12), case
    assert squad_exact_match(*pair) == case['exact_match'], case


def test_rule_of_yes_and_no_is_of_each_reference():
  assert hotpotqa_f1('yes', ['no', 'yes']) == 1
  assert hotpotqa_f1('yes it was', ['yes', 'it was']) == pytest.approx(4 / 5)


@pytest.mark.parametrize(
  ('prediction', 'references', 'exact', 'overlap'),
  [
    ('', [], 1, 1),
    ('', [''], 1, 1),
    (' The. ', [], 1, 1),
    ('unanswerable', [], 0, 0),
    ('Paris', [], 0, 0),
    ('', ['Paris'], 0, 0),
    ('the', ['Paris'], 0, 0),
    # A reference of which nothing is left does not count beside another.
    ('', ['the', 'Paris'], 0, 0),
    ('the', ['a'], 1, 1),
    ('in Paris', ['Paris', 'London'], 0, 2 / 3),
    ('the Paris', ['London', 'Paris!'], 1, 1),
  ],
)
def test_scores_of_squad(prediction, references, exact, overlap):
  assert squad_exact_match(prediction, references) == exact
  assert squad_f1(prediction, references) == pytest.approx(overlap)


def test_squad_2_differs_from_1_1_only_where_no_word_is_left(cases):
  differing = [
    case
    for case in cases
    if squad_f1(case['prediction'], case['reference'])
    != f1(case['prediction'], case['reference'])
  ]
  assert all(not normalize(case['reference']) for case in differing)
  assert squad_f1('red whale', 'blue whale') == f1('red whale', 'blue whale')


@pytest.mark.parametrize(
  ('prediction', 'official', 'lloco'),
  [
    ('B. Paris', 1, 1),
    ('B', 1, 1),
    (' B', 1, 0),
    ('(B)', 1, 0),
    ('**B**', 1, 0),
    ('It is B, not C.', 1, 0),
    ('b', 0, 0),
    ('Bonn', 0, 1),
    ('A man chose B', 0, 0),
    ('E or B', 1, 0),
    ('B_', 0, 1),
    ('', 0, 0),
    (' ', 0, 0),
  ],
)
def test_accuracy_of_quality(prediction, official, lloco):
  assert quality_accuracy(prediction, 'B. Paris') == official
  assert lloco_quality_accuracy(prediction, 'B. Paris') == lloco
  assert quality_accuracy(prediction, ['D', 'B']) == official
  assert lloco_quality_accuracy(prediction, ['D', 'B']) == lloco


def test_unusable_references_are_named():
  for score in (f1, exact_match, hotpotqa_f1, lloco_hotpotqa_f1, accuracy):
    with pytest.raises(ValueError, match='no reference'):
      score('anything', [])
  for score in (accuracy, lloco_quality_accuracy, quality_accuracy):
    with pytest.raises(ValueError, match="'Paris' does not open"):
      score('B', ['B', 'Paris'])
  # Not the letter that the text of another choice holds.
  with pytest.raises(ValueError, match="'E. Vitamin C' does not open"):
    quality_accuracy('C', 'E. Vitamin C')
  assert quality_accuracy('C', '(C) of vitamin A') == 1
