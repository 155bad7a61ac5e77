"""Pairs of runs against differences and draws made by hand."""

import dataclasses
import json
import math
import os

from made_up_systems import scored_system
import numpy as np
import pytest

from lloco_jax.__main__ import main
from lloco_jax.evaluation.pairing import (
  compare_runs,
  pairing_fields,
  pairing_text,
)
from lloco_jax.evaluation.results import RESULTS_FILE, write_results

# Two questions a document.
DOCUMENTS = [f'd{number // 2}' for number in range(8)]
A = [1.0, 0.0, 0.5, 0.5, 0.0, 1.0, 0.25, 0.0]
B = [1.0, 1.0, 0.5, 0.25, 0.0, 0.0, 0.25, 0.5]


def write_run(folder, values, other=None, metric='f1', change=None, **fields):
  """A run of LLoCO and another system, which answered less."""
  main_system = scored_system('LLoCO', values, DOCUMENTS[: len(values)])
  answers = [
    dataclasses.replace(answer, prediction=f'so {answer.scores["f1"]}')
    for answer in main_system.answers
  ]
  if change is not None:
    answers[2] = dataclasses.replace(answers[2], **change)
  scores = {'f1', metric}
  answers = [
    dataclasses.replace(each, scores=dict.fromkeys(scores, each.scores['f1']))
    for each in answers
  ]
  systems = [
    dataclasses.replace(main_system, answers=tuple(answers)),
    dataclasses.replace(
      main_system, name='full context', answers=tuple(answers[: other or 3])
    ),
  ]
  write_results(folder / 'evaluation', systems, metric, [], **fields)
  return folder


@pytest.fixture
def runs(tmp_path):
  # In another order, as another run may have them.
  write_run(tmp_path / 'a', A, seed=3, samples=400)
  write_run(tmp_path / 'b', B, other=5)
  return tmp_path / 'a', tmp_path / 'b'


def test_the_difference_is_over_pairs_and_documents(runs):
  found = compare_runs(*runs)
  assert (found.system, found.metric) == ('LLoCO', 'f1')
  assert [score.mean for score in found.scores] == [np.mean(A), np.mean(B)]
  difference = found.difference
  assert difference.mean == pytest.approx(np.mean(B) - np.mean(A))
  assert (difference.count, difference.clusters) == (8, 4)
  # The same draws of whole documents, one after the other.
  steps = (np.array(B) - np.array(A)).reshape(4, 2)
  draws = np.random.default_rng(3).integers(4, size=(400, 4))
  means = [steps[draw].mean() for draw in draws]
  low, high = np.quantile(means, [0.025, 0.975])
  assert (difference.low, difference.high) == pytest.approx((low, high))


def test_changes_are_the_answers_with_another_score(runs):
  changes = compare_runs(*runs).changes
  expected = {f'e{n}': (a, b) for n, (a, b) in enumerate(zip(A, B)) if a != b}
  assert {each.example_id: each.scores for each in changes} == expected
  sizes = [abs(each.scores[1] - each.scores[0]) for each in changes]
  assert sizes == sorted(sizes, reverse=True)
  (change,) = (each for each in changes if each.example_id == 'e3')
  assert change.predictions == ('so 0.5', 'so 0.25')
  assert (change.question, change.references) == ('Why?', ('so',))
  assert change.document_id == 'd1'


def test_a_system_may_have_answered_more_in_one_run(runs):
  found = compare_runs(*runs, system='full context')
  assert found.answered == (3, 5)
  assert found.difference.count == 3
  assert found.difference.mean == pytest.approx(1 / 3)
  text = pairing_text(found)
  assert 'full context, f1 x100 on 3 questions about 2 documents' in text
  assert 'B answered 2 more, which the other did not.' in text
  assert 'A answered' not in text


def test_the_text_says_scores_interval_and_changes(runs):
  found = compare_runs(*runs)
  text = pairing_text(found, most=2)
  assert 'A  ' + str(runs[0]) in text
  low, high = 100 * found.difference.low, 100 * found.difference.high
  assert f'B less A: +3.1 ({low:+.1f} to {high:+.1f}; 95% interval' in text
  assert '4 scores changed: 2 are higher in B and 2 in A.' in text
  assert 'The 2 that changed most:' in text
  assert text.count('Right answer: so') == 2
  assert 'e1: 0 -> 100\n  Question: Why?\n' in text
  assert '  A: so 0.0\n  B: so 1.0\n' in text
  everything = pairing_text(found, most=4)
  assert everything.count('Right answer') == 4
  assert 'changed most' not in everything
  assert 'Right answer' not in pairing_text(found, most=0)
  assert max(map(len, text.splitlines()[4:])) <= 80


