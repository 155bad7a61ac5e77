"""A question to a library, and its answer."""

from collections.abc import Callable, Sequence
import dataclasses
import os
import time

import numpy as np

from lloco_jax.data.contexts import Context
from lloco_jax.data.prompts import encode_question
from lloco_jax.generation.stream import FirstLine, Stream
from lloco_jax.library.finding import Hit, documents_of, find_in_group
from lloco_jax.library.library import DEFAULT_FOLDER, Library
from lloco_jax.library.making import RESERVE


@dataclasses.dataclass(frozen=True)
class Timed:
  """A text that was written, and what it took.

  `context` and `prompt` are positions that were read before it; seconds are
  without compilation. `cut` says that it had all the tokens it might have.
  """

  text: str
  context: int
  prompt: int
  seconds_to_first_token: float
  seconds: float
  cut: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
  """An answer of a library.

  `sources` has a hit for each document whose summaries were read, in their
  order; `has_adapter` says whether the group has one; `text_tokens` is how
  many tokens their texts have. `from_text` is the answer of the base to the
  texts themselves, where it was asked for and they fit the window.
  """

  answer: Timed
  group: str
  has_adapter: bool
  sources: tuple[Hit, ...]
  text_tokens: int
  from_text: Timed | None = None

  @property
  def text(self) -> str:
    return self.answer.text


def ask(
  question: str,
  library: Library | str | os.PathLike = DEFAULT_FOLDER,
  group: str | None = None,
  documents: int = 3,
  max_new_tokens: int = 64,
  said: Callable[[str], None] | None = None,
  compare: bool = False,
) -> Answer:
  """Answers a question from the summaries of the documents that are found.

  Args:
    question: in words.
    library: the library or its folder.
    group: of the documents; by default the one that the best hits are of.
    documents: to read at most; as many as the window has room for.
    max_new_tokens: tokens of the answer at most.
    said: is given each piece of the answer as soon as it is written.
    compare: also answer from the texts of the documents, with the base as it
      was before it became a compressor.

  Raises:
    FileNotFoundError: there is no library, or it lacks summaries.
    ValueError: the library is empty, or the question is, or has no room.
    ImportError: a package of the extra 'library' is missing.
  """
  check_question(question)
  check_documents(documents)
  if not isinstance(library, Library):
    library = Library(library)
  group, hits = find_in_group(library, question, group)
  adapter, prompt = library.adapter(group)
  model = library.model
  tokens = encode_question(model.need_tokenizer(), prompt, question)
  sources = choose_sources(
    hits, documents, len(tokens), max_new_tokens, model.window
  )
  context = Context(read_summaries(library, sources))
  stream = Stream(model, context, tokens, adapter, max_new_tokens)
  answer = _write(
    stream, model.tokenizer, context, tokens, max_new_tokens, said
  )
  return Answer(
    answer=answer,
    group=group,
    has_adapter=adapter is not None,
    sources=tuple(sources),
    text_tokens=sum(hit.entry.tokens for hit in sources),
    from_text=(
      _from_text(library, sources, tokens, max_new_tokens) if compare else None
    ),
  )


def choose_sources(
  hits: Sequence[Hit],
  documents: int,
  prompt_tokens: int,
  max_new_tokens: int,
  window: int,
) -> list[Hit]:
  """The best hit of each document whose summaries are read for a question.

  Args:
    hits: best first.
    documents: at most.
    prompt_tokens: of the question with its prompt.
    max_new_tokens: tokens of the answer at most.
    window: positions of the model.

  Raises:
    ValueError: there is no room for any.
  """
  room = window - max(RESERVE, prompt_tokens + max_new_tokens)
  sources = documents_of(hits, documents, room)
  if not sources:
    raise ValueError(
      f'The question has {prompt_tokens:,} tokens and its answer may have '
      f"{max_new_tokens:,}; of the model's {window:,} positions that leaves "
      f'{max(room, 0):,} for summaries, and none of the documents that were '
      'found has so few. Ask in fewer words, or for a shorter answer.'
    )
  return sources


def check_documents(documents: int) -> None:
  """Raises ValueError for fewer than one."""
  if documents < 1:
    raise ValueError(f'documents is {documents}; it must be 1 or more.')


def check_question(question: str) -> None:
  """Raises ValueError for what is no text."""
  if not isinstance(question, str):
    raise ValueError(f'The question is {question!r}; ask in words, as a text.')
  try:
    question.encode('utf-8')
  except UnicodeEncodeError:
    raise ValueError(
      f'The question {question!r} is not UTF-8; ask it in that encoding.'
    ) from None


def read_summaries(library: Library, sources: Sequence[Hit]) -> np.ndarray:
  """Summary vectors [n, D] of the documents of hits, in their order.

  Raises:
    OSError, ValueError: some are damaged or gone.
  """
  return np.concatenate([_summary(library, hit) for hit in sources])


def _summary(library: Library, hit: Hit) -> np.ndarray:
  try:
    return library.store.load(hit.entry.key, library.settings.compressor)
  except (OSError, ValueError) as error:
    raise type(error)(
      f'The summaries of {hit.entry.name} are damaged or gone ({error}) Take '
      'them out with: python -m lloco_jax library verify --mend, and add its '
      'folder again.'
    ) from error


def _from_text(
  library: Library, sources: Sequence[Hit], tokens, max_new_tokens: int
) -> Timed | None:
  """The base's answer to the texts, or None where they do not fit."""
  base = library.base
  versions = [hit.entry.version for hit in sources]
  texts = library.catalogue.texts(versions)
  joined = '\n\n'.join(''.join(texts[version]) for version in versions)
  context = Context(np.asarray(base.tokenizer.encode(joined), np.int32))
  needed = len(context) + len(tokens) + max_new_tokens
  if needed > base.window:
    return None
  stream = Stream(base, context, tokens, None, max_new_tokens)
  return _write(stream, base.tokenizer, context, tokens, max_new_tokens)


def _write(stream, tokenizer, context, tokens, most, said=None) -> Timed:
  """Writes the first line of what a stream says, of `most` tokens at most."""
  line, first, count = FirstLine(tokenizer), 0.0, 0
  began = time.perf_counter()
  for token in stream:
    first = first or time.perf_counter() - began
    count += 1
    piece = line.add(token)
    if piece and said is not None:
      said(piece)
    if line.done:
      break
  seconds = time.perf_counter() - began
  return Timed(
    line.text,
    len(context),
    len(tokens),
    first or seconds,
    seconds,
    cut=count >= most and not line.done,
  )
