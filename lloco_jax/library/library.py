"""A library: a folder with the user's documents, ready for questions.

It holds `library.json`, what everything in it was made with; `store/`, the
summaries; `catalogue/`, the documents and their passages; `adapters.json` and
`adapters/`, the adapters of its groups; `pairs/` and `studied/`, questions and
answers to finetune them on and how they were made; `dropped/`, those of
passages that have gone; `training/`, the runs.
"""

from collections.abc import Collection, Iterable, Sequence
import dataclasses
import functools
import json
import os
import pathlib

import numpy as np

from lloco_jax.compression.corpus import (
  CompressionConfig,
  StoredSummaries,
  store_settings,
)
from lloco_jax.compression.inventory import Stored
from lloco_jax.compression.store import Settings, Store
from lloco_jax.data.prompts import PROMPTS, Prompt
from lloco_jax.files import alone, named_path, write_file
from lloco_jax.library.catalogue import Catalogue, Entry
from lloco_jax.library.folder import show
from lloco_jax.library.making import Making
from lloco_jax.library.naming import Naming, holds_adapter
from lloco_jax.model import Model
from lloco_jax.nn.lora import Adapter
from lloco_jax.retrieval.encoder import Encoder, embed
from lloco_jax.retrieval.search import unit_vectors
from lloco_jax.weights import peft
from lloco_jax.weights.checkpoint import load
from lloco_jax.weights.compressor import SHIPPED

FORMAT = 1
DEFAULT_FOLDER = 'runs/library'
FIELDS = 'library.json'
# Where files are until groups are found.
UNGROUPED = 'documents'
# The groups that were found, until all files are in them.
GROUPING = 'grouping.json'
ADAPTERS = 'adapters.json'
LOCK = '.lock'
# Its vector tells one text embedding from another.
_PROBE = 'A library of documents.'