def test_a_run_against_itself_has_no_difference(runs):
  found = compare_runs(runs[0], runs[0] / 'evaluation')
  assert (found.difference.low, found.difference.high) == (0, 0)
  assert found.changes == ()
  assert '0 scores changed' in pairing_text(found)


def test_one_document_has_no_interval_and_null_in_json(tmp_path):
  a = write_run(tmp_path / 'a', A[:2])
  b = write_run(tmp_path / 'b', B[:2])
  found = compare_runs(a, b)
  assert not found.difference.known
  fields = pairing_fields(found)
  assert fields['difference']['low'] is None
  assert fields['difference']['mean'] == 0.5
  assert json.dumps(fields, allow_nan=False)
  assert 'B less A: +50.0 (-;' in pairing_text(found)


def test_several_scores_make_one(tmp_path):
  folders = []
  for name, first in (('a', 0.8), ('b', 0.2)):
    system = scored_system('LLoCO', [1.0, 1.0])
    # The geometric mean of the first is 0 in both runs.
    scores = [
      {'rouge1': first, 'rouge2': 0.0, 'rougeL': 0.4},
      {'rouge1': 0.5, 'rouge2': 0.2, 'rougeL': 0.4},
    ]
    answers = tuple(
      dataclasses.replace(answer, scores=found)
      for answer, found in zip(system.answers, scores)
    )
    system = dataclasses.replace(system, answers=answers)
    folders.append(tmp_path / name)
    write_results(folders[-1] / 'evaluation', [system], 'scrolls_rouge', [])
  found = compare_runs(*folders)
  before, after = ((0.65 * 0.1 * 0.4), (0.35 * 0.1 * 0.4))
  assert found.difference.mean == pytest.approx(
    math.cbrt(after) - math.cbrt(before)
  )
  (change,) = found.changes
  assert change.scores == pytest.approx((0.4, 0.2))


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path):
  a, _ = runs
  with pytest.raises(FileNotFoundError, match=r"none' holds no evaluation \("):
    compare_runs(a, tmp_path / 'none')
  other = write_run(tmp_path / 'em', B, metric='exact_match')
  with pytest.raises(ValueError, match="b?a' is scored by f1 and '.*em' by ex"):
    compare_runs(a, other)
  fewer = write_run(tmp_path / 'fewer', B[:6])
  for pair in ((a, fewer), (fewer, a)):
    with pytest.raises(ValueError, match="different examples: 2 of '.*a', suc"):
      compare_runs(*pair)
  for name, value in (
    ('question', 'Who?'),
    ('references', ('not so',)),
    ('document_ids', ('d9',)),
  ):
    changed = write_run(tmp_path / name, B, change={name: value})
    said = name.removesuffix('_ids')
    with pytest.raises(ValueError, match=f"'e2' has another {said} in"):
      compare_runs(a, changed)
  with pytest.raises(ValueError, match="no system 'x'; choose one of LLoCO, f"):
    compare_runs(*runs, system='x')
  os.truncate(a / 'evaluation' / RESULTS_FILE, 9)
  with pytest.raises(ValueError, match='is damaged'):
    compare_runs(*runs)


def test_several_documents_may_have_been_one_name(tmp_path):
  """As in the predictions of earlier versions."""
  a, b = (
    write_run(tmp_path / name, B, change={'document_ids': ids})
    for name, ids in (('old', ('x + y',)), ('new', ('x', 'y')))
  )
  assert compare_runs(a, b).difference.mean == 0


def test_the_command_prints_and_writes(runs, tmp_path, capsys):
  output = tmp_path / 'out.json'
  main(['compare', *map(str, runs), '--most=1', f'--output={output}'])
  said = capsys.readouterr().out
  assert said == pairing_text(compare_runs(*runs), 1)
  fields = json.loads(output.read_text('utf-8'))
  assert len(fields['changes']) == 4
  assert fields['difference']['mean'] == pytest.approx(np.mean(B) - np.mean(A))
  assert fields['runs'] == [str(run) for run in runs]


def test_the_command_says_errors_in_a_sentence(runs, capsys):
  with pytest.raises(SystemExit, match='FileNotFoundError: .* holds no eval'):
    main(['compare', str(runs[0]), 'nowhere'])
  with pytest.raises(SystemExit, match='--most is -1; it must be 0 or more'):
    main(['compare', *map(str, runs), '--most=-1'])
  with pytest.raises(SystemExit):
    main([])
  assert 'required: COMMAND' in capsys.readouterr().err
