"""Official files whose checksums are published, fetched into the cache.

What a zip file holds is laid beside it.
"""

from collections.abc import Iterable
import dataclasses
import errno
import hashlib
import http.client
import pathlib
import urllib.request

from lloco_jax.data.archives import unpack
from lloco_jax.files import replacing
from lloco_jax.progress import Progress
from lloco_jax.weights.sources import cache_folder, file_hash

_CHUNK = 2**20
_TIMEOUT = 60  # seconds without a byte


@dataclasses.dataclass(frozen=True)
class Download:
  """A file at its official address, of a size in bytes."""

  url: str
  size: int
  sha256: str

  @property
  def name(self) -> str:
    return self.url.rpartition('/')[2]


def fetch(downloads: Iterable[Download], data: str) -> pathlib.Path:
  """The folder of the cache with the files of a data set, all of them checked.

  Raises:
    OSError: a file cannot be fetched, or is another than the known one; the
      message says what to do by hand.
  """
  folder = cache_folder() / 'data' / data
  for download in dict.fromkeys(downloads):
    path = folder / download.name
    if not (path.is_file() and file_hash(path) == download.sha256):
      _fetch(download, path)
    if path.suffix == '.zip':
      unpack(path, folder)
  return folder


def _fetch(download: Download, path: pathlib.Path) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  print(
    f'Fetching {download.url} ({download.size / 1e6:.0f} MB) into '
    f'{path.parent}',
    flush=True,
  )
  by_hand = 'download it elsewhere, and name its folder in config.data.path.'
  meter, digest = Progress(download.size, 'bytes'), hashlib.sha256()
  with replacing(path) as temporary:
    try:
      with (
        urllib.request.urlopen(download.url, timeout=_TIMEOUT) as response,
        temporary.open('wb') as file,
      ):
        while chunk := response.read(_CHUNK):
          file.write(chunk)
          digest.update(chunk)
          meter.add(len(chunk))
          meter.tell(f'{path.name}')
    except (OSError, http.client.HTTPException) as error:
      if getattr(error, 'errno', None) == errno.ENOSPC:
        raise
      raise OSError(
        f'{download.url} could not be fetched ({error}); try again with a '
        f'network, or {by_hand}'
      ) from error
    if digest.hexdigest() != download.sha256:
      raise OSError(
        f'{download.url} gave a file with another sha256 than '
        f'{download.sha256}; try again, or {by_hand}'
      )
