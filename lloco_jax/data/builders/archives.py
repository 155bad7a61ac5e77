"""Archives of builders: tensorflow_datasets opens none without TensorFlow."""

import os
import pathlib
import zipfile


def unpack(archive: str | os.PathLike) -> pathlib.Path:
  """The folder with what a zip file holds, beside it."""
  folder = pathlib.Path(f'{os.fspath(archive)}.unpacked')
  with zipfile.ZipFile(archive) as content:
    content.extractall(folder)
  return folder
