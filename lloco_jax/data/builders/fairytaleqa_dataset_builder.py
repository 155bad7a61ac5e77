"""FairytaleQA for tensorflow_datasets: a story with its questions a row."""

import tensorflow_datasets.public_api as tfds

from lloco_jax.data.builders.official import unpack
from lloco_jax.data.records import read_csv

# The state of the data that this package was written for.
_COMMIT = 'b6a60a49c186ce3e93268525c12ada37958db326'
_URL = f'https://github.com/uci-soe/FairytaleQAData/archive/{_COMMIT}.zip'
_SPLITS = {'train': 'train', 'validation': 'val', 'test': 'test'}
_COLUMNS = (
  'question',
  'answer1',
  'answer4',
  'cor_section',
  'local-or-sum',
  'attribute1',
  'ex-or-im1',
)
_QUESTIONS = '-questions.csv'


class Builder(tfds.core.GeneratorBasedBuilder):
  """FairytaleQA (Xu et al. 2022), its stories in the order of their names."""

  VERSION = tfds.core.Version('1.1.0')
  RELEASE_NOTES = {
    '1.1.0': 'The numbers of sections, and those that questions are about.',
    '1.0.0': f'Commit {_COMMIT[:7]} of the official files.',
  }

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    return tfds.core.DatasetInfo(
      builder=self,
      description='Questions about fairytales, by teachers.',
      features=tfds.features.FeaturesDict(
        {
          'story': text,
          'sections': tfds.features.Sequence(text),
          'numbers': tfds.features.Sequence(text),
          'questions': tfds.features.Sequence(
            {name: text for name in _COLUMNS}
          ),
        }
      ),
      homepage='https://github.com/uci-soe/FairytaleQAData',
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    archive = unpack(dl_manager.download(_URL))
    (folder,) = archive.glob('*/data-by-train-split')
    return {
      split: self._generate_examples(
        folder / 'questions' / name, folder / 'section-stories' / name
      )
      for split, name in _SPLITS.items()
    }

  def _generate_examples(self, questions, stories):
    paths = sorted(questions.glob(f'*{_QUESTIONS}'))
    for number, path in enumerate(paths):
      name = path.name.removesuffix(_QUESTIONS)
      story = stories / f'{name}-story.csv'
      sections = [row for _, row in read_csv(story, ('section', 'text'))]
      yield (
        number,
        {
          'story': name,
          'sections': [row['text'] for row in sections],
          'numbers': [row['section'] for row in sections],
          'questions': [
            {column: row[column] for column in _COLUMNS}
            for _, row in read_csv(path, _COLUMNS)
          ],
        },
      )
