"""Prompts: how a question and its answer become tokens."""

import dataclasses

from lloco_jax.data.examples import Example


@dataclasses.dataclass(frozen=True)
class Prompt:
  """Templates of the text that follows a context.

  `prefix` is taken as it is, `question` holds `{question}` and `answer`
  holds `{answer}`. Nothing else in braces is replaced.

  Raises:
    ValueError: a template does not hold its field.
  """

  prefix: str = '\n\n'
  question: str = 'Question: {question}\nAnswer:'
  answer: str = ' {answer}'

  def __post_init__(self):
    for name in ('question', 'answer'):
      template, field = getattr(self, name), '{' + name + '}'
      if field not in template:
        raise ValueError(
          f"The prompt's {name} template is '{template}'; it must hold {field}."
        )

  def ask(self, question: str) -> str:
    """The text of the prompt for a question."""
    return self.prefix + self.question.replace('{question}', question)

  def reply(self, answer: str) -> str:
    """The text that should follow the prompt."""
    return self.answer.replace('{answer}', answer)


PLAIN = Prompt()


def encode_question(tokenizer, prompt: Prompt, question: str) -> list[int]:
  """Token ids of the prompt for a question, without BOS."""
  return tokenizer.encode(prompt.ask(question))


def encode_example(
  tokenizer, prompt: Prompt, example: Example
) -> tuple[list[int], list[int]]:
  """Token ids of an example's prompt, and of its first answer with EOS.

  The two are tokenised apart, as the reference does, so the prompt's ids do
  not depend on the answer.

  Raises:
    ValueError: the tokenizer has no end-of-sequence token.
  """
  if tokenizer.eos_id is None:
    raise ValueError(
      'The tokenizer has no end-of-sequence token, so an answer cannot be '
      "ended; name one as eos_token in the checkpoint's tokenizer_config.json."
    )
  answer = tokenizer.encode(prompt.reply(example.answers[0]))
  return (
    encode_question(tokenizer, prompt, example.question),
    [*answer, tokenizer.eos_id],
  )
