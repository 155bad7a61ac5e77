"""The demo as it is: the real model, the shipped compressor, all systems."""

import os
import pathlib
import subprocess
import sys

import pytest

from lloco_jax.evaluation.results import read_results
from lloco_jax.evaluation.systems import CONTROLS
from lloco_jax.evaluation.wording import verdict

ROOT = pathlib.Path(__file__).resolve().parents[1]
SYSTEMS = 9


@pytest.mark.slow
def test_the_demo_ends_with_lloco_above_its_controls(tmp_path):
  # A test's precision is not what a user runs with.
  environment = {
    name: value
    for name, value in os.environ.items()
    if name != 'JAX_DEFAULT_MATMUL_PRECISION'
  }
  said = []
  for script in ('train.py', 'eval.py'):
    command = [sys.executable, str(ROOT / script), f'--workdir={tmp_path}']
    ended = subprocess.run(
      command, cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    said.append(ended.stdout)
  assert f'Report: {tmp_path}/evaluation/report.md' in said[1]
  results = read_results(tmp_path / 'evaluation')
  assert len(results.systems) == SYSTEMS
  counts = {interval.count for interval in results.scores.values()}
  clusters = {interval.clusters for interval in results.scores.values()}
  assert len(counts) == len(clusters) == 1
  for name in CONTROLS:
    assert verdict(results.differences[name]) == 'above', name
