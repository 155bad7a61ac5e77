"""Made-up questions behind made-up summaries, the same for every side."""

import numpy as np

# Every model knows the first ids.
VOCABULARY = 256


def questions(options: dict) -> list[list[tuple[list[int], list[int]]]]:
  """(prompt ids, answer ids) of the questions of each document.

  Prompts are between half of `prompt` and `prompt` tokens long, answers
  between half of `answer` and `answer`.
  """
  random = np.random.default_rng(1)

  def ids(longest):
    length = random.integers(longest // 2, longest, endpoint=True)
    return random.integers(VOCABULARY, size=length).tolist()

  return [
    [(ids(options['prompt']), ids(options['answer'])) for _ in range(count)]
    for count in [options['questions']] * options['documents']
  ]


def contexts(options: dict) -> np.ndarray:
  """[documents, context, D] float32, as summary vectors would be."""
  random = np.random.default_rng(2)
  shape = (options['documents'], options['context'], options['width'])
  return random.normal(size=shape).astype(np.float32)


def flags(parser, documents: int, questions: int) -> None:
  """The flags that say how many examples there are, and of what size."""
  parser.add_argument('--documents', type=int, default=documents)
  parser.add_argument(
    '--questions', type=int, default=questions, help='a document'
  )
  parser.add_argument('--context', type=int, default=200, help='vectors')
  parser.add_argument('--prompt', type=int, default=48, help='tokens at most')
  parser.add_argument('--answer', type=int, default=16, help='tokens at most')
