"""HotpotQA for tensorflow_datasets: rows as in the official files."""

import numpy as np
import tensorflow_datasets.public_api as tfds

from lloco_jax.data.builders.official import official
from lloco_jax.data.records import read_json_array

_URL = 'http://curtis.ml.cmu.edu/datasets/hotpot/'
_TRAIN = 'hotpot_train_v1.1.json'


class Builder(tfds.core.GeneratorBasedBuilder):
  """HotpotQA (Yang et al. 2018), in the order of its files.

  The configs are its settings, which differ in the validation split: what a
  row's question is asked about are retrieved paragraphs in 'fullwiki', and
  those that hold the answer among others in 'distractor'.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Training file of version 1.1, others of 1.'}
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(name='fullwiki', description='Retrieved.'),
    tfds.core.BuilderConfig(name='distractor', description='Gold and others.'),
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    return tfds.core.DatasetInfo(
      builder=self,
      description='Questions over several paragraphs of Wikipedia.',
      features=tfds.features.FeaturesDict(
        {
          '_id': text,
          'question': text,
          'answer': text,
          'type': text,
          'level': text,
          'supporting_facts': tfds.features.Sequence(
            {'title': text, 'sentence': np.int32}
          ),
          # Lists of lists need TensorFlow, so the paragraphs' sentences are
          # in one, and each paragraph says how many are its own.
          'context': tfds.features.Sequence(
            {'title': text, 'sentences': np.int32}
          ),
          'sentences': tfds.features.Sequence(text),
        }
      ),
      homepage='https://hotpotqa.github.io/',
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    dev = f'hotpot_dev_{self.builder_config.name}_v1.json'
    files = dl_manager.download(
      {'train': _URL + _TRAIN, 'validation': _URL + dev}
    )
    return {split: self._generate_examples(files[split]) for split in files}

  def _generate_examples(self, path):
    for number, (place, row) in enumerate(read_json_array(path)):
      with official(place):
        found = _fields(row)
      yield number, found


def _fields(row):
  facts, context = row['supporting_facts'], row['context']
  return {
    **{
      name: row[name] for name in ('_id', 'question', 'answer', 'type', 'level')
    },
    'supporting_facts': [
      {'title': title, 'sentence': sentence} for title, sentence in facts
    ],
    'context': [
      {'title': title, 'sentences': len(sentences)}
      for title, sentences in context
    ],
    'sentences': [each for _, sentences in context for each in sentences],
  }
