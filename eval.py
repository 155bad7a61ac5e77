"""Evaluates what train.py left in the workdir, and writes the report.

python eval.py --config=configs/demo.py
"""

from absl import app, flags, logging
from ml_collections import config_flags

from lloco_jax import experiment

_CONFIG = config_flags.DEFINE_config_file(
  'config', 'configs/demo.py', 'Experiment to run.', lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run; by default runs/<name of the config>.'
)


def main(argv):
  # Orbax tells its whole configuration otherwise.
  logging.set_verbosity(logging.WARNING)
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {" ".join(argv[1:])}')
  experiment.evaluate(_CONFIG.value, _WORKDIR.value)


if __name__ == '__main__':
  app.run(experiment.sentences(main))
