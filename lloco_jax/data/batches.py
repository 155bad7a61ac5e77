"""Packed rows: several questions behind one context.

Every question starts at the position behind the context and sees the context
and itself, so a document is read once for all its questions, and the result
is that of one row a question.
"""

import numpy as np

from lloco_jax.nn.visibility import UNSEEN

# A target that is not predicted, as in Hugging Face.
IGNORED = -100


def round_up(value: int, multiple: int) -> int:
  """The smallest multiple, one at least, that holds `value`."""
  return max(1, -(-value // multiple)) * multiple


def packed_size(questions) -> tuple[int, int]:
  """Tokens and predicted tokens of (prompt ids, answer ids) pairs.

  The last token of an answer is predicted and never read.
  """
  tokens = sum(len(prompt) + len(answer) - 1 for prompt, answer in questions)
  return tokens, sum(len(answer) for _, answer in questions)


def pack(rows, width_multiple: int = 64, targets_multiple: int = 16) -> dict:
  """Packs questions into one row a context.

  Args:
    rows: for each row a list of (prompt ids, answer ids) pairs, EOS included
      in the answer where it is to be learnt.
    width_multiple: the width W is rounded up to it, so that few shapes occur.
    targets_multiple: likewise the number of targets, A.

  Returns:
    int32 arrays: `tokens` [B, W]; `offsets` [B, W], positions behind the
    context, UNSEEN for padding; `groups` [B, W], the question's number from
    1; `predicting` [B, A], which of the W positions predict; `targets`
    [B, A], the ids they predict, IGNORED for padding.
  """
  sizes = [packed_size(questions) for questions in rows]
  width = round_up(max(size[0] for size in sizes), width_multiple)
  count = round_up(max(size[1] for size in sizes), targets_multiple)
  batch = len(rows)
  packed = {
    'tokens': np.zeros((batch, width), np.int32),
    'offsets': np.full((batch, width), UNSEEN, np.int32),
    'groups': np.zeros((batch, width), np.int32),
    'predicting': np.zeros((batch, count), np.int32),
    'targets': np.full((batch, count), IGNORED, np.int32),
  }
  for row, questions in enumerate(rows):
    start = found = 0
    for group, (prompt, answer) in enumerate(questions, 1):
      ids = [*prompt, *answer[:-1]]
      if not prompt or not answer:
        raise ValueError('A question needs a prompt and an answer.')
      stop = start + len(ids)
      packed['tokens'][row, start:stop] = ids
      packed['offsets'][row, start:stop] = range(len(ids))
      packed['groups'][row, start:stop] = group
      ends = slice(found, found + len(answer))
      packed['predicting'][row, ends] = range(stop - len(answer), stop)
      packed['targets'][row, ends] = answer
      start, found = stop, found + len(answer)
  return packed
