"""Texts cut into pieces: parts that are compressed, passages that are found.

Pieces put together are the text. A cut depends on what stands before it and a
little behind it, so a text that has grown keeps all but its last pieces.
"""

import re

# Where a piece ends best: a paragraph, a line, a sentence, a word.
_ENDS = tuple(map(re.compile, (r'\n\s*\n', r'\n', r'[.!?]["\')\]]*\s', r'\s')))
_CONTENT = re.compile(r'\S')


def cut(text: str, most: int) -> list[str]:
  """Pieces of at most `most` characters besides the space they begin with.

  A piece ends where a paragraph does, if one ends in its second half; else
  where a line, a sentence, or a word does. None is blank, unless the text is.

  Raises:
    ValueError: `most` is not positive.
  """
  if most < 1:
    raise ValueError(f'A piece of {most} characters holds nothing; take more.')
  pieces, start = [], 0
  while content := _CONTENT.search(text, start):
    stop = content.start() + most
    stop = len(text) if stop >= len(text) else _end(text, stop - most, stop)
    pieces.append(text[start:stop])
    start = stop
  if start < len(text):
    # Space at the end belongs to the last piece.
    pieces[-1:] = [''.join([*pieces[-1:], text[start:]])]
  return pieces


def _end(text: str, start: int, stop: int) -> int:
  """The best place for a cut between the half and the end of a piece."""
  half = start + (stop - start) // 2
  for pattern in _ENDS:
    found = [match.end() for match in pattern.finditer(text, half, stop)]
    if found:
      return found[-1]
  return stop
