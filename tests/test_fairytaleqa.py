"""FairytaleQA: stories of sections and their questions, in CSV files."""

import shutil

from official_files import QUESTION_COLUMNS, write_fairytaleqa, write_rows
import pytest

from lloco_jax.data.fairytaleqa import read_fairytaleqa


def test_stories_and_questions(tmp_path):
  write_fairytaleqa(tmp_path)
  dataset = read_fairytaleqa(tmp_path)
  assert dataset.documents['fox'].text == (
    'A fox, "red".\nIt ran.\n\nIt slept.'
  )
  first, second = dataset.splits['train']
  assert first.answers == ('red', 'Red')
  assert second.answers == ('the fox',)
  assert first.id != second.id
  assert first.tags == ('local', 'explicit', 'character')
  assert first.document_ids == second.document_ids == ('fox',)
  assert set(dataset.documents) == {'fox', 'owl'}
  inner = tmp_path / 'data-by-train-split'
  assert read_fairytaleqa(inner).splits == dataset.splits
  assert set(read_fairytaleqa(inner, splits=('test',)).documents) == {'cat'}


def test_questions_about_sections(tmp_path):
  write_fairytaleqa(tmp_path)
  dataset = read_fairytaleqa(tmp_path, 'sections')
  assert dataset.documents['fox, section 2'].text == 'It slept.'
  first, second = dataset.splits['train']
  assert first.document_ids == ('fox, section 1',)
  # 'It slept.' stands in every story, and is filed once.
  assert second.document_ids == ('fox, section 1', 'fox, section 2')
  assert len(dataset.documents) == 3
  inner = tmp_path / 'data-by-train-split'
  path = inner / 'questions/train/fox-questions.csv'
  row = ('1', 'Who?', 'Ada', '', '3', *3 * ' ')
  write_rows(path, QUESTION_COLUMNS, [row])
  # Also of whole stories, which may have been cut off.
  for part in ('sections', 'stories'):
    with pytest.raises(ValueError, match="line 2: .*'3', .* the sections 1,"):
      read_fairytaleqa(tmp_path, part)
  for strange in ('1-2', '1.0'):
    write_rows(path, QUESTION_COLUMNS, [(*row[:4], strange, *row[5:])])
    with pytest.raises(ValueError, match=f"line 2: .*'{strange}', .* sections"):
      read_fairytaleqa(tmp_path, 'sections')
  write_rows(path, QUESTION_COLUMNS, [(*row[:4], ' ', *row[5:])])
  with pytest.raises(ValueError, match='line 2: cor_section names no section'):
    read_fairytaleqa(tmp_path, 'sections')
  # Whole stories do not ask for it.
  assert len(read_fairytaleqa(tmp_path).splits['train']) == 1
  write_rows(path, QUESTION_COLUMNS, [row])
  story = inner / 'section-stories/train/fox-story.csv'
  write_rows(story, ('section', 'text'), [('3', 'One.'), ('3', 'Two.')])
  (question,) = read_fairytaleqa(tmp_path, 'sections').splits['train']
  assert question.document_ids == ('fox, section 3', 'fox, section 3 (2)')


def test_a_damaged_row_is_named(tmp_path):
  write_fairytaleqa(tmp_path)
  path = tmp_path / 'data-by-train-split/questions/train/fox-questions.csv'
  rows = [('1', 'Who?', 'Ada', *5 * ' '), ('2', ' ', 'Ada', *5 * ' ')]
  write_rows(path, QUESTION_COLUMNS, rows)
  with pytest.raises(
    ValueError, match="fox-questions.csv, line 3: .*'fox-2' h"
  ):
    read_fairytaleqa(tmp_path)
  write_rows(path, QUESTION_COLUMNS, [('1', 'Who?', ' ', *5 * ' ')])
  with pytest.raises(ValueError, match="line 2: Example 'fox-1' needs one or"):
    read_fairytaleqa(tmp_path)
  write_rows(path, QUESTION_COLUMNS[:3], [('1', 'Who?', 'Ada')])
  with pytest.raises(ValueError, match="line 1 has no column 'answer4'"):
    read_fairytaleqa(tmp_path)


def test_missing_files_are_told_with_their_address(tmp_path):
  with pytest.raises(
    FileNotFoundError, match='git clone https://github.com/uc'
  ):
    read_fairytaleqa(tmp_path)
  write_fairytaleqa(tmp_path)
  inner = tmp_path / 'data-by-train-split'
  (inner / 'section-stories/val/owl-story.csv').unlink()
  with pytest.raises(FileNotFoundError, match='owl-questions.csv has no story'):
    read_fairytaleqa(tmp_path)
  write_fairytaleqa(tmp_path)
  story = inner / 'section-stories/train/cat-story.csv'
  shutil.copy(inner / 'section-stories/train/fox-story.csv', story)
  with pytest.raises(FileNotFoundError, match='cat-story.csv has no questions'):
    read_fairytaleqa(tmp_path)
  story.unlink()
  (inner / 'questions/val/owl-questions.csv').unlink()
  with pytest.raises(ValueError, match=r'val. holds no \*-questions.csv'):
    read_fairytaleqa(tmp_path)
  with pytest.raises(ValueError, match='is no folder of question files'):
    read_fairytaleqa(inner / 'questions/train/fox-questions.csv')


def test_a_story_in_two_splits_is_named(tmp_path):
  write_fairytaleqa(tmp_path)
  inner = tmp_path / 'data-by-train-split'
  for folder in ('questions', 'section-stories'):
    shutil.copytree(
      inner / folder / 'train', inner / folder / 'val', dirs_exist_ok=True
    )
  with pytest.raises(
    ValueError, match="val/fox-questions.csv, line 2: .* have the id 'fox-1'"
  ):
    read_fairytaleqa(tmp_path)
