"""Self-study: question-answer pairs about a group, made by the base itself.

The base reads a passage at a time, asks questions of several kinds about it
and answers them, greedily. What sifting.py lets pass is added to the pairs of
the group, where the user may edit it; notes.py keeps what was refused and why,
and what a call that was stopped goes on from. So a pair that the user has
removed does not come again.
"""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import pathlib
import time

import numpy as np

from lloco_jax.data.batches import round_up
from lloco_jax.data.contexts import Context
from lloco_jax.data.examples import Example
from lloco_jax.evaluation.metrics import normalize
from lloco_jax.files import alone
from lloco_jax.generation.answering import Asked, answer_all, answer_text
from lloco_jax.library.folder import show
from lloco_jax.library.kinds import (
  Kind,
  answering,
  asking,
  before,
  choose_kinds,
)
from lloco_jax.library.library import Library
from lloco_jax.library.notes import Notes, dropped_file, notes_file, pair_id
from lloco_jax.library.pairs import pairs_file, read_pairs
from lloco_jax.library.sifting import Seen, fault
from lloco_jax.nn.placement import parts_in_use
from lloco_jax.progress import Progress, duration

# Shorter ones, such as headings, give nothing to ask.
LEAST_CHARACTERS = 100
_QUESTION_TOKENS, _ANSWER_TOKENS = 32, 48
# On a core four take 0.7 of the time of one after another, eight 0.65.
_PASSAGES_AT_ONCE = 4
# Kept free for instructions and questions beside a passage.
_BESIDE = 256
_SECONDS_BETWEEN_LINES = 10.0


@dataclasses.dataclass
class Studied:
  """What came of a call: passages read, pairs kept, and refused by reason.

  `dropped` pairs were made of passages that the group has no more; they are in
  the file `dropped_to`.
  """

  group: str
  passages: int = 0
  known: int = 0
  kept: int = 0
  dropped: int = 0
  dropped_to: pathlib.Path | None = None
  refused: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  seconds: float = 0.0

  def text(self) -> str:
    """The summary at the end of a call."""
    lines = [
      f"'{self.group}': {self.passages:,} passages read, {self.known:,} known "
      f'before; {self.kept:,} pairs kept, {self.refused.total():,} refused, '
      f'{duration(self.seconds)}.'
    ]
    if self.refused:
      reasons = self.refused.most_common()
      said = ', '.join(f'{count:,} {reason}' for reason, count in reasons)
      lines.append(f'Refused: {said}.')
    if self.dropped:
      lines.append(
        f'{self.dropped:,} pairs were dropped, whose passages have changed or '
        f'are not in the group any more; they are in {show(self.dropped_to)}.'
      )
    return '\n'.join(lines)


@dataclasses.dataclass(frozen=True)
class _Passage:
  """A passage of a document; its id names its pairs.

  It is of the text alone, so that pairs stay where a document is called
  otherwise: its file was moved, or has grown into several documents.
  """

  document: str
  text: str

  @property
  def id(self) -> str:
    text = self.text.encode('utf-8', 'surrogatepass')
    return hashlib.sha256(text).hexdigest()[:16]


def study(
  library: Library,
  group: str,
  kinds: Sequence[str] = (),
  most: int = 0,
  progress: bool = True,
) -> Studied:
  """Makes pairs of the passages of a group that have not been read yet.

  They come in an order that is as good as random and always the same, so a
  part of them is of all documents. A passage that has been read is read again
  for kinds that it was not asked then.

  Args:
    library: with the documents, and the base that asks and answers.
    group: of the documents.
    kinds: names of KINDS; all by default.
    most: passages to read in this call; 0 for all.
    progress: print how far it is.

  Raises:
    ValueError: a kind is unknown, the pairs are damaged, or another program
      studies the group.
  """
  if most < 0:
    raise ValueError(f'most is {most}; it must be 0 (all) or more.')
  chosen = choose_kinds(kinds)
  studied, began = Studied(group), time.monotonic()
  path = pairs_file(library, group)
  path.parent.mkdir(exist_ok=True)
  with alone(
    path.with_name(f'.{group}.lock'),
    f"Another program is studying the group '{group}'; wait for it, or stop "
    'it.',
  ):
    passages, documents = {}, collections.defaultdict(list)
    for each in _passages(library, group):
      passages.setdefault(each.id, each)
      documents[each.id].append(each.document)
    studied.dropped_to = dropped_file(library, group)
    notes = Notes(
      path, notes_file(library, group), studied.dropped_to, documents
    )
    pairs = read_pairs(library, group)
    studied.dropped = notes.dropped
    lacking = {
      id: tuple(kind for kind in chosen if kind.name not in notes.read[id])
      for id in passages
    }
    waiting = [passages[id] for id in sorted(passages) if lacking[id]]
    studied.known = len(passages) - len(waiting)
    if most:
      waiting = waiting[:most]
    seen, ids = Seen(pairs), {pair.id for pair in pairs}
    meter = Progress(
      len(waiting), 'passages', _SECONDS_BETWEEN_LINES, shown=progress
    )
    at_once = round_up(_PASSAGES_AT_ONCE, parts_in_use('batch'))
    for kinds, some in _batches(waiting, lacking, at_once):
      made = _ask(library, some, kinds)
      for passage, found in zip(some, made):
        kept, refused = _sift(passage, found, seen, ids)
        names = [kind.name for kind in kinds]
        notes.add(passage.id, passage.document, names, kept, refused)
        studied.passages += 1
        studied.kept += len(kept)
        studied.refused.update(each['refused'] for each in refused)
        meter.add(1)
      meter.tell(
        f'{studied.passages:,} of {len(waiting):,} passages, '
        f'{studied.kept:,} pairs kept'
      )
  studied.seconds = time.monotonic() - began
  return studied


