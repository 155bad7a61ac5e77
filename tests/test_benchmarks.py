"""The benchmarks: their arithmetic, and each of them at toy size."""

import importlib.util
import json
import os
import subprocess
import sys

from conftest import ROOT
import numpy as np
import pytest

TORCH_SIDE = ('torch', 'transformers', 'peft')


@pytest.fixture
def paired(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  from benchmarks import paired

  return paired


def run(name, folder, *flags):
  """The JSON that a benchmark writes at toy size."""
  output = folder / 'result.json'
  flags = flags or ('--repeats', '2')
  command = [f'benchmarks/{name}.py', '--tiny', *flags]
  subprocess.run(
    [sys.executable, *command, '--output', str(output)],
    cwd=ROOT,
    check=True,
    # Several threads of torch take minutes where the cores are busy.
    env=os.environ | {'OMP_NUM_THREADS': '1'},
  )
  result = json.loads(output.read_text())
  assert result['environment']['command'].startswith(
    f'python benchmarks/{name}.py --tiny'
  )
  assert {'jax', 'flax'} <= result['environment']['versions'].keys()
  return list(result['tables'].values())


def test_ratios_are_taken_within_a_round(paired):
  # A slow second round: the ratio of the medians would be 4 / 3.
  ours = paired.Measured([1.0, 3.0, 1.5], [[np.ones(2)]] * 3, peak=10.0)
  theirs = paired.Measured(
    [2.0, 9.0, 4.0], [[np.array([1.0, 0.8])]] * 3, peak=40.0
  )
  (row,) = paired.pair_rows({'a': ours, 'b': theirs}, [('a', 'b')])
  assert row['times as fast'] == pytest.approx(4.0 / 1.5)
  assert (row['lowest'], row['highest']) == (2.0, 3.0)
  assert row['memory ratio'] == 0.25
  assert row['difference'] == pytest.approx(0.2)


def test_unequal_tokens_are_counted(paired):
  first, second = np.array([[1, 2], [3, 4]]), np.array([[1, 2], [5, 4]])
  assert paired.difference(first, second) == 0.25


def test_the_peak_is_that_of_the_measured_rounds():
  """In a process of its own, whose freed memory nothing else takes."""
  program = (
    'import numpy as np; from benchmarks import paired\n'
    'before = np.ones(2**23); del before\n'
    'paired.forget_peak(); start = paired.resident("VmHWM")\n'
    'now = paired.resident("VmRSS")\n'
    'during = np.ones(2**22); del during\n'
    'print(start, now, paired.resident("VmHWM"))\n'
  )
  command = [sys.executable, '-c', program]
  said = subprocess.check_output(command, cwd=ROOT, text=True)
  start, now, peak = map(float, said.split())
  assert start == pytest.approx(now, abs=8)
  assert 24 < peak - start < 48


def test_a_worker_holds_its_own_libraries_alone():
  program = (
    'import sys; from benchmarks import common, examples, paired; '
    'print([x for x in ("jax", "torch", "lloco_jax") if x in sys.modules])'
  )
  command = [sys.executable, '-c', program]
  assert subprocess.check_output(command, cwd=ROOT, text=True) == '[]\n'


@pytest.mark.slow
@pytest.mark.skipif(
  not all(map(importlib.util.find_spec, TORCH_SIDE)),
  reason='the other side needs torch, transformers and peft',
)
@pytest.mark.parametrize(
  'name',
  [
    *('compression', 'compressor_training', 'finetuning', 'generation'),
  ],
)
def test_both_sides_compute_the_same(name, tmp_path):
  sides, pairs = run(name, tmp_path)
  assert all(side['seconds'] > 0 and side['peak MiB'] > 0 for side in sides)
  for pair in pairs:
    assert pair['lowest'] <= pair['times as fast'] <= pair['highest']
    assert pair['difference'] < (1e-5 if name != 'generation' else 1e-9)


@pytest.mark.slow
def test_prefix_reuse_counts_positions(tmp_path):
  (one, three), memory = run('prefix_reuse', tmp_path)
  assert one['fewer positions'] == 1
  # Segments of 16 with 4 summary tokens, behind 0, 4 and 8 vectors.
  assert three['fewer positions'] == pytest.approx(
    (20 + 24 + 28) / (20 + 24 + 24)
  )
  assert three['difference'] < 1e-5
  # Keys and values, 2 layers, 2 heads of 8, of two segments' vectors.
  kept = 2 * 2 * 2 * 8 * 4 * 8
  assert memory[1]['kept prefix'] == pytest.approx(kept / 2**20)
  assert memory[1]['reuse peak'] > memory[1]['kept prefix']


@pytest.mark.slow
def test_throughput_has_a_row_a_case(tmp_path):
  cases = ('finetune', 'compressor', 'compress:xla', 'decode', 'decode:2,int8')
  (rows,) = run('throughput', tmp_path, '--cases', *cases)
  words = 'stage', 'rows', 'attention', 'base'
  assert [tuple(row[word] for word in words) for row in rows] == [
    ('finetune', 1, 'default', 'float'),
    ('compressor', 1, 'default', 'float'),
    ('compress', 1, 'xla', 'float'),
    ('decode', 1, 'default', 'float'),
    ('decode', 2, 'default', 'int8'),
  ]
  for row in rows:
    assert min(row['seconds'], row['tokens/s'], row['TFLOP/s']) > 0
    assert (row['GB/s'] is None) == (row['stage'] != 'decode')


@pytest.mark.slow
def test_headline_has_a_row_a_length(tmp_path):
  first, later, training = run('headline', tmp_path)
  assert [row['context tokens'] for row in first] == [32, 64]
  assert [row['vectors'] for row in later] == [4, 8]
  assert [row['context tokens'] for row in training] == [32]
  for row in first + later + training:
    assert min(row['full context'], row['summaries'], row['ratio']) > 0


@pytest.mark.slow
def test_serving_answers_the_same_in_any_number_of_slots(tmp_path):
  sides, (adapters,), *slots = run('serving', tmp_path)
  slots = [row for (row,) in slots]
  assert [side['side'] for side in sides] == [
    'mixed', 'one adapter', 'one slot', 'generate',
  ]  # fmt: skip
  assert all(side['answers a minute'] > 0 for side in sides)
  assert [row['against'] for row in slots] == ['one slot', 'generate']
  assert all(row['difference'] == 0 for row in slots)
  assert adapters['lowest'] <= adapters['times as fast']


@pytest.mark.slow
def test_quantization_compares_the_same_tokens(tmp_path):
  loss, tokens, exact = run('quantization', tmp_path, '--new', '3')
  (row,) = loss
  assert row['passages'] == row['documents'] == 3
  assert row['tokens'] == 3 * 31
  assert row['low'] <= row['difference in nats'] <= row['high']
  assert row['difference in nats'] == pytest.approx(
    np.log(row['int8 perplexity'] / row['float perplexity'])
  )
  assert [row['answers'] for row in tokens] == [3, 6]
  for row in tokens:
    assert row['share'] == row['equal'] / row['answers']
  assert exact[0]['answers'] == 6


@pytest.mark.slow
def test_a_library_finds_what_it_was_given(tmp_path):
  tables = run('library', tmp_path, '--questions', '5')
  for rows in tables:
    assert [row['passages'] for row in rows] == [30, 900]
  _, found, held = tables
  assert found[0]['in the best 5'] == 1 and found[1]['in the best 5'] > 0.5
  assert all(0 < row['p50, ms'] <= row['p99, ms'] for row in found)
  assert all(row['bytes a passage'] > row['of them text'] > 900 for row in held)


@pytest.mark.slow
def test_the_endpoint_answers_as_the_engine(tmp_path):
  rows, pairs = run('endpoint', tmp_path, '--repeats', '1')
  assert [row['side'] for row in rows] == [
    'endpoint',
    'one connection',
    'engine',
  ]
  assert all(row['answers a minute'] > 0 for row in rows)
  assert [row['difference'] for row in pairs] == [0, 0]


@pytest.mark.slow
def test_retrieval_has_a_row_a_search(tmp_path):
  recalls, differences, answers, costs = run(
    'retrieval', tmp_path, '--questions', '0'
  )
  assert [row['search'] for row in recalls] == [
    'BM25', 'embedding', 'hybrid', 'library',
  ]  # fmt: skip
  for row in recalls:
    # Words that no other passage has.
    assert row['search'] != 'BM25' or row['recall@1'] == 1
    assert row['recall@1'] <= row['recall@5'] > 0.9
    assert row['questions'] == row['clusters'] == 40
  assert len(differences) == 3
  assert [row['questions'] for row in answers] == [2] * 5
  assert len(costs) == 3


@pytest.mark.slow
def test_distillation_has_a_row_a_weight(tmp_path):
  (rows,) = run('library_distillation', tmp_path, '--weights', '0', '1')
  none, pairs, taught = rows
  assert [row['distillation'] for row in rows] == ['no adapter', '0', '1']
  # Learnt from pairs that have the answer, and from a base that has not.
  assert pairs['nats'] < taught['nats'] and pairs['nats'] < none['nats']
  assert pairs['nats less first'] == 0 < taught['nats less first']


def test_what_answers_keep(tmp_path):
  folders = 'a/compressor', 'b/compressor'
  (rows,) = run('answers_kept', tmp_path, '--compressors', *folders)
  by = {row['reads']: row for row in rows}
  assert len(by) == len(rows) == 6
  assert [row['positions'] for row in rows] == [64, 4, 4, 4, 4, 4]
  for row in rows:
    for gain, low, high in (
      ('gain over other', 'low', 'high'),
      ('gain over nothing', 'low ', 'high '),
    ):
      assert row[low] <= row[gain] <= row[high]
  # The toy is its own base, so both readers are one.
  compressor, base = (
    by[f'b/compressor, by the {who}'] for who in ('compressor', 'base')
  )
  assert compressor['own'] == base['own'] != by['the text']['own']
  (rows,) = run('answers_kept', tmp_path, '--segment', '16')
  assert [row['positions'] for row in rows] == [64, 8, 8, 8]
