"""train.py and eval.py in two processes do what one does."""

import json
import os
import re
import shutil
import socket
import subprocess

import numpy as np
import pytest
import safetensors.numpy
from small_run import ROOT, small_run
from test_experiment import write_model

from lloco_jax import processes


def command(script, workdir, model, *flags):
  return small_run(
    script,
    workdir,
    model,
    '--config.data.train_documents=8',
    '--config.data.validation_documents=3',
    '--config.compression.segment_length=64',
    '--config.compression.rows=2',
    '--config.batch.rows=2',
    '--config.lora.dropout=0.0',
    '--config.epochs=1',
    '--config.evaluation.max_new_tokens=4',
    *flags,
  )


def run(count, *arguments):
  """Runs a command in so many processes, and gives what each printed."""
  environment = {**os.environ, 'JAX_CPU_COLLECTIVES_IMPLEMENTATION': 'gloo'}
  # The programs of two devices cannot be cached beside those of one.
  environment.pop('JAX_COMPILATION_CACHE_DIR', None)
  if count > 1:
    with socket.socket() as free:
      free.bind(('localhost', 0))
      port = free.getsockname()[1]
    environment['JAX_COORDINATOR_ADDRESS'] = f'localhost:{port}'
    environment['LLOCO_PROCESSES'] = str(count)
    arguments = [
      *arguments,
      '--config.mesh.processes=True',
      f'--config.mesh.axes.data={count}',
    ]
  started = [
    subprocess.Popen(
      arguments,
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env={**environment, 'LLOCO_PROCESS': str(index)},
    )
    for index in range(count)
  ]
  said = [process.communicate(timeout=300) for process in started]
  # What the collectives of a CPU say of themselves.
  said = [(re.sub(r'\[Gloo\].*\n', '', said), told) for said, told in said]
  for process, (_, errors) in zip(started, said):
    assert process.returncode == 0, errors[-3000:]
  return [output for output, _ in said]


def losses(workdir):
  lines = workdir / 'finetuning/lloco/metrics.jsonl'
  return [json.loads(line)['loss'] for line in lines.open()]


def answers(workdir):
  found = {}
  for line in (workdir / 'evaluation/predictions.jsonl').open():
    fields = json.loads(line)
    found[fields['system'], fields['example_id']] = fields['prediction']
  return found


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path):
  model = write_model(tmp_path / 'model')
  two, one = tmp_path / 'two', tmp_path / 'one'
  first, other = run(2, *command('train.py', two, model))
  assert 'Finetuning' in first and not other.strip()
  run(1, *command('train.py', one, model))
  np.testing.assert_allclose(losses(two), losses(one), rtol=1e-4)
  stores = [
    sorted(path.name for path in (each / 'store').glob('*.safetensors'))
    for each in (two, one)
  ]
  assert stores[0] == stores[1] and len(stores[0]) == 11
  for name in stores[0]:
    theirs, ours = (
      safetensors.numpy.load_file(each / 'store' / name)['summaries']
      for each in (two, one)
    )
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
  first, other = run(2, *command('eval.py', two, model))
  assert 'Report:' in first and not other.strip()
  run(1, *command('eval.py', one, model))
  assert answers(two) == answers(one)
  assert len(answers(one)) > 6

  # What two processes saved, one goes on from.
  shutil.rmtree(two / 'adapters')
  checkpoints = two / 'finetuning/lloco/checkpoints'
  steps = sorted(int(path.name) for path in checkpoints.glob('[0-9]*'))
  assert len(steps) == 2
  shutil.rmtree(checkpoints / str(steps[-1]))
  (said,) = run(1, *command('train.py', two, model))
  assert f'Going on from step {steps[0]}' in said
  np.testing.assert_allclose(losses(two), losses(one), rtol=1e-4)


@pytest.mark.slow
def test_processes_that_are_not_found_are_told(tmp_path):
  environment = {**os.environ, 'LLOCO_PROCESSES': '2', 'LLOCO_PROCESS': '0'}
  environment.pop('JAX_COORDINATOR_ADDRESS', None)
  result = subprocess.run(
    command('train.py', tmp_path, 'none', '--config.mesh.processes=True'),
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=environment,
  )
  assert result.returncode
  assert 'give JAX_COORDINATOR_ADDRESS, LLOCO_PROCESSES' in result.stderr


def test_one_process_agrees_with_itself(capsys):
  assert processes.agreed([3, 1]) == [3, 1] and processes.is_first()
  processes.wait_for_all('nothing')
  with processes.one_voice():
    print('heard')
  assert capsys.readouterr().out == 'heard\n'
