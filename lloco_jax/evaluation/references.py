"""References that no answer can reach, however right it is."""

from collections.abc import Sequence

from lloco_jax.data.examples import Example
from lloco_jax.evaluation.metrics import normalize

# Scores of words that are left by `normalize`.
_OF_WORDS = ('f1', 'exact_match')


def unreachable(
  examples: Sequence[Example],
  tokenizer,
  metric: str,
  max_new_tokens: int,
  first_line: bool,
) -> list[str]:
  """Sentences about questions none of whose references can be reached.

  Args:
    examples: that are evaluated.
    tokenizer: of the model that answers.
    metric: by which.
    max_new_tokens: tokens of an answer at most.
    first_line: an answer counts up to the end of its first line.
  """
  checks = [
    (
      f'of up to {max_new_tokens} tokens, which an answer has at most '
      '(config.evaluation.max_new_tokens)',
      lambda answer: len(tokenizer.encode(answer)) <= max_new_tokens,
    )
  ]
  if first_line:
    checks.append(
      (
        'of one line, where an answer counts up to the end of its first '
        '(config.evaluation.first_line)',
        lambda answer: len(answer.strip().splitlines()) <= 1,
      )
    )
  if metric in _OF_WORDS:
    checks.append(
      (
        'with a word that counts, as the letter A alone has none '
        '(config.evaluation.metric)',
        lambda answer: bool(normalize(answer)),
      )
    )
  said = []
  for what, reaches in checks:
    count = sum(not any(map(reaches, each.answers)) for each in examples)
    if count:
      said.append(
        f'Of {len(examples):,} questions {count:,} have no reference {what}.'
      )
  return said
