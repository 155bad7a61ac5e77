"""train.py and eval.py as a user runs them, killed and started again."""

import os
import signal
import subprocess
import time

import pytest
from small_run import ROOT, small_run
from test_experiment import changed, small_config, write_model

from lloco_jax import experiment

DOCUMENTS = 20


def command(script, workdir, model, *flags):
  return small_run(
    script,
    workdir,
    model,
    '--config.data.train_documents=12',
    '--config.data.validation_documents=8',
    '--config.compression.segment_length=16',
    '--config.compression.rows=1',
    '--config.epochs=4',
    *flags,
  )


def run(arguments):
  return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)


def kill_when(arguments, happened, seconds=300):
  """Starts a command and kills it as soon as `happened()` is true."""
  process = subprocess.Popen(
    arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  end = time.monotonic() + seconds
  while not happened():
    assert process.poll() is None, 'it ended before it could be killed'
    assert time.monotonic() < end
    time.sleep(0.01)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()


@pytest.mark.parametrize(
  'stage, fields, sentence',
  [
    (experiment.train, {'remat': 'some'}, "config.remat is 'some'; .* none"),
    (experiment.train, {'batch__rows': 0}, 'config.batch.rows is 0'),
    (experiment.train, {'epochs': 0}, 'config.epochs is 0'),
    (
      experiment.evaluate,
      {'evaluation__metric': 'bleu'},
      "metric is 'bleu'; .* exact_match",
    ),
    (experiment.evaluate, {'adapters': ()}, "'lloco' must be among them"),
    (
      experiment.evaluate,
      {'evaluation__split': 'dev'},
      "split 'dev', only of train, validation",
    ),
  ],
)
def test_bad_settings_are_refused_before_compression(
  tmp_path, stage, fields, sentence
):
  config = small_config(write_model(tmp_path / 'model'))
  with pytest.raises(ValueError, match=sentence):
    stage(changed(config, **fields), tmp_path / 'w')
  assert not (tmp_path / 'w/store').exists()


def test_a_question_beyond_the_window_is_refused_before_compression(tmp_path):
  config = small_config(write_model(tmp_path / 'model', window=24))
  config.compression.segment_length = 16
  with pytest.raises(ValueError, match="of example '.*' takes .* window of 24"):
    experiment.train(config, tmp_path / 'w')
  assert not (tmp_path / 'w/store').exists()


@pytest.mark.slow
def test_run_killed_twice_ends_with_the_same_adapter(tmp_path):
  model = write_model(tmp_path / 'model')
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  started = run(command('train.py', whole, model))
  assert started.returncode == 0, started.stderr
  assert 'Going on' not in started.stdout
  again = command('train.py', killed, model)
  # First between two documents of the compression, then in the finetuning.
  kill_when(again, lambda: any(killed.glob('store/**/*.safetensors')))
  stored = {
    path: path.stat().st_mtime_ns
    for path in killed.glob('store/**/*.safetensors')
  }
  assert 0 < len(stored) < DOCUMENTS
  steps = killed / 'finetuning/lloco/checkpoints'
  kill_when(again, lambda: any(p.name.isdigit() for p in steps.glob('*')))
  adapter = 'adapters/lloco/adapter_model.safetensors'
  assert not (killed / adapter).exists()
  ended = run(again)
  assert ended.returncode == 0, ended.stderr
  assert 'Going on from step' in ended.stdout
  assert stored == {path: path.stat().st_mtime_ns for path in stored}
  assert (killed / adapter).read_bytes() == (whole / adapter).read_bytes()
  stores = [
    {p.name: p.read_bytes() for p in place.glob('store/**/*.safetensors')}
    for place in (whole, killed)
  ]
  assert len(stores[0]) == DOCUMENTS and stores[0] == stores[1]
  evaluated = run(command('eval.py', killed, model))
  assert evaluated.returncode == 0, evaluated.stderr
  assert 'LLoCO' in evaluated.stdout
  assert (killed / 'evaluation/report.md').is_file()


@pytest.mark.slow
def test_mistakes_end_in_one_sentence(tmp_path):
  model = write_model(tmp_path / 'model')
  cases = {
    '--config.epoch=3': 'epoch',
    '--config.epochs=three': 'epochs',
    '--config.adapters=("lloca",)': 'choose from',
    '--config.model.name=no-such-folder': 'no-such-folder',
  }
  for flag, word in cases.items():
    # One after the other in one workdir: none of them claims it.
    result = run(command('train.py', tmp_path / 'w', model, flag))
    assert result.returncode != 0
    assert word in result.stderr
    assert 'Traceback' not in result.stderr, result.stderr
