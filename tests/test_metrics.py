import json

import pytest

from lloco_jax.evaluation.metrics import accuracy, exact_match, f1, normalize


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


def test_unusable_references_are_named():
  with pytest.raises(ValueError, match='no reference'):
    f1('anything', [])
  with pytest.raises(ValueError, match="'Paris' does not open"):
    accuracy('B', ['B', 'Paris'])
