"""Trains what a config describes: adapters, or a compressor.

python train.py --config=configs/demo.py --config.epochs=5
"""

import pathlib

from lloco_jax import command_line, experiment

_DEMO = pathlib.Path(__file__).parent / 'configs/demo.py'

if __name__ == '__main__':
  command_line.run(experiment.train, str(_DEMO))
