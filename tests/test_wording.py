from made_up_systems import made_up_systems, scored_system

from lloco_jax.evaluation import wording
from lloco_jax.evaluation.comparison import SystemResult, compare_systems


def compared(main, control, documents=None):
  systems = [
    scored_system('LLoCO', main, documents),
    scored_system('control', control, documents),
  ]
  return compare_systems(systems, 'f1', ['control'])


def test_control_is_beaten_only_where_the_interval_is_above_zero():
  assert wording.findings(compared([1.0] * 20, [0.0] * 20)) == [
    'LLoCO is above "control" by +100.0 (+100.0 to +100.0).'
  ]
  even = compared([1.0, 0.0] * 10, [0.0, 1.0] * 9 + [0.0, 0.0])
  (sentence,) = wording.findings(even)
  assert sentence.startswith('LLoCO is not shown to be above "control": +5.0')
  assert sentence.endswith('includes zero.')
  odd = compared([0.0, 1.0] * 9 + [0.0, 0.0], [1.0, 0.0] * 10)
  (sentence,) = wording.findings(odd)
  assert sentence.startswith('LLoCO is not shown to be above "control": -5.0')
  assert wording.findings(compared([0.0] * 20, [1.0] * 20)) == [
    'LLoCO is below "control" by -100.0 (-100.0 to -100.0).'
  ]
  tie = compared([0.5] * 20, [0.5] * 20)
  assert wording.verdict(tie.differences['control']) == 'neither'


def test_one_document_shows_nothing():
  results = compared([1.0] * 5, [0.0] * 5, ['d'] * 5)
  (sentence,) = wording.findings(results)
  assert 'not shown' in sentence
  assert 'one document' in sentence


def test_few_documents_and_missing_answers_are_told():
  systems = [
    scored_system('LLoCO', [1.0] * 9),
    scored_system('full context', [1.0] * 4),
    SystemResult('huge', '', ()),
  ]
  results = compare_systems(systems, 'f1', ['huge'])
  no_pair, half, none, few = wording.findings(results)
  assert no_pair == 'LLoCO and "huge" answered no question in common.'
  assert half.startswith('"full context" answered 4 of 9 questions')
  assert none.startswith('"huge" answered 0 of 9 questions')
  assert few.startswith('The questions are about 9 documents')


def test_cells_stand_under_their_headers():
  results = compare_systems(made_up_systems(), 'f1', ['no context'])
  headers = wording.score_headers(results, every_score=True)
  cells = wording.score_cells(results, results.systems[1], every_score=True)
  row = dict(zip(headers, cells, strict=True))
  mean = results.scores[results.systems[1].name].mean
  assert row['F1 x100'] == f'{100 * mean:.1f}'
  assert row['exact match x100'] == f'{50 * mean:.1f}'
  assert row['tokens read'] == '2,048'
  assert row['s to first token'] == '1.90'
  assert row['answers'] == '96'


def test_unknown_values_are_dashes():
  systems = [scored_system('LLoCO', [1.0]), SystemResult('huge', '', ())]
  results = compare_systems(systems, 'f1', ['huge'])
  unscored = wording.score_cells(results, systems[1], every_score=True)
  assert unscored == ['huge', '-', '-', '0', '-', '-', '-']
  unpaired = wording.difference_cells('huge', results.differences['huge'])
  assert unpaired[1:3] == ['-', '-']
