"""Zip files of data sets, unpacked so that a kill leaves no half of a file."""

import pathlib
import shutil
import zipfile
import zlib

from lloco_jax.files import replacing


def unpack(archive: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Lays the files of a zip file into a folder, and returns it.

  Files that are there in their size stay.

  Raises:
    OSError: a file would lie outside the folder, or the archive is damaged.
  """
  try:
    content = zipfile.ZipFile(archive)
  except zipfile.BadZipFile as error:
    raise OSError(
      f'{archive} cannot be unpacked ({error}); download it again.'
    ) from None
  with content:
    for member in content.infolist():
      if member.is_dir():
        continue
      file = folder / member.filename
      if not file.resolve().is_relative_to(folder.resolve()):
        raise OSError(
          f"{archive} holds '{member.filename}', outside its folder."
        )
      if file.is_file() and file.stat().st_size == member.file_size:
        continue
      file.parent.mkdir(parents=True, exist_ok=True)
      try:
        with (
          replacing(file) as temporary,
          content.open(member) as source,
          temporary.open('wb') as target,
        ):
          shutil.copyfileobj(source, target)
      except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise OSError(
          f'{member.filename} of {archive} is damaged ({error}); download the '
          'archive again.'
        ) from None
  return folder
