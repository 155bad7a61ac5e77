"""LongBench's English tasks for tensorflow_datasets: rows as in its files."""

import numpy as np
import tensorflow_datasets.public_api as tfds

from lloco_jax.data.builders.official import official, unpack
from lloco_jax.data.longbench import TASKS
from lloco_jax.data.records import read_json_lines

# Its publisher changes the archive without a version, hence no checksum.
_URL = 'https://huggingface.co/datasets/THUDM/LongBench/resolve/main/data.zip'
_TEXTS = ('_id', 'input', 'context', 'dataset', 'language')
_LISTS = ('answers', 'all_classes')


class Builder(tfds.core.GeneratorBasedBuilder):
  """LongBench (Bai et al. 2024), a config a task, in the order of its files."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'As published.'}
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(name=task, description=f'The task {task}.')
    for task in TASKS
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    return tfds.core.DatasetInfo(
      builder=self,
      description='Questions about long texts, and summaries of them.',
      features=tfds.features.FeaturesDict(
        {
          **{name: text for name in _TEXTS},
          **{name: tfds.features.Sequence(text) for name in _LISTS},
          'length': np.int32,
        }
      ),
      homepage='https://github.com/THUDM/LongBench',
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    folder = unpack(dl_manager.download(_URL))
    path = folder / 'data' / f'{self.builder_config.name}.jsonl'
    return {'validation': self._generate_examples(path)}

  def _generate_examples(self, path):
    for number, (place, row) in enumerate(read_json_lines(path)):
      with official(place):
        found = {
          **{name: row[name] or '' for name in _TEXTS},
          **{name: row[name] or [] for name in _LISTS},
          'length': int(row['length']),
        }
      yield number, found
