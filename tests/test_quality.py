"""QuALITY lines: choices in the question, hard questions, any options."""

from official_files import quality_line, write_lines, write_quality
import pytest

from lloco_jax.data.quality import read_quality


def test_choices_are_part_of_the_question(tmp_path):
  write_quality(tmp_path)
  dataset = read_quality(tmp_path)
  hard, other = dataset.splits['train']
  assert hard.question == (
    'Colour?\n\nChoices:\nA. red\nB. blue\nC. green\nD. grey'
  )
  assert hard.answers == ('A. red',)
  assert other.answers == ('D. grey',)
  assert hard.tags == ('hard', '4 options')
  assert other.tags == ('4 options',)


def test_an_article_of_two_writers_is_one_document(tmp_path):
  write_quality(tmp_path)
  dataset = read_quality(tmp_path)
  assert list(dataset.documents) == ['100', '200']
  assert {e.document_ids for e in dataset.splits['train']} == {('100',)}


def test_options_need_not_be_four(tmp_path):
  write_quality(tmp_path)
  (example,) = read_quality(tmp_path).splits['validation']
  assert example.question.endswith('A. no\nB. yes')
  assert (example.answers, example.tags) == (('B. yes',), ('2 options',))


@pytest.mark.parametrize(
  ('options', 'gold', 'difficult', 'message'),
  [
    (['a', 'b'], 3, 0, "'gold_label' is 3, and there are 2 options"),
    (['a', 'b'], None, 0, "'gold_label' is None"),
    (['a', 'b'], 1, None, "'difficult' must be 0 or 1"),
    ('ab', 1, 0, "'options' is not a list of one or more texts"),
    (['a'] * 27, 1, 0, '27 options are more than there are letters'),
    (['a', ' '], 1, 0, "one of the 'options' is empty"),
    (['a', 'b'], True, 0, "'gold_label' is True"),
  ],
)
def test_a_damaged_question_is_named(
  tmp_path, options, gold, difficult, message
):
  good = ('1', 'Who?', ['a', 'b'], 1, 0)
  bad = ('2', 'Who?', options, gold, difficult)
  rows = [
    quality_line('1', 'Text', [('0', *good[1:])]),
    quality_line('2', 'T', [good, bad]),
  ]
  write_lines(tmp_path / 'QuALITY.v1.0.1.htmlstripped.dev', rows)
  with pytest.raises(ValueError, match=f'line 2: question 2: .*{message}'):
    read_quality(tmp_path)


def test_missing_files_are_told_with_their_address(tmp_path):
  with pytest.raises(
    FileNotFoundError, match='https://.*/QuALITY.v1.0.1.htmlstripped.train and'
  ):
    read_quality(tmp_path)
