"""SQuAD for tensorflow_datasets: an article with its questions a row.

Their own builder shuffles questions, and with them the order of an article's
paragraphs, which make up a document here.
"""

import numpy as np
import tensorflow_datasets.public_api as tfds

from lloco_jax.data.builders.official import official
from lloco_jax.data.records import read_json
from lloco_jax.data.squad import PARTS

_URL = 'https://rajpurkar.github.io/SQuAD-explorer/dataset/'
_SPLITS = {'train': 'train', 'validation': 'dev'}


class Builder(tfds.core.GeneratorBasedBuilder):
  """SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018), in the files' order."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'As published.'}
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(name=part, description=f'SQuAD {part}.')
    for part in PARTS
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    return tfds.core.DatasetInfo(
      builder=self,
      description='Questions about articles of Wikipedia.',
      features=tfds.features.FeaturesDict(
        {
          'title': text,
          'contexts': tfds.features.Sequence(text),
          # Lists of lists need TensorFlow, so the answers to all questions are
          # in one, and each question says how many are its own, and of which
          # paragraph it is.
          'questions': tfds.features.Sequence(
            {
              'id': text,
              'question': text,
              'paragraph': np.int32,
              'is_impossible': np.int32,
              'answers': np.int32,
            }
          ),
          'answers': tfds.features.Sequence(text),
        }
      ),
      homepage='https://rajpurkar.github.io/SQuAD-explorer/',
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    files = dl_manager.download(
      {
        split: f'{_URL}{name}-{self.builder_config.name}.json'
        for split, name in _SPLITS.items()
      }
    )
    return {split: self._generate_examples(files[split]) for split in files}

  def _generate_examples(self, path):
    for number, article in enumerate(read_json(path)['data']):
      with official(f'{path}, article {number + 1}'):
        found = _fields(article)
      yield number, found


def _fields(article):
  paragraphs = article['paragraphs']
  questions = [
    (number, question)
    for number, paragraph in enumerate(paragraphs)
    for question in paragraph['qas']
  ]
  return {
    'title': article['title'],
    'contexts': [paragraph['context'] for paragraph in paragraphs],
    'questions': [
      {
        'id': question['id'],
        'question': question['question'],
        'paragraph': number,
        'is_impossible': int(question.get('is_impossible', False)),
        'answers': len(question['answers']),
      }
      for number, question in questions
    ],
    'answers': [
      answer['text']
      for _, question in questions
      for answer in question['answers']
    ],
  }
