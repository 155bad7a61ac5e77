"""QuALITY for tensorflow_datasets: rows as in the official files.

Their own builder has version 0.9, and lists of lists, which need TensorFlow.
"""

import numpy as np
import tensorflow_datasets.public_api as tfds

from lloco_jax.data.builders.official import official
from lloco_jax.data.quality import URL
from lloco_jax.data.records import read_json_lines

_SPLITS = {'train': 'train', 'validation': 'dev'}
_TEXTS = ('article_id', 'set_unique_id', 'title', 'article')


class Builder(tfds.core.GeneratorBasedBuilder):
  """QuALITY 1.0.1 without HTML (Pang et al. 2022), in the files' order."""

  VERSION = tfds.core.Version('1.0.1')
  RELEASE_NOTES = {'1.0.1': 'As published.'}

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    return tfds.core.DatasetInfo(
      builder=self,
      description='Multiple choice about long stories and articles.',
      features=tfds.features.FeaturesDict(
        {
          **{name: text for name in _TEXTS},
          # The options of all questions are in one list, and each question
          # says how many are its own.
          'questions': tfds.features.Sequence(
            {
              'question': text,
              'question_unique_id': text,
              'gold_label': np.int32,
              'difficult': np.int32,
              'options': np.int32,
            }
          ),
          'options': tfds.features.Sequence(text),
        }
      ),
      homepage='https://github.com/nyu-mll/quality',
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    files = dl_manager.download(
      {
        split: f'{URL}QuALITY.v1.0.1.htmlstripped.{name}'
        for split, name in _SPLITS.items()
      }
    )
    return {split: self._generate_examples(files[split]) for split in files}

  def _generate_examples(self, path):
    for number, (place, row) in enumerate(read_json_lines(path)):
      with official(place):
        found = {
          **{name: str(row[name]) for name in _TEXTS},
          'questions': [
            {
              'question': question['question'],
              'question_unique_id': question['question_unique_id'],
              'gold_label': question['gold_label'],
              'difficult': question['difficult'],
              'options': len(question['options']),
            }
            for question in row['questions']
          ],
          'options': [
            option
            for question in row['questions']
            for option in question['options']
          ],
        }
      yield number, found
