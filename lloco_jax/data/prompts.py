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

# What the released LLoCO adapters were trained with, so every character
# counts: github.com/jeffreysijuntan/lloco, commit 4f8a550, finetune_quality.py,
# finetune_scrolls.py and finetune_hotpot.py. QuALITY's choices are part of the
# question (quality.py).
_CHOOSE = (
  'Choose the best answer by writing its corresponding letter (either A, B, '
  'C, or D).'
)
_AS_IT_IS = '{answer}'
_QUESTION = '{question}\nAnswer:'
PROMPTS = {
  'plain': PLAIN,
  'quality': Prompt(
    'You are provided a story from above. We will now give you a '
    'multiple-choice question with 4 possible answers (marked by A, B, C, D). '
    f'{_CHOOSE}\n'
    'Example question:\nWhere is the capital of France?\n\n'
    'Choices:\nA. Berlin\nB. Paris\nC. London\nD. Tokyo\n'
    f'{_CHOOSE}\n\nAnswer:\nB. Paris\n\n',
    f'Question:\n{{question}}\n{_CHOOSE}\n\nAnswer:\n',
    _AS_IT_IS,
  ),
  'qasper': Prompt(
    'You are just given an scientific article from above. I will now give you '
    'a question. Answer the question as concisely as you can, using a single '
    'phrase or sentence if possible. If the question cannot be answered based '
    "on the information in the article, write 'unanswerable'. If the question "
    "is a yes/no question, answer 'yes', 'no', or 'unanswerable'.\nQuestion: ",
    _QUESTION,
    _AS_IT_IS,
  ),
  'qmsum': Prompt(
    'You are given a meeting transcript from above. I will now give you a '
    'query containing a question or instruction. Answer the query in one or '
    'more sentences. \nQuery: ',
    _QUESTION,
    _AS_IT_IS,
  ),
  'narrative_qa': Prompt(
    'You are given a story from above, which can be either a novel or a movie '
    'script, and a question. Answer the question as concisely as you can, '
    'using a single phrase if possible.\nQuestion:',
    _QUESTION,
    _AS_IT_IS,
  ),
  'gov_report': Prompt(
    'You are given a report by a government agency. Write a one-page summary '
    'of the report.',
    _QUESTION,
    _AS_IT_IS,
  ),
  'hotpot_qa': Prompt(
    'You were just given an article from above. I will now give you a '
    'question. Answer the question as concisely as you can, using a single '
    'phrase or sentence if possible.\nQuestion: ',
    _QUESTION,
    _AS_IT_IS,
  ),
}


@dataclasses.dataclass(frozen=True)
class BasePrompt:
  """How the untouched base is asked.

  A text stands between `before` and `after`, then `behind_text` asks; `alone`
  asks where there is no text.
  """

  before: str
  after: str
  behind_text: Prompt
  alone: Prompt


# What the reference asks its baselines with (the same files). Of a text that
# is cut to the window what follows it is cut off, too.
_OMITTED = '... [The rest of the story is omitted]\n\n'
_ONLY = (
  'Answer the question based on the given passages. Only give me the answer '
  'and do not output any other words.\n\n'
)
BASE_PROMPTS = {
  'quality': BasePrompt(
    'Article: ', _OMITTED, PROMPTS['quality'], PROMPTS['quality']
  ),
  **{
    name: BasePrompt(
      '<<SYS>>\n', f'{_OMITTED}\n<</SYS>>\n\n', PROMPTS[name], PROMPTS[name]
    )
    for name in ('qasper', 'qmsum', 'narrative_qa', 'gov_report')
  },
  # Behind passages the reference puts the whole prompt where a question goes.
  'hotpot_qa': BasePrompt(
    f'[INST]{_ONLY}The following are given passages.\n',
    '\n\n',
    Prompt(
      f'{_ONLY}Question: {PROMPTS["hotpot_qa"].prefix}',
      '{question}\nAnswer:\nAnswer:[/INST]',
      _AS_IT_IS,
    ),
    Prompt(f'[INST]{_ONLY}Question: ', '{question}\nAnswer:[/INST]', _AS_IT_IS),
  ),
}


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