class Library:
  """A library on disk.

  Args:
    folder: of the library.
    model: the compressor, where it is loaded already.
    encode: the text embedding that the library was made with.

  Raises:
    FileNotFoundError: there is no library.
    ValueError: it is of another format, or damaged.
    ImportError: a package of the extra 'library' is missing.
  """

  def __init__(
    self,
    folder: str | os.PathLike = DEFAULT_FOLDER,
    model: Model | None = None,
    encode: Encoder = embed,
  ):
    self.folder = named_path(folder).resolve()
    path = self.folder / FIELDS
    if not path.is_file():
      if (self.folder / 'catalogue').is_dir():
        raise FileNotFoundError(_without_fields(self.folder))
      raise FileNotFoundError(
        f'There is no library in {show(self.folder)}; make one with: python -m '
        'lloco_jax library add FOLDER --group=NAME --library=PATH'
      )
    try:
      fields = json.loads(path.read_text('utf-8'))
      found = fields['format']
      if found == FORMAT:
        self.making = Making(**fields['making'])
        self.settings = Settings(**fields['settings'])
        self._probe = np.array(fields['probe'], np.float32)
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(
        f'{path} is damaged ({error!r}); make the library again elsewhere.'
      ) from error
    if found != FORMAT:
      raise ValueError(
        f'{self.folder} is a library of format {found}, and this version '
        f'reads format {FORMAT}; make another.'
      )
    self._encode, self._encode_checked = encode, False
    self._given = model
    self.store = Store(self.folder / 'store')
    self._naming = Naming(self.folder / ADAPTERS)
    self.catalogue = Catalogue(self.folder / 'catalogue', self._probe.size)

  @classmethod
  def make(
    cls,
    folder: str | os.PathLike = DEFAULT_FOLDER,
    making: Making | None = None,
    model: Model | None = None,
    encode: Encoder = embed,
    given: Collection[str] = (),
  ) -> 'Library':
    """Makes a library, or opens one that was made in the same way.

    Of `making` defaults are not compared, but for the fields that are `given`.

    Raises:
      ValueError: the folder holds another library or other files, or the
        model is no compressor.
    """
    making = making or Making()
    # What is on this disk must be found from anywhere.
    places = {
      name: str(named_path(value).resolve())
      for name in ('model', 'compressor')
      if (value := getattr(making, name)) and named_path(value).exists()
    }
    making = dataclasses.replace(making, **places)
    folder = named_path(folder).resolve()
    if not (folder / FIELDS).is_file():
      _check_empty(folder)
      folder.mkdir(parents=True, exist_ok=True)
      with _alone(folder):
        if not (folder / FIELDS).is_file():
          model = _begin(folder, making, model, encode)
          return cls(folder, model, encode)
    library = cls(folder, model, encode)
    library._check_making(making, given)
    return library

  def alone(self):
    """Keeps other programs from changing the library; a context manager.

    Raises:
      ValueError: another program is changing it.
    """
    return _alone(self.folder)

  def check_grouped(self) -> None:
    """Raises ValueError where a program was stopped at moving files."""
    if (self.folder / GROUPING).is_file():
      raise ValueError(
        f'The files of {show(self.folder)} are not all in the groups that were '
        'found for them; `python -m lloco_jax library group`, or to add a '
        'folder again, completes it.'
      )

  def check_embedding(self) -> None:
    """Raises ValueError: it is not the one the library was made with."""
    if self._encode_checked:
      return
    found, probe = unit_vectors(self._encode, [_PROBE])[0], self._probe
    if found.shape != probe.shape or not np.allclose(found, probe, atol=1e-3):
      raise ValueError(
        f'The library {show(self.folder)} was made with another text '
        'embedding; open it with that one, or make another library.'
      )
    self._encode_checked = True

  def vectors(self, texts: Sequence[str]) -> np.ndarray:
    """Text embeddings [n, D] of length one; raises as `check_embedding`."""
    self.check_embedding()
    return unit_vectors(self._encode, list(texts))

  @functools.cached_property
  def model(self) -> Model:
    """The compressor, which also answers.

    Raises:
      ValueError: it is not the one that the library was made with.
    """
    model = self._given or self.making.load()
    found = store_settings(model, self.compression(1))
    if found != self.settings:
      raise ValueError(
        f"The model '{self.making.model}' is not what it was when the library "
        f'{show(self.folder)} was made: its files or its compressor have '
        'changed; make another library, or bring the files back.'
      )
    return model

  def free_weights(self) -> None:
    """Gives up the model's weights, for who has them in another form.

    Documents, summaries and adapters are found as before.
    """
    self.model = dataclasses.replace(self.model, params={})
    self._given = None

  @functools.cached_property
  def base(self) -> Model:
    """The base as it was before it became a compressor."""
    if not self.making.compressor:
      return self.model
    return load(self.making.model, self.making.dtype)

  def summaries(self, group: str) -> StoredSummaries:
    """Summary vectors [n, D] of the documents of a group, by their names.

    They are read when they are asked for.

    Raises:
      ValueError: there is no such group.
    """
    self._need_group(group)
    return self.summaries_of(self._entries_of(group))

  def summaries_of(self, entries: Iterable[Entry]) -> StoredSummaries:
    """Those of some documents, whatever the catalogue has become since."""
    return StoredSummaries(
      self.store,
      {
        entry.name: Stored(
          entry.key, entry.tokens, entry.cut_tokens, entry.vectors
        )
        for entry in entries
      },
    )

  def texts(self, group: str) -> dict[Entry, list[str]]:
    """The passages of the documents of a group, all as at one moment.

    Raises:
      ValueError: the catalogue lacks some.
    """
    before, entries = None, self._entries_of(group)
    while entries != before:
      texts = self.catalogue.texts([entry.version for entry in entries])
      lacking = [e for e in entries if len(texts[e.version]) < e.passages]
      if not lacking:
        return {entry: texts[entry.version] for entry in entries}
      # Another program may have put others in their place meanwhile.
      before, entries = entries, self._entries_of(group)
    raise ValueError(
      f'The catalogue of {show(self.folder)} lacks passages of '
      f"'{lacking[0].name}'; add its folder again."
    )

  def _entries_of(self, group: str) -> list[Entry]:
    return [e for e in self.catalogue.entries() if e.group == group]

  def compression(self, rows: int) -> CompressionConfig:
    """How documents are cut and batched, `rows` side by side."""
    return CompressionConfig(
      segment_length=self.settings.segment_length,
      rows=rows,
      token_cap=self.settings.token_cap,
      block_characters=self.settings.block_characters,
    )

  def adapter_folders(self) -> dict[str, tuple[str, str]]:
    """Folder of the adapter and name of its prompt, by group.

    Those of `adapters/GROUP` in the library are found without being named.

    Raises:
      ValueError: what was named is damaged.
    """
    return self._naming.folders()

  def name_adapter(self, group: str, folder: str, prompt: str) -> None:
    """Makes a PEFT folder the adapter of a group.

    Raises:
      ValueError: the library has no such group or there is no such prompt, the
        adapter is of another base, or another program names one.
      FileNotFoundError: the folder is not there.
    """
    self._need_group(group)
    if prompt not in PROMPTS:
      raise ValueError(
        f"There is no prompt '{prompt}'; use one of {', '.join(PROMPTS)}."
      )
    peft.load_adapter(folder, self.model.config, self.model.fingerprint)
    self._naming.name(group, folder, prompt)

  def forget_adapter(self, group: str) -> None:
    """Takes away the adapter that was named for a group; its folder stays.

    Raises:
      ValueError: none was named, or another program names one.
    """
    self._naming.forget(group)

  def _need_group(self, group: str) -> None:
    groups = {entry.group for entry in self.catalogue.entries()}
    if group not in groups:
      raise ValueError(
        f"The library has no group '{group}'; it has "
        f'{", ".join(sorted(groups)) or "none yet"}.'
      )

  def adapter(self, group: str) -> tuple[Adapter | None, Prompt]:
    """The adapter of a group, None where it has none, and its prompt.

    Raises:
      ValueError, OSError: its folder is gone, damaged or of another base.
    """
    folder, prompt = self.adapter_folders().get(group, (None, 'plain'))
    if folder is None:
      return None, PROMPTS[prompt]
    if pathlib.Path(folder).is_absolute() and not holds_adapter(folder):
      raise FileNotFoundError(
        f"The adapter of the group '{group}' is not in {show(folder)} any "
        'more; bring it back, or name another with: python -m lloco_jax '
        'library adapter GROUP FOLDER'
      )
    adapter = peft.load_adapter(
      folder, self.model.config, self.model.fingerprint
    )
    return adapter, PROMPTS[prompt]

  def _check_making(self, making: Making, given: Collection[str]) -> None:
    for field in dataclasses.fields(Making):
      ours, theirs = (getattr(x, field.name) for x in (self.making, making))
      if ours != theirs and (theirs != field.default or field.name in given):
        raise ValueError(
          f'The library {show(self.folder)} was made with {field.name} '
          f"'{ours}', not '{theirs}'; leave that out, or make another library."
        )


