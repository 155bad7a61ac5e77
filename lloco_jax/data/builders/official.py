"""What builders share: archives beside their downloads, and damaged rows."""

import contextlib
import os
import pathlib

from lloco_jax.data import archives


def unpack(archive: str | os.PathLike) -> pathlib.Path:
  """The folder with what a zip file holds, beside it: tensorflow_datasets opens
  none without TensorFlow."""
  archive = pathlib.Path(archive)
  return archives.unpack(archive, archive.with_name(f'{archive.name}.unpacked'))


@contextlib.contextmanager
def official(place: str):
  """Puts a place before the error of a row that is not as published.

  Raises:
    ValueError: the row lacks a field, or one is of another kind.
  """
  try:
    yield
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise ValueError(
      f'{place} is not as in the official files ({error!r}); download them '
      'again.'
    ) from error
