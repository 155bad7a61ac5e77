"""Kinds of questions that a model makes of a passage, and how it is told to.

The words that a question begins with are given, and the model goes on from
them; so each kind is asked, and greedily chosen words are not all the same.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of question: its name, a tag of its pairs, and its first words."""

  name: str
  opening: str


KINDS = {
  kind.name: kind
  for kind in (
    Kind('person', 'Who'),
    Kind('thing', 'What is'),
    Kind('deed', 'What did'),
    Kind('time', 'When'),
    Kind('place', 'Where'),
    Kind('reason', 'Why'),
    Kind('manner', 'How did'),
    Kind('number', 'How many'),
  )
}

# What stands before a passage: an example, from which the model sees that
# questions name what they are about and that answers are short. It works for
# those that were taught to follow instructions, too.
EXAMPLE = (
  'Passage: The old bridge at Hamden was opened in 1931 by the engineer Ruth '
  'Cole. It carries the coast road over the river Tarn and is closed in '
  'winter, because the wind is too strong.\n'
  'Question: Who opened the old bridge at Hamden?\n'
  'Answer: the engineer Ruth Cole\n'
  'Question: When was the old bridge at Hamden opened?\n'
  'Answer: in 1931\n'
  'Question: Why is the Hamden bridge closed in winter?\n'
  'Answer: because the wind is too strong\n\n'
)


def before(passage: str) -> str:
  """What is read once for all questions about a passage."""
  return f'{EXAMPLE}Passage: {passage}'


def asking(kind: Kind) -> str:
  """What a question of a kind goes on from."""
  return f'\nQuestion: {kind.opening}'


def answering(question: str) -> str:
  """What the answer to a question goes on from."""
  return f'\nQuestion: {question}\nAnswer:'


def choose_kinds(names) -> tuple[Kind, ...]:
  """The kinds of these names, or all where there are none.

  Raises:
    ValueError: a name is unknown.
  """
  unknown = [name for name in names if name not in KINDS]
  if unknown:
    raise ValueError(
      f"There is no kind of question '{unknown[0]}'; use some of "
      f'{", ".join(KINDS)}.'
    )
  return tuple(KINDS[name] for name in names or KINDS)
