"""Groups that are found: files whose texts are alike get one together.

A file is the mean of its passages' text embeddings; k-means clusters the
files, and each group is named by words that its files have and others lack.
"""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import json
import re

import numpy as np

from lloco_jax.files import write_file
from lloco_jax.library.catalogue import Entry, Passage
from lloco_jax.library.library import GROUPING, UNGROUPED, Library
from lloco_jax.library.pairs import pairs_file
from lloco_jax.retrieval.clusters import Clustering, cluster

MOST_GROUPS = 12
# Files that are less apart than this make no groups of their own.
_LEAST_SILHOUETTE = 0.05
_WORDS = re.compile(r'[^\W\d_]{4,}')
_WORDS_A_NAME = 2
# Documents whose passages are read at a time.
_AT_ONCE = 500


@dataclasses.dataclass(frozen=True)
class Grouping:
  """Files by group, and the clusterings that were tried.

  Where none was `chosen`, files are in the groups that they had.
  """

  files: dict[str, list[str]]
  tried: Sequence[Clustering] = ()
  chosen: Clustering | None = None

  def text(self) -> str:
    """The table of what was tried, and the groups."""
    lines = ['groups  silhouette'] if self.tried else []
    for each in self.tried:
      mark = ' *' if each is self.chosen else ''
      lines.append(f'{each.count:>6}  {each.silhouette:>10.3f}{mark}')
    if self.chosen is None:
      lines.append(
        'The files are too few or too alike to find groups of them; they stay '
        'where they are.'
      )
    lines += [
      f'  {name}: {len(paths):,} files'
      for name, paths in sorted(self.files.items())
    ]
    return '\n'.join(lines)


