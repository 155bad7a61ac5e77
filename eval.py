"""Evaluates what train.py left in the workdir, and writes the report.

python eval.py --config=configs/demo.py
"""

import pathlib

from lloco_jax import command_line, experiment

_DEMO = pathlib.Path(__file__).parent / 'configs/demo.py'

if __name__ == '__main__':
  command_line.run(experiment.evaluate, str(_DEMO))
