import dataclasses
import hashlib
import json
import os

from made_up_systems import CONTROLS, made_up_systems, scored_system
import numpy as np
import pytest

from lloco_jax.evaluation.intervals import bootstrap_mean
from lloco_jax.evaluation.report import write_report
from lloco_jax.evaluation.results import (
  PREDICTIONS_FILE,
  RESULTS_FILE,
  SystemResult,
  read_results,
  write_results,
)


def test_what_is_written_is_read_back(tmp_path):
  folder = tmp_path / 'new/folder'
  written = write_results(folder, made_up_systems(), 'f1', CONTROLS, seed=4)
  assert read_results(folder) == written
  assert sorted(os.listdir(folder)) == [PREDICTIONS_FILE, RESULTS_FILE]
  told = 'validation 3 questions; from dev.json in data.'
  write_results(folder, made_up_systems(), 'f1', CONTROLS, seed=4, data=told)
  assert json.loads((folder / RESULTS_FILE).read_text())['data'] == told
  assert read_results(folder) == written


def test_results_file_holds_scores_costs_and_differences(tmp_path):
  results = write_results(tmp_path, made_up_systems(), 'f1', CONTROLS)
  fields = json.loads((tmp_path / RESULTS_FILE).read_text('utf-8'))
  entry = next(row for row in fields['systems'] if row['name'] == 'LLoCO')
  score = results.scores['LLoCO']
  assert entry == {
    'name': 'LLoCO',
    'description': 'It is LLoCO.',
    'metric': 'f1',
    'score': score.mean,
    'interval': [score.low, score.high],
    'count': 96,
    'documents': 12,
    'tokens_read': 512,
    'seconds_to_first_token': 0.33,
    'seconds_per_answer': 1.08,
    'all_scores': {'f1': score.mean, 'exact_match': score.mean / 2},
  }
  difference = results.differences[CONTROLS[1]]
  assert fields['differences'][1] == {
    'system': 'LLoCO',
    'control': CONTROLS[1],
    'metric': 'f1',
    'difference': difference.mean,
    'interval': [difference.low, difference.high],
    'count': 96,
    'documents': 12,
  }


def test_predictions_are_one_line_an_answer_and_system(tmp_path):
  write_results(tmp_path, made_up_systems(), 'f1', CONTROLS)
  text = (tmp_path / PREDICTIONS_FILE).read_text('utf-8')
  lines = [json.loads(line) for line in text.split('\n')[:-1]]
  assert len(lines) == 9 * 96
  assert lines[0] == {
    'system': 'no context',
    'example_id': '0-0',
    'document_id': 'report 0',
    'question': 'Who signed page 0 of report 0?',
    'prediction': 'the | harbour\noffice',
    'references': ['Marta Oduya', 'M. Oduya'],
    'scores': {'f1': 0.0, 'exact_match': 0.0},
    'tags': [],
  }


def test_documents_of_one_question_are_resampled_together(tmp_path):
  """Also of what was written before their names were kept apart."""
  scores = [0.0, 0.2, 0.9, 1.0]
  system = scored_system('LLoCO', scores)
  names = ('a', 'b'), ('b', 'c'), ('c',), ('d + e',)
  answers = tuple(
    dataclasses.replace(answer, document_ids=ids)
    for answer, ids in zip(system.answers, names)
  )
  system = dataclasses.replace(system, answers=answers)
  results = write_results(tmp_path, [system], 'f1', ())
  assert results.scores['LLoCO'].clusters == 2
  assert results.scores['LLoCO'] == bootstrap_mean(scores, [0, 0, 0, 1])
  lines = (tmp_path / PREDICTIONS_FILE).read_text('utf-8').split('\n')[:-1]
  found = [json.loads(line) for line in lines]
  assert [each.get('document_ids') for each in found[:2]] == [
    ['a', 'b'],
    ['b', 'c'],
  ]
  assert [each.get('document_id') for each in found[2:]] == ['c', 'd + e']
  read = read_results(tmp_path)
  assert [answer.document_ids for answer in read.systems[0].answers] == [*names]
  report = write_report(tmp_path, read).read_text('utf-8')
  said = ', those linked by a question counted as one'
  assert f'about 2 documents{said}: with so few' in report
  assert f'2 of them{said}' in report