def find_groups(
  library: Library, most: int = MOST_GROUPS, count: int = 0, seed: int = 0
) -> Grouping:
  """Puts all files of a library into groups by what they are about.

  The number of groups is that of the highest silhouette; where even that is
  low, files stay in the groups that they have. Summaries stay as they are.
  What is found is written down before a file is moved, and the next
  `add_folder` or call of this completes it where it was stopped.

  Args:
    library: whose files to group.
    most: groups at most.
    count: so many groups; 0 finds their number.
    seed: of the clustering.

  Raises:
    ValueError: a group has an adapter or pairs, which are of its documents;
      another program changes the library; or there are too few files.
  """
  if most < 1:
    raise ValueError(f'most is {most}; it must be 1 or more.')
  with library.alone():
    complete_grouping(library)
    entries = library.catalogue.entries()
    if not entries:
      return Grouping({})
    _check_free(library, {entry.group for entry in entries})
    paths, vectors, words = _read_files(library, entries)
    if count and not 2 <= count < len(paths):
      raise ValueError(
        f'{len(paths)} files cannot be put into {count} groups; it must be 2 '
        'or more, and fewer than the files.'
      )
    if count:
      tried = cluster(vectors, (count,), seed)
    else:
      counts = range(2, min(most, len(paths) // 2) + 1)
      tried = cluster(vectors, counts, seed)
    best = max(tried, key=lambda each: each.silhouette, default=None)
    if best is None or not count and best.silhouette < _LEAST_SILHOUETTE:
      had = {entry.path: entry.group for entry in entries}
      return Grouping(_by_group(had), tried)
    names = name_clusters(words, best.labels)
    files = _by_group(
      {path: names[label] for path, label in zip(paths, best.labels)}
    )
    write_file(library.folder / GROUPING, json.dumps(files) + '\n')
    complete_grouping(library)
  return Grouping(files, tried, best)


def _by_group(groups: Mapping[str, str]) -> dict[str, list[str]]:
  files = collections.defaultdict(list)
  for path, group in groups.items():
    files[group].append(path)
  return dict(files)


def complete_grouping(library: Library) -> None:
  """Moves files to the groups that were found, if a program was stopped at it.

  No other program may be changing the library: see `Library.alone`.

  Raises:
    ValueError: what was written down is damaged.
  """
  plan = library.folder / GROUPING
  if not plan.is_file():
    return
  try:
    files = {
      str(group): list(map(str, paths))
      for group, paths in json.loads(plan.read_text('utf-8')).items()
    }
  except (ValueError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{plan} is damaged ({error!r}); remove it, and find groups again with: '
      'python -m lloco_jax library group'
    ) from error
  _move(library, library.catalogue.entries(), files)
  plan.unlink()


def is_ungrouped(library: Library) -> bool:
  """Whether all files are where they wait for groups, and nothing is learnt."""
  groups = {entry.group for entry in library.catalogue.entries()}
  return groups == {UNGROUPED} and not belongings(library, groups)


def nearest_group(library: Library, vector: np.ndarray, count: int = 5) -> str:
  """The group of the passages that are nearest to a text embedding [D]."""
  entries, weights = library.catalogue.by_version(), collections.Counter()
  for version, *_, cosine in library.catalogue.by_vector(vector, count):
    weights[entries[version].group] += max(cosine, 0.0)
  return max(weights, key=weights.get, default=UNGROUPED)


def name_clusters(
  words: Sequence[collections.Counter], labels: Sequence[int]
) -> list[str]:
  """A name for each cluster: words that it has more of than the others.

  Args:
    words: how often each word occurs, by file.
    labels: the cluster of each file, from 0 on.
  """
  labels = np.asarray(labels)
  names = []
  for label in range(labels.max() + 1):
    own = [words[place] for place in np.flatnonzero(labels == label)]
    others = [words[place] for place in np.flatnonzero(labels != label)]
    inside, outside = _shares(own), _shares(others)
    having, elsewhere = (
      collections.Counter(word for each in files for word in each)
      for files in (own, others)
    )
    # A word that a file of another group has says little.
    score = {
      word: (share - outside.get(word, 0.0))
      * having[word]
      / (1 + elsewhere[word])
      for word, share in inside.items()
    }
    chosen = []
    for word in sorted(score, key=lambda word: (-score[word], word)):
      # No second form of a word, such as its plural.
      if not any(
        word.startswith(other) or other.startswith(word) for other in chosen
      ):
        chosen.append(word)
      if len(chosen) == _WORDS_A_NAME:
        break
    name = '-'.join(chosen) or 'group'
    # A name has at most 100 bytes; see check_group.
    name = name.encode()[:80].decode(errors='ignore')
    names.append(f'{name}-{label + 1}' if name in names else name)
  return names


def _shares(files: Sequence[collections.Counter]) -> dict[str, float]:
  """The mean share of a file's words that each word has."""
  shares = collections.Counter()
  for each in files:
    total = each.total()
    for word, count in each.items():
      shares[word] += count / total / len(files)
  return shares


def belongings(library: Library, groups: set[str]) -> dict[str, str]:
  """What groups have, so that their documents are to stay theirs."""
  pairs = [group for group in groups if pairs_file(library, group).is_file()]
  adapters = groups & library.adapter_folders().keys()
  return {
    **dict.fromkeys(pairs, 'question-answer pairs'),
    **dict.fromkeys(adapters, 'an adapter'),
  }


def _check_free(library: Library, groups: set[str]) -> None:
  for group, what in sorted(belongings(library, groups).items()):
    raise ValueError(
      f"The group '{group}' has {what} about its documents, so groups are not "
      'found anew; make another library for that, or name a group with: python '
      '-m lloco_jax library add FOLDER --group=NAME'
    )


def _read_files(library: Library, entries: Sequence[Entry]):
  """Paths of files, a vector [D] of each, and its words."""
  sums = collections.defaultdict(float)
  words = collections.defaultdict(collections.Counter)
  for start in range(0, len(entries), _AT_ONCE):
    some = entries[start : start + _AT_ONCE]
    texts = library.catalogue.texts([entry.version for entry in some])
    for entry in some:
      pieces = texts[entry.version]
      sums[entry.path] = sums[entry.path] + library.vectors(pieces).sum(axis=0)
      words[entry.path].update(_WORDS.findall(' '.join(pieces).lower()))
  paths = sorted(sums)
  vectors = np.array([sums[path] for path in paths])
  lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
  vectors = vectors / np.where(lengths == 0, 1, lengths)
  return paths, vectors, [words[path] for path in paths]


def _move(library: Library, entries, files: dict[str, list[str]]) -> None:
  """Puts files into their groups; what is there already is left alone."""
  groups = {path: name for name, paths in files.items() for path in paths}
  moved = [
    entry
    for entry in entries
    if entry.group != groups.get(entry.path, entry.group)
  ]
  for start in range(0, len(moved), _AT_ONCE):
    some = moved[start : start + _AT_ONCE]
    texts = library.catalogue.texts([entry.version for entry in some])
    new, passages = [], []
    for entry in some:
      group, pieces = groups[entry.path], texts[entry.version]
      changed = dataclasses.replace(entry, group=group)
      new.append(changed)
      passages += [
        Passage(changed.version, place, group, text, vector)
        for place, (text, vector) in enumerate(
          zip(pieces, library.vectors(pieces))
        )
      ]
    library.catalogue.put(new, passages)
  library.catalogue.tidy()
