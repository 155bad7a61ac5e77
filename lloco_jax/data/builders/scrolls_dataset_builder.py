"""SCROLLS of tensorflow_datasets, prepared without TensorFlow."""

import tensorflow_datasets.public_api as tfds
from tensorflow_datasets.text.scrolls.scrolls import Scrolls

from lloco_jax.data.builders.official import unpack


class Builder(Scrolls, skip_registration=True):
  """What it prepares is what the builder of that name reads, and is read by."""

  name = 'scrolls'

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    folder = unpack(dl_manager.download(self.builder_config.data_url))
    return {
      split: self._generate_examples(
        folder / self.builder_config.name / f'{split}.jsonl'
      )
      for split in ('train', 'validation', 'test')
    }
