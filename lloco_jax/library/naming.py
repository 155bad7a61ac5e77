"""The adapters of a library's groups: those named, those in their place."""

import json
import os
import pathlib

from lloco_jax.data.prompts import PROMPTS
from lloco_jax.files import alone, named_path, write_file
from lloco_jax.library.folder import show
from lloco_jax.weights import peft


class Naming:
  """Where the adapter of each group is.

  Its lock is not the library's, which may be held for hours by who adds files:
  a training that ends meanwhile names its adapter all the same.

  Args:
    path: of the file with the names, in the folder of the library; adapters in
      `adapters/GROUP` beside it need none.
  """

  def __init__(self, path: pathlib.Path):
    self._path, self._folder = path, path.parent
    self._places = self._folder / 'adapters'

  def folders(self) -> dict[str, tuple[str, str]]:
    """Folder of the adapter and name of its prompt, by group.

    Raises:
      ValueError: the file is damaged.
    """
    found = {
      place.name: (str(place), 'plain')
      for place in sorted(self._places.glob('*'))
      if holds_adapter(place)
    }
    for group, (folder, prompt) in self._named().items():
      inside = folder.startswith('./')
      found[group] = str(self._folder / folder) if inside else folder, prompt
    return found

  def name(self, group: str, folder: str | os.PathLike, prompt: str) -> None:
    """Makes a folder, or a repository of a hub, the adapter of a group.

    Raises:
      ValueError: the file is damaged, or another program changes it.
    """
    place = named_path(folder)
    if place.exists():
      folder, own = str(place.resolve()), self._folder.resolve()
      if place.resolve().is_relative_to(own):
        # The library may be moved.
        folder = f'./{place.resolve().relative_to(own)}'
    with self._alone():
      self._write(self._named() | {group: (folder, prompt)})

  def forget(self, group: str) -> None:
    """Takes the name from the adapter of a group; its folder stays.

    Raises:
      ValueError: it has none, the file is damaged, or another program changes
        it.
    """
    with self._alone():
      named = self._named()
      if named.pop(group, None) is None:
        raise ValueError(
          f"No adapter was named for the group '{group}'; one in "
          f'{show(self._places)} goes by itself when its folder does.'
        )
      self._write(named)

  def _named(self) -> dict[str, tuple[str, str]]:
    """What the file says; './' is the library's own folder."""
    if not self._path.is_file():
      return {}
    try:
      fields = json.loads(self._path.read_text('utf-8'))
      named = {
        group: (each['folder'], each['prompt'])
        for group, each in fields.items()
      }
      for folder, prompt in named.values():
        if not isinstance(folder, str):
          raise ValueError(f'{folder} is no folder')
        if prompt not in PROMPTS:
          raise ValueError(f"there is no prompt '{prompt}'")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise ValueError(
        f'{self._path} is damaged ({error!r}); remove it and name the adapters '
        'again.'
      ) from error
    return named

  def _write(self, named: dict[str, tuple[str, str]]) -> None:
    fields = {
      group: {'folder': folder, 'prompt': prompt}
      for group, (folder, prompt) in named.items()
    }
    write_file(self._path, json.dumps(fields, indent=2) + '\n')

  def _alone(self):
    self._places.mkdir(exist_ok=True)
    return alone(
      self._places / '.lock',
      f'Another program is naming an adapter in {show(self._path)}; give the '
      'command again.',
    )


def holds_adapter(folder: str | os.PathLike) -> bool:
  """Whether an adapter in PEFT's format seems to be there."""
  return (pathlib.Path(folder) / peft.CONFIG).is_file()
