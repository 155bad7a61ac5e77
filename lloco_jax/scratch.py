"""Scratch: bytes on the disk rather than in memory, while a program runs."""

import tempfile
import threading
from typing import NamedTuple
import weakref

# Bytes that are kept in memory after all, as most data is small.
_IN_MEMORY = 2**24


class Place(NamedTuple):
  """Where bytes lie in a scratch file."""

  start: int
  size: int


class Scratch:
  """Bytes in a temporary file, which ends with the object or the program.

  The file lies where TMPDIR says, and has no name that others could see.
  Several threads may use it.
  """

  def __init__(self):
    self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)
    # Also of what lives as long as the program, before its end warns of it.
    weakref.finalize(self, self._file.close)
    self._size = 0
    self._lock = threading.Lock()

  def add(self, data: bytes) -> Place:
    """Keeps bytes, and gives their place.

    Raises:
      OSError: the disk is full.
    """
    with self._lock:
      place = Place(self._size, len(data))
      try:
        self._file.seek(place.start)
        self._file.write(data)
        self._file.flush()
      except OSError as error:
        raise OSError(
          f"The folder of temporary files, '{tempfile.gettempdir()}', cannot "
          f'be written ({error.strerror}); name another in TMPDIR.'
        ) from error
      self._size += len(data)
    return place

  def read(self, place: Place) -> bytes:
    """The bytes at a place."""
    with self._lock:
      self._file.seek(place.start)
      return self._file.read(place.size)