def test_odd_text_and_unknown_values_survive(tmp_path):
  system = scored_system('LLoCO', [np.float32(0.5)], tokens_read=np.float32(8))
  odd = 'ж\u2028\x85"\\\n\udc80'
  answer = dataclasses.replace(system.answers[0], prediction=odd)
  system = dataclasses.replace(system, answers=(answer,))
  empty = SystemResult('full context', 'fits nowhere', ())
  write_results(tmp_path, [system, empty], 'f1', ['full context'])
  back = read_results(tmp_path)
  assert back.systems[0].answers[0].prediction == odd
  assert back.systems[0].tokens_read == 8
  assert back.systems[0].seconds_per_answer is None
  assert not back.scores['LLoCO'].known
  assert back.systems[1] == empty


def test_refused_results_leave_the_old_ones(tmp_path):
  written = write_results(tmp_path, made_up_systems(), 'f1', CONTROLS)
  with pytest.raises(ValueError, match='was not evaluated'):
    write_results(tmp_path, made_up_systems(), 'f1', ['missing'])
  assert read_results(tmp_path) == written


@pytest.mark.parametrize('name', [PREDICTIONS_FILE, RESULTS_FILE])
def test_missing_file_is_named(tmp_path, name):
  write_results(tmp_path, made_up_systems(), 'f1', CONTROLS)
  (tmp_path / name).unlink()
  with pytest.raises(FileNotFoundError, match=f'{name} is missing; run'):
    read_results(tmp_path)


@pytest.mark.parametrize('name', [PREDICTIONS_FILE, RESULTS_FILE])
@pytest.mark.parametrize('share', [0.0, 0.5, 0.99])
def test_cut_off_file_is_named(tmp_path, name, share):
  write_results(tmp_path, made_up_systems(), 'f1', CONTROLS)
  content = (tmp_path / name).read_bytes()
  (tmp_path / name).write_bytes(content[: int(share * len(content))])
  with pytest.raises(ValueError, match=f'{name} is .*run the evaluation again'):
    read_results(tmp_path)


def test_missing_field_and_other_format_are_named(tmp_path):
  write_results(tmp_path, made_up_systems(), 'f1', CONTROLS)
  fields = json.loads((tmp_path / RESULTS_FILE).read_text('utf-8'))
  for change in ({'systems': [{}]}, {'format': 9}):
    (tmp_path / RESULTS_FILE).write_text(json.dumps(fields | change))
    with pytest.raises(ValueError, match='results.json is damaged'):
      read_results(tmp_path)


def test_tags_survive_and_a_file_without_any_is_read(tmp_path):
  system = scored_system('LLoCO', [1.0, 0.0])
  tagged = dataclasses.replace(system.answers[0], tags=('hard', 'length=9'))
  answers = (tagged, system.answers[1])
  system = dataclasses.replace(system, answers=answers)
  write_results(tmp_path, [system], 'f1', [])
  assert read_results(tmp_path).systems[0].answers == answers
  # As the first format was.
  lines = (tmp_path / PREDICTIONS_FILE).read_text('utf-8').splitlines()
  rows = [json.loads(line) for line in lines]
  for row in rows:
    del row['tags']
  old = ''.join(json.dumps(row) + '\n' for row in rows).encode()
  (tmp_path / PREDICTIONS_FILE).write_bytes(old)
  fields = json.loads((tmp_path / RESULTS_FILE).read_text('utf-8'))
  fields['format'] = 1
  fields['predictions']['sha256'] = hashlib.sha256(old).hexdigest()
  (tmp_path / RESULTS_FILE).write_text(json.dumps(fields))
  back = read_results(tmp_path).systems[0].answers
  assert [answer.tags for answer in back] == [(), ()]
  assert back[1] == answers[1]


def test_files_of_two_evaluations_do_not_mix(tmp_path):
  write_results(tmp_path / 'a', made_up_systems(seed=1), 'f1', CONTROLS)
  write_results(tmp_path / 'b', made_up_systems(seed=2), 'f1', CONTROLS)
  os.replace(tmp_path / 'a' / RESULTS_FILE, tmp_path / 'b' / RESULTS_FILE)
  with pytest.raises(ValueError, match='another evaluation'):
    read_results(tmp_path / 'b')
