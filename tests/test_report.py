import dataclasses
import os
import re

from made_up_systems import CONTROLS, made_up_systems, scored_system
import pytest

from lloco_jax.evaluation import report
from lloco_jax.evaluation.comparison import compare_systems


@pytest.fixture(scope='module')
def results():
  return compare_systems(made_up_systems(), 'f1', CONTROLS)


def test_table_fits_and_names_every_system(results):
  text = report.terminal_table(results)
  lines = text.splitlines()
  assert max(map(len, lines)) <= 100
  assert '\x1b' not in text
  for system in results.systems:
    row = next(line for line in lines if line.strip().startswith(system.name))
    assert f'{100 * results.scores[system.name].mean:.1f}' in row
  assert text.count('LLoCO is above "') == len(results.controls)


def test_table_does_not_depend_on_the_terminal(results, monkeypatch):
  plain = report.terminal_table(results)
  monkeypatch.setenv('COLUMNS', '40')
  monkeypatch.setenv('FORCE_COLOR', '1')
  monkeypatch.setenv('TERM', 'dumb')
  assert report.terminal_table(results) == plain
  colored = report.terminal_table(results, color=True)
  stripped = re.sub(r'\x1b\[[\d;]*m', '', colored)
  assert stripped != colored
  assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()


def test_long_names_wrap_within_the_width(results):
  systems = [
    dataclasses.replace(system, name=f'{system.name} [bold] ' * 3)
    for system in results.systems
  ]
  main = systems[5].name
  longer = compare_systems(systems, 'f1', [systems[0].name], main)
  text = report.terminal_table(longer, width=80)
  assert max(map(len, text.splitlines())) <= 80
  # Square brackets in a name are no mark-up.
  assert text.split(' minus')[0].count('[bold]') >= 27


def test_one_question_shows_every_answer(results):
  text = report.one_question(results)
  assert '\nQuestion: Who signed page 0 of report 0?\n' in text
  assert 'Right answer: Marta Oduya / M. Oduya' in text
  for system in results.systems:
    answer = next(a for a in system.answers if a.example_id == '0-0')
    words = ' '.join(answer.prediction.split())
    assert re.search(
      f'^  {re.escape(system.name)} +{re.escape(words)}$', text, re.M
    )


def test_question_shown_is_the_first_that_all_answered():
  main = scored_system('LLoCO', [1.0, 1.0, 1.0])
  other, third = (
    scored_system(name, [0.0, 0.0, 0.0]) for name in ('other', 'third')
  )
  other = dataclasses.replace(other, answers=other.answers[1:])
  third = dataclasses.replace(third, answers=third.answers[:1])
  answers = [
    dataclasses.replace(answer, question=answer.example_id, prediction='')
    for answer in main.answers
  ]
  main = dataclasses.replace(main, answers=tuple(answers))
  results = compare_systems([main, other], 'f1', [])
  text = report.one_question(results)
  assert text.startswith('The first question, not chosen:\n\nQuestion: e1\n')
  assert 'LLoCO  (nothing)' in text
  # No question is common to all three, so it is the main system's first.
  results = compare_systems([main, other, third], 'f1', [])
  text = report.one_question(results)
  assert 'Question: e0\n' in text and '  third  so\n' in text
  assert 'other' not in text


def test_report_holds_all_parts(results, tmp_path):
  details = {'Config': {'steps': 3, 'nested': {'a': [1]}}, 'Device': 'CPU'}
  path = report.write_report(tmp_path, results, details, title='The demo')
  text = path.read_text('utf-8')
  assert text.startswith('# The demo\n')
  for system in results.systems:
    assert text.count(f'| {system.name} |') == 2 + (system.name != 'LLoCO')
    assert f'**{system.name}**: It is' in text
  assert '"nested": {' in text
  assert '### Device\n\nCPU' in text
  assert '**Question:** Who signed page 0 of report 0?' in text
  assert '| the \\| harbour office |' in text
  for link in re.findall(r'!\[.*?\]\((.*?)\)', text):
    assert (tmp_path / link).read_bytes().startswith(b'\x89PNG')
  assert len(re.findall(r'!\[', text)) == 2
  assert sorted(os.listdir(tmp_path)) == sorted(
    [report.REPORT_FILE, report.SCORE_PLOT, report.SECONDS_PLOT]
  )


def test_every_table_row_has_the_cells_of_its_header(results, tmp_path):
  text = report.write_report(tmp_path, results).read_text('utf-8')
  tables = re.findall(r'(?:^\|.*\n)+', text, re.M)
  assert len(tables) == 3
  for table in tables:
    cells = {len(re.findall(r'(?<!\\)\|', line)) for line in table.splitlines()}
    assert len(cells) == 1


def test_report_says_where_lloco_is_not_above(tmp_path):
  systems = [
    scored_system('LLoCO', [0.0] * 12),
    scored_system('finetuned', [1.0] * 12),
  ]
  results = compare_systems(systems, 'f1', ['finetuned'])
  text = report.write_report(tmp_path, results).read_text('utf-8')
  claims = text.split('## What it shows')[1].split('##')[0]
  assert 'LLoCO is below "finetuned" by -100.0' in claims
  assert 'is below' in report.terminal_table(results)


def test_report_without_costs_has_no_plots(tmp_path):
  results = compare_systems([scored_system('LLoCO', [1.0, 0.0])], 'f1', [])
  text = report.write_report(tmp_path, results).read_text('utf-8')
  assert '![' not in text
  assert 'nothing to claim' in text
  assert os.listdir(tmp_path) == [report.REPORT_FILE]
