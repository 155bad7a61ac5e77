"""LongBench rows and the table of its tasks."""

from official_files import STORY, longbench_row, write_lines, write_longbench
import pytest

from lloco_jax.data.longbench import TASKS, read_longbench


def test_rows_are_for_validation(tmp_path):
  write_longbench(tmp_path)
  dataset = read_longbench(tmp_path, 'narrativeqa')
  assert list(dataset.splits) == ['validation']
  first, second = dataset.splits['validation']
  assert (first.question, first.answers) == ('Colour?', ('red', 'Red'))
  assert first.document_ids == second.document_ids == ('l1',)
  assert dataset.documents['l1'].text == STORY
  assert read_longbench(tmp_path / 'data', 'narrativeqa').splits
  assert read_longbench(tmp_path, 'narrativeqa', ('train',)).splits


def test_a_task_without_inputs_asks_its_own_question(tmp_path):
  write_longbench(tmp_path, 'gov_report')
  first, second = read_longbench(tmp_path, 'gov_report').splits['validation']
  assert first.question == 'Colour?'
  assert second.question == TASKS['gov_report'].question
  write_lines(tmp_path / 'qasper.jsonl', [longbench_row('x', '', 'T', 'a')])
  with pytest.raises(ValueError, match="line 1: .*'x' has an empty question"):
    read_longbench(tmp_path, 'qasper')


def test_the_tasks_of_the_paper():
  tasks = list(TASKS)[:9]
  assert tasks == [
    *('narrativeqa', 'qasper', 'multifieldqa_en'),
    *('hotpotqa', '2wikimqa', 'musique'),
    *('gov_report', 'qmsum', 'multi_news'),
  ]
  lengths = [TASKS[name].max_new_tokens for name in tasks]
  assert lengths == [128, 128, 64, 32, 32, 32, 512, 512, 512]
  metrics = [TASKS[name].metric for name in tasks]
  assert metrics == ['f1'] * 6 + ['longbench_rouge_l'] * 3


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    (longbench_row('x', 'Q', ' ', 'a'), "Document 'x' is empty"),
    (longbench_row('x', 'Q', 'T'), "Field 'answers' is not a list"),
    (longbench_row('x', 'Q', 'T', ' '), "'x' needs one or more answers"),
    ({'input': 'Q'}, "Field '_id' is missing"),
  ],
)
def test_a_damaged_row_is_named(tmp_path, row, message):
  rows = [longbench_row('a', 'Q', 'T', 'a'), row]
  write_lines(tmp_path / 'qasper.jsonl', rows)
  with pytest.raises(ValueError, match=f'qasper.jsonl, line 2: .*{message}'):
    read_longbench(tmp_path, 'qasper')


def test_what_is_missing_is_told(tmp_path):
  with pytest.raises(
    FileNotFoundError, match='LongBench/resolve/main/data.zip'
  ):
    read_longbench(tmp_path, 'qasper')
  with pytest.raises(ValueError, match="no task 'squad' here; use one of narr"):
    read_longbench(tmp_path, 'squad')


def test_the_file_of_another_task(tmp_path):
  row = {**longbench_row('x', 'Who?', 'T', 'a'), 'dataset': 'gov_report'}
  write_lines(tmp_path / 'qasper.jsonl', [row])
  with pytest.raises(
    ValueError, match="line 1: .*of the task 'gov_report', and"
  ):
    read_longbench(tmp_path, 'qasper')
  row['dataset'] = 'qasper'
  write_lines(tmp_path / 'qasper.jsonl', [row])
  assert read_longbench(tmp_path, 'qasper').splits['validation']
