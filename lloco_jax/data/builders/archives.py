"""Archives of builders, which tensorflow_datasets opens none of without
TensorFlow, and the rows of the files in them."""

import contextlib
import os
import pathlib
import zipfile


def unpack(archive: str | os.PathLike) -> pathlib.Path:
  """The folder with what a zip file holds, beside it."""
  folder = pathlib.Path(f'{os.fspath(archive)}.unpacked')
  with zipfile.ZipFile(archive) as content:
    content.extractall(folder)
  return folder


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
