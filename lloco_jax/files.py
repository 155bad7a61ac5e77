"""Files that are seen whole or not at all, also after a kill; locks."""

import contextlib
import errno
import json
import os
import pathlib
import uuid

try:
  import fcntl
except ImportError:  # Windows: two writers are not noticed
  fcntl = None


@contextlib.contextmanager
def replacing(path: pathlib.Path):
  """Gives a path to write; it becomes `path` once all of it is on the disk.

  A failure leaves what was there; a kill may leave `.NAME.*.part` beside it.

  Raises:
    OSError: it cannot be written; a full disk is told with what helps.
  """
  temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.part')
  try:
    yield temporary
    with temporary.open('rb') as file:
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException as error:
    temporary.unlink(missing_ok=True)
    if getattr(error, 'errno', None) == errno.ENOSPC:
      raise disk_is_full(path) from error
    raise


def named_path(path: str | os.PathLike) -> pathlib.Path:
  """A path as a user gives it, '~' included.

  Raises:
    ValueError: it is empty, which would stand for the current folder, or begins
      with '~' and names no user.
  """
  if not os.fspath(path):
    raise ValueError("The path is empty; name a file or folder, or '.'.")
  try:
    return pathlib.Path(path).expanduser()
  except RuntimeError:
    raise ValueError(
      f"'{path}' begins with '~', and no user is called so; write './{path}' "
      'for a file or folder of that name.'
    ) from None


def disk_is_full(path: pathlib.Path) -> OSError:
  """The error of a disk that has no room for a path."""
  return OSError(
    f'The disk is full, so {path} cannot be written; free some space and give '
    'the same command again.'
  )


def read_object(path: pathlib.Path) -> dict:
  """The fields of a JSON object.

  Raises:
    ValueError: the file holds none, or is damaged.
  """
  try:
    fields = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path} is not valid JSON: {error}.') from error
  if not isinstance(fields, dict):
    raise ValueError(f'{path} holds no JSON object; download it again.')
  return fields


def write_file(path: pathlib.Path, content: bytes | str) -> None:
  """Writes bytes, or text as UTF-8."""
  if isinstance(content, str):
    content = content.encode()
  with replacing(path) as temporary:
    temporary.write_bytes(content)


@contextlib.contextmanager
def alone(path: pathlib.Path, refusal: str):
  """Holds the lock of a file, which ends with the process at the latest.

  Raises:
    ValueError: another program or thread holds it; `refusal` is what it says.
    OSError: the file cannot be written.
  """
  try:
    lock = path.open('w')
  except OSError as error:
    raise OSError(
      f'{path} cannot be written ({error.strerror}), which keeps other '
      'programs from writing here at once; allow it, or copy the folder.'
    ) from error
  with lock as file:
    if fcntl is not None:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except (BlockingIOError, PermissionError):
        raise ValueError(refusal) from None
    yield