def _batches(
  waiting: Sequence[_Passage],
  lacking: Mapping[str, tuple[Kind, ...]],
  most: int,
):
  """Yields kinds, and at most so many passages that are all asked these."""
  for kinds in dict.fromkeys(lacking[each.id] for each in waiting):
    same = [each for each in waiting if lacking[each.id] == kinds]
    for start in range(0, len(same), most):
      yield kinds, same[start : start + most]


def _passages(library: Library, group: str) -> list[_Passage]:
  return [
    _Passage(entry.name, text.strip())
    for entry, texts in library.texts(group).items()
    for text in texts
    if len(text.strip()) >= LEAST_CHARACTERS
  ]


def _ask(
  library: Library, passages: Sequence[_Passage], kinds: Sequence[Kind]
) -> list[list[tuple[Kind, str, str, bool]]]:
  """Kind, question, answer, and whether it ended, for each passage."""
  base, tokenizer = library.base, library.base.need_tokenizer()
  room = base.window - _BESIDE
  contexts = []
  for passage in passages:
    ids = tokenizer.encode(before(passage.text))
    if len(ids) > room:
      print(
        f'Note: a passage of {passage.document} is too long to be read whole, '
        f'{len(ids) - room:,} of its tokens are cut off; in a library made '
        'with fewer --passage_characters all are read.',
        flush=True,
      )
    contexts.append(Context(np.asarray(ids[:room], np.int32)))
  stop = _stops(base, tokenizer)

  def answers(prompts, most):
    asked = [
      Asked(context, list(map(tokenizer.encode, some)), passage.document)
      for context, some, passage in zip(contexts, prompts, passages)
    ]
    return answer_all(
      base, asked, max_new_tokens=most, stop_tokens=stop,
      rows_at_a_time=len(asked),
    )  # fmt: skip

  found = answers([list(map(asking, kinds))] * len(passages), _QUESTION_TOKENS)
  questions = [
    [
      _question(tokenizer.decode(tokenizer.encode(kind.opening) + tokens))
      for kind, tokens in zip(kinds, each.tokens)
    ]
    for each in found
  ]
  prompts = [list(map(answering, some)) for some in questions]
  found = answers(prompts, _ANSWER_TOKENS)
  return [
    [
      (kind, question, answer_text(tokenizer, new), len(new) < _ANSWER_TOKENS)
      for kind, question, new in zip(kinds, some, each.tokens)
    ]
    for some, each in zip(questions, found)
  ]


def _question(text: str) -> str:
  """The text up to its first question mark, in one line."""
  end = text.find('?') + 1
  return ' '.join((text[:end] if end else text).split())


def _stops(base, tokenizer) -> list[int]:
  """Ids that end a question or an answer: of the end, and of a line's."""
  stops = list(base.stop_tokens)
  for end in ('\n', '\n\n'):
    last = tokenizer.encode(end)[-1]
    if '\n' in tokenizer.decode([last]):
      stops.append(last)
  return stops


def _sift(passage: _Passage, found, seen: Seen, ids: set[str]):
  """The pairs to keep, and what was refused with the reason."""
  kept, refused, given = [], [], set()
  for kind, question, answer, ended in found:
    reason = fault(question, answer, passage.text, ended)
    # A model that has nothing to say says the same to every question.
    if reason is None and normalize(answer) in given:
      reason = 'answer given before'
    if reason is None:
      given.add(normalize(answer))
      pair = Example(
        pair_id(passage.id, kind.name),
        question,
        (answer,),
        (passage.document,),
        (kind.name,),
      )
      # A call may have been stopped between the pairs and the note.
      if pair.id in ids:
        continue
      if pair not in seen:
        seen.add(pair)
        kept.append(pair)
        continue
      reason = 'there already'
    refused.append(
      {
        'kind': kind.name,
        'question': question,
        'answer': answer,
        'refused': reason,
      }
    )
  return kept, refused
