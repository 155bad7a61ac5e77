"""The command of a small run of the demo, as a user types it."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def small_run(script, workdir, model, *flags):
  return [
    sys.executable,
    str(ROOT / script),
    f'--config={ROOT}/configs/demo.py',
    f'--workdir={workdir}',
    f'--config.model.name={model}',
    '--config.model.compressor=',
    '--config.data.questions_per_document=2',
    '--config.data.words=(90, 120)',
    '--config.adapters=("lloco",)',
    '--config.training.checkpoint_every=2',
    '--config.training.tensorboard=False',
    '--config.evaluation.bootstrap_samples=20',
    *flags,
  ]
