import json

import pytest

from lloco_jax.evaluation.rouge import (
  longbench_rouge_l,
  rouge1,
  rouge2,
  rouge_l,
)

SCORES = {
  'rouge1': rouge1,
  'rouge2': rouge2,
  'rougeL': rouge_l,
  'longbench_rouge_l': longbench_rouge_l,
}


@pytest.mark.parametrize('name', SCORES)
def test_scores_equal_the_official_ones(golden, name):
  cases = json.loads((golden / 'metrics/cases.json').read_text('utf-8'))
  assert any(0 < case[name] < 1 for case in cases)
  for case in cases:
    actual = SCORES[name](case['prediction'], case['reference'])
    assert actual == pytest.approx(case[name], abs=1e-9), case


@pytest.mark.parametrize('name', SCORES)
def test_nothing_scores_nothing(name):
  for pair in (('', 'a cat'), ('a cat', ''), ('', ''), ('...', 'a cat')):
    assert SCORES[name](*pair) == 0


@pytest.mark.parametrize('name', SCORES)
def test_there_must_be_a_reference(name):
  with pytest.raises(ValueError, match='no reference'):
    SCORES[name]('a cat', [])


@pytest.mark.parametrize('name', SCORES)
def test_best_reference_counts(name):
  prediction, references = 'the old harbour', ['a new mill', 'the old mill']
  score = SCORES[name](prediction, references)
  assert score == SCORES[name](prediction, references[1]) > 0
  assert SCORES[name](prediction, references[0]) < score


def test_every_kind_has_a_best_reference_of_its_own():
  prediction, references = 'b c x a', ['a b c d', 'x a']
  assert rouge1(prediction, references) == pytest.approx(3 / 4)
  # 'x a' is one of three pairs and the only one of the reference.
  assert rouge2(prediction, references) == pytest.approx(1 / 2)
  assert rouge_l(prediction, references) == pytest.approx(2 / 3)


def test_words_are_not_stemmed():
  assert rouge1('harbours', 'harbour') == 0


def test_the_packages_read_words_differently():
  # ASCII letters and digits are words to one, all but spaces to the other.
  assert rouge1('Café, Paris', 'caf paris') == 1
  assert rouge1('Łódź', 'Łódź') == pytest.approx(1)
  assert rouge1('北京', '北京') == 0
  assert longbench_rouge_l('北京', '北京') == pytest.approx(1)
  assert longbench_rouge_l('Paris', 'paris') == 0
  assert longbench_rouge_l('Paris,', 'Paris') == 0
  # A repeated word counts once.
  assert longbench_rouge_l('red red red', 'red') == pytest.approx(1)
  assert rouge_l('red red red', 'red') == pytest.approx(1 / 2)


def test_equal_texts_score_just_below_one_on_longbench():
  assert longbench_rouge_l('a cat', 'a cat') == 0.999999995


def test_what_longbench_cannot_score_is_nothing():
  long = ' '.join(f'w{number}' for number in range(1_100))
  assert longbench_rouge_l(long, long) == 0
  assert longbench_rouge_l('w1 w2', long) == 0
  assert longbench_rouge_l('w1 w2', [long, 'w1 w2']) > 0


def test_sentences_on_lines_of_their_own_score_the_same():
  prediction = 'He left at 5 p.m. Nobody (it is said!) saw him. "Why?" asked I.'
  lines = prediction
  for end in '.?!':
    lines = lines.replace(end, end + '\n')
  reference = 'Nobody saw him. He left at five p.m.'
  for score in (rouge1, rouge2, rouge_l):
    assert 0 < score(prediction, reference) == score(lines, reference)