def check_group(group: str) -> None:
  """Raises ValueError where a name is none for a group of the user's."""
  if group == UNGROUPED:
    raise ValueError(
      f"In the group '{group}' files wait for groups to be found; give yours "
      'another name.'
    )
  if not group.strip() or group in ('.', '..') or not group.isprintable():
    raise ValueError(f'{group!r} is no name of a group; name it by a word.')
  if '/' in group or '\\' in group or len(group.encode()) > 100:
    raise ValueError(
      f"The group's name '{group}' has a slash or is too long; name it by a "
      'word.'
    )


def _alone(folder: pathlib.Path):
  return alone(
    folder / LOCK,
    f'Another program is changing the library {show(folder)}; wait for it, or '
    'stop it, and give the command again.',
  )


def _without_fields(folder: pathlib.Path) -> str:
  return (
    f'{show(folder)} is a library that has lost its {FIELDS}, which says what '
    'its summaries were made with; bring that file back, or remove the folder '
    'and add your folders again, which compresses them anew.'
  )


def _check_empty(folder: pathlib.Path) -> None:
  """Another program may be making the same library at this moment."""
  ours = (LOCK, f'.{FIELDS}.')
  if all((folder / name).is_dir() for name in ('store', 'catalogue')):
    raise ValueError(_without_fields(folder))
  if folder.exists() and (
    not folder.is_dir()
    or not all(each.name.startswith(ours) for each in folder.iterdir())
  ):
    raise ValueError(
      f'{show(folder)} is no library and not an empty folder; name another.'
    )


def _begin(folder, making: Making, model: Model | None, encode) -> Model:
  """Writes library.json; gives the model."""
  if making.compressor is None:
    shipped = 'shipped' if making.model in SHIPPED else ''
    making = dataclasses.replace(making, compressor=shipped)
  model = model or making.load()
  settings = store_settings(model, making.compression(model))
  fields = {
    'format': FORMAT,
    'making': dataclasses.asdict(making),
    'settings': dataclasses.asdict(settings),
    'probe': unit_vectors(encode, [_PROBE])[0].tolist(),
  }
  write_file(folder / FIELDS, json.dumps(fields, indent=2) + '\n')
  return model
