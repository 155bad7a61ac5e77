"""A folder of the user's files: which are documents, and which are not."""

import collections
import dataclasses
import json
import os
import pathlib
import stat

from lloco_jax.library.parsers import PARSERS


@dataclasses.dataclass(frozen=True)
class Walk:
  """What a folder holds.

  `files` are those that can be read, sorted; `refused` has a sentence for each
  path that cannot; `passed_over` counts the rest by kind.
  """

  files: tuple[pathlib.Path, ...]
  refused: dict[pathlib.Path, str]
  passed_over: dict[str, int]


def escaped(path: str | os.PathLike) -> str:
  """A path in one line; no two paths give the same."""
  quoted = json.dumps(os.fspath(path), ensure_ascii=False)[1:-1]
  # Bytes of a name that are no UTF-8 are escaped as well.
  return quoted.encode('utf-8', 'backslashreplace').decode()


def show(path: str | os.PathLike) -> str:
  """A path in one line and in quotes, for messages."""
  return f"'{escaped(path)}'"


def document_name(path: str, part: int, parts: int) -> str:
  """How a part of a file is called, which is the file where it has but one."""
  return f'{escaped(path)}, part {part}' if parts > 1 else escaped(path)


def check_folder(folder: pathlib.Path) -> None:
  """Raises FileNotFoundError where there is no such folder."""
  if not folder.is_dir():
    raise FileNotFoundError(
      f'{show(folder)} is no folder; name one that holds your files.'
    )


def walk(folder: pathlib.Path, leave_out: pathlib.Path) -> Walk:
  """The files below a folder, but for what lies below `leave_out`.

  A link to a file of the folder that is read under its own name is passed
  over; one to another file of the folder, hidden or of another kind, is read
  by the name of the link. Other links are refused. Hidden files and folders
  are passed over.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  check_folder(folder)
  files, refused, passed_over = [], {}, collections.Counter()
  links, places = [], set()

  def unread(error):
    path = pathlib.Path(error.filename)
    refused[path] = f'{show(path)} cannot be read: {error.strerror}.'

  def mode_of(path):
    try:
      return path.lstat().st_mode
    except OSError as error:  # it has gone, or its folder may only be listed
      unread(error)
      return 0

  for place, folders, names in os.walk(folder, onerror=unread):
    place = pathlib.Path(place)
    places.add(place)
    for name in sorted(folders):
      path = place / name
      if path == leave_out or name.startswith('.'):
        folders.remove(name)
        passed_over['hidden'] += name.startswith('.')
      elif stat.S_ISLNK(mode_of(path)):
        links.append(path)
    folders.sort()
    for name in sorted(names):
      path = place / name
      suffix = path.suffix.lower()
      if name.startswith('.'):
        passed_over['hidden'] += 1
      elif suffix not in PARSERS:
        passed_over[suffix or 'no suffix'] += 1
      elif not _is_utf8(path):
        refused[path] = f'{show(path)} has a name that is not UTF-8; rename it.'
      elif stat.S_ISLNK(mode := mode_of(path)):
        links.append(path)
      elif stat.S_ISREG(mode):
        files.append(path)
      elif mode:
        refused[path] = f'{show(path)} is no plain file; remove it.'
  found = {*files, *refused, *places}
  for path in links:
    target = _target(path)
    if target in found:
      passed_over['links'] += 1
    elif why := _unfit(target, folder, leave_out):
      refused[path] = f'{show(path)} is a link {why}.'
    else:
      files.append(path)
  return Walk(tuple(sorted(files)), refused, dict(+passed_over))


def _target(link: pathlib.Path) -> pathlib.Path | None:
  """Where a link leads, if anywhere."""
  try:
    return link.resolve(strict=True)
  except (OSError, RuntimeError):  # RuntimeError: links in a ring
    return None


def _unfit(target, folder, leave_out) -> str:
  """Why a link is not read, '' where it is."""
  if target is None:
    return 'that leads nowhere; mend or remove it'
  if not target.is_relative_to(folder) or target.is_relative_to(leave_out):
    return (
      'that leaves the folder; copy what it points to, or add that folder '
      'itself'
    )
  if not target.is_file():
    return (
      f'to {show(target)}, which is passed over; copy what it points to, or '
      'remove it'
    )
  return ''


def _is_utf8(path: pathlib.Path) -> bool:
  try:
    str(path).encode('utf-8')
  except UnicodeEncodeError:
    return False
  return True
