"""Notes of a study: the passages that were read, and what came of each.

`studied/GROUP.jsonl` of a library has a line for each time that a passage was
read, `dropped/GROUP.jsonl` the pairs of passages that have gone.
"""

import collections
from collections.abc import Mapping, Sequence
import errno
import json
import pathlib

from lloco_jax.data.documents import decode_utf8
from lloco_jax.data.examples import Example
from lloco_jax.data.jsonl import example_line
from lloco_jax.files import disk_is_full, write_file
from lloco_jax.library.kinds import KINDS
from lloco_jax.library.library import Library


def notes_file(library: Library, group: str) -> pathlib.Path:
  """Where the notes of a group are, or would be."""
  return library.folder / 'studied' / f'{group}.jsonl'


def dropped_file(library: Library, group: str) -> pathlib.Path:
  """Where the pairs are that a group has dropped, or would be."""
  return library.folder / 'dropped' / f'{group}.jsonl'


def pair_id(passage: str, kind: str) -> str:
  """The id of the pair of a kind that was made of a passage."""
  return f'{passage}-{kind}'


class Notes:
  """The pairs and the notes of a group, files that lines are added to.

  Pairs come first, so a passage that is noted has its pairs. Notes of passages
  that are gone go, too, and their pairs, which the user may have edited, come
  to a file of their own; what the user wrote stays. Where the document of a
  passage has another name now, pairs and notes get it, too. A last line that is
  half a pair is taken out, and printed. Pairs that come while the user has
  their file open in an editor, which then saves over them, are written again.

  `read` are the kinds of questions that were asked of each passage.

  Args:
    pairs: file of the pairs.
    notes: file of the notes.
    dropped: file of the pairs whose passages are gone.
    live: the documents that have each passage of the group, by its id.

  Raises:
    ValueError: a file is damaged or not UTF-8.
  """

  def __init__(
    self,
    pairs: pathlib.Path,
    notes: pathlib.Path,
    dropped: pathlib.Path,
    live: Mapping[str, Sequence[str]],
  ):
    self._pairs, self._notes = pairs, notes
    for path in (pairs, notes, dropped):
      path.parent.mkdir(exist_ok=True)
    lines = _lines(notes)
    if lines and not _is_whole(lines[-1]):
      # A program was stopped while it wrote.
      lines.pop()
    try:
      noted = [json.loads(line) for line in lines]
      passages = [note['passage'] for note in noted]
      before = {note['passage']: note['document'] for note in noted}
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(
        f'{notes} is damaged ({error!r}); remove it, and passages are read '
        'again.'
      ) from error
    self.read = collections.defaultdict(set)
    for note, id in zip(noted, passages):
      if id in live:
        self.read[id].update(note.get('kinds', KINDS))
    gone = {id for id in passages if id not in live}
    moved = {
      id: (old, live[id][0])
      for id, old in before.items()
      if id in live and old not in live[id]
    }
    stay = [
      _renamed(line, 'document', moved.get(id))
      for line, id in zip(lines, passages)
      if id in live
    ]
    old = _lines(pairs)
    ended = old and pairs.read_bytes().endswith(b'\n')
    if old and not ended and not _is_whole(old[-1]):
      # The same, and its passage has no note, so it is read again; or a user.
      half = old.pop().strip()
      print(
        f'The last line of {pairs} is half of a pair and was taken out: {half}',
        flush=True,
      )
    of = list(map(_passage_of, old))
    new = [
      _renamed(line, 'document_id', moved.get(id))
      for line, id in zip(old, of)
      if id not in gone
    ]
    lost = [line for line, id in zip(old, of) if id in gone]
    self.dropped = len(lost)
    if lost:
      # A call that was stopped may have kept them already.
      kept = _lines(dropped)
      there = set(kept)
      added = [line for line in lost if line not in there]
      write_file(dropped, ''.join(kept + added))
    for path, kept in ((pairs, new), (notes, stay)):
      content = ''.join(kept).encode()
      if path.is_file() and path.read_bytes() != content:
        write_file(path, content)
    # The lines of this call, and how the file was when it was written last.
    self._added, self._state = [], _state(pairs)

  def add(
    self,
    passage: str,
    document: str,
    kinds: Sequence[str],
    kept: Sequence[Example],
    refused: Sequence[dict],
  ) -> None:
    """Writes down what was made of a passage."""
    lines = list(map(example_line, kept))
    lost = '' if _state(self._pairs) == self._state else self._saved_over()
    _append(self._pairs, lost + ''.join(lines))
    self._added += lines
    self._state = _state(self._pairs)
    note = {
      'passage': passage,
      'document': document,
      'kinds': list(kinds),
      'kept': len(kept),
      'refused': refused,
    }
    _append(self._notes, json.dumps(note) + '\n')

  def _saved_over(self) -> str:
    """What the file of the pairs lacks since an editor has saved it.

    That is the pairs behind the last that it has; the user removed the others.
    """
    there = {_id_of(line) for line in _lines(self._pairs)}
    left = list(self._added)
    lost = []
    while left and _id_of(left[-1]) not in there:
      lost.insert(0, left.pop())
    if there and not self._pairs.read_bytes().endswith(b'\n'):
      lost.insert(0, '\n')
    return ''.join(lost)


def _state(path: pathlib.Path) -> tuple[int, ...] | None:
  """What tells that a file was written by another."""
  try:
    found = path.stat()
  except FileNotFoundError:
    return None
  return found.st_ino, found.st_size, found.st_mtime_ns


def _append(path: pathlib.Path, text: str) -> None:
  try:
    with path.open('a', encoding='utf-8') as file:
      file.write(text)
  except OSError as error:
    if error.errno == errno.ENOSPC:
      raise disk_is_full(path) from error
    raise


def _lines(path: pathlib.Path) -> list[str]:
  """The lines of a file, of which the last may lack its end."""
  if not path.is_file():
    return []
  lines = decode_utf8(path.read_bytes(), str(path)).split('\n')
  return [f'{line}\n' for line in lines if line]


def _is_whole(line: str) -> bool:
  try:
    return bool(json.loads(line))
  except ValueError:
    return False


def _renamed(line: str, field: str, names: tuple[str, str] | None) -> str:
  """The line, whose field says the second of the names if it said the first."""
  if names is None:
    return line
  fields = json.loads(line)
  if fields.get(field) != names[0]:
    return line
  return json.dumps(fields | {field: names[1]}, ensure_ascii=False) + '\n'


def _passage_of(line: str) -> str | None:
  """The passage that a pair was made of, if any."""
  id = _id_of(line)
  return None if id is None else id.rpartition('-')[0]


def _id_of(line: str) -> str | None:
  """The id of a pair, None where it has none."""
  try:
    return str(json.loads(line)['id'])
  except (ValueError, KeyError, TypeError):
    # Whoever reads the pairs says what is wrong with the line.
    return None
