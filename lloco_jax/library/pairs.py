"""Question-answer pairs about the documents of a group, to finetune on.

`pairs/GROUP.jsonl` of a library has a pair a line, as data/jsonl.py reads
examples. The user may write or edit it; study.py adds to it.
"""

import collections
from collections.abc import Sequence
import dataclasses
import pathlib

from lloco_jax.data.examples import Example
from lloco_jax.data.jsonl import read_examples
from lloco_jax.library.catalogue import Entry
from lloco_jax.library.folder import escaped, show
from lloco_jax.library.library import Library

# Passages that a search puts forward.
_CANDIDATES = 100


def pairs_file(library: Library, group: str) -> pathlib.Path:
  """Where the pairs of a group are, or would be."""
  return library.folder / 'pairs' / f'{group}.jsonl'


def read_pairs(library: Library, group: str) -> tuple[Example, ...]:
  """The pairs of a group as they are written; none where there is no file.

  Raises:
    ValueError: a line is damaged (the file and the line are named), or two
      have one id.
  """
  path = pairs_file(library, group)
  if not path.is_file() or not path.read_bytes().strip():
    return ()
  pairs = read_examples(path)
  twice = collections.Counter(pair.id for pair in pairs).most_common(1)
  if twice and twice[0][1] > 1:
    raise ValueError(
      f"{path} has the id '{twice[0][0]}' {twice[0][1]} times; give each pair "
      'its own.'
    )
  return pairs


def groups_of(library: Library, group: str = '') -> list[str]:
  """The groups of a library, or the one that is named.

  Raises:
    ValueError: it has no such group, or no documents, or not all are in theirs.
  """
  library.check_grouped()
  groups = sorted({entry.group for entry in library.catalogue.entries()})
  if not groups:
    raise ValueError(
      f'The library {show(library.folder)} has no documents; add some with: '
      'python -m lloco_jax library add FOLDER'
    )
  if not group:
    return groups
  if group not in groups:
    raise ValueError(
      f"The library has no group '{group}'; it has {', '.join(groups)}."
    )
  return [group]


def find_documents(
  library: Library, group: str, pairs: Sequence[Example]
) -> tuple[Example, ...]:
  """The pairs about documents of the group, which then have their names.

  A pair may name a document as `library list --documents` does, or a file by
  its path or by its name alone. Of a file of several documents the one is
  taken that a search for the words of question and answer finds first. Pairs
  about anything else are left out, and it is said how many.
  """
  by_name = _by_name(
    [entry for entry in library.catalogue.entries() if entry.group == group]
  )
  found, unknown, doubtful = [], [], []
  for pair in pairs:
    named = [by_name.get(name, ()) for name in pair.document_ids]
    if all(named):
      ids = [_one_of(library, group, entries, pair).name for entries in named]
      found.append(dataclasses.replace(pair, document_ids=tuple(ids)))
      continue
    name = pair.document_ids[list(map(bool, named)).index(False)]
    lost = doubtful if name in by_name else unknown
    lost.append(f"'{pair.id}' about '{name}' for one")
  _say_left_out(
    unknown,
    len(pairs),
    f"they ask about what is no document of the group '{group}'",
    '`python -m lloco_jax library list --documents` has the names',
  )
  _say_left_out(
    doubtful,
    len(pairs),
    f"several files of the group '{group}' have the name that they give",
    'write the path of the file as document_id',
  )
  return tuple(found)


def _say_left_out(lost: Sequence[str], of: int, why: str, mend: str) -> None:
  if lost:
    print(
      f'{len(lost)} of {of} pairs are left out, as {why}, {lost[0]}; {mend}.',
      flush=True,
    )


def _by_name(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
  """Documents by all that they may be called; a doubtful name has none."""
  files, names = {}, {}
  for entry in entries:
    files.setdefault(entry.path, []).append(entry)
  for path, parts in files.items():
    short = escaped(pathlib.Path(path).name)
    names[short] = [] if short in names else parts
  names |= {escaped(path): parts for path, parts in files.items()}
  return names | {entry.name: [entry] for entry in entries}


def _one_of(library, group, entries: Sequence[Entry], pair: Example) -> Entry:
  if len(entries) == 1:
    return entries[0]
  by_version = {entry.version: entry for entry in entries}
  words = f'{pair.question} {pair.answers[0]}'
  # By words alone: whoever trains need not have the library's text embedding.
  for version, *_ in library.catalogue.by_words(words, _CANDIDATES, group):
    if version in by_version:
      return by_version[version]
  return entries[0]
