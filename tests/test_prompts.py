"""Prompts: the text and the tokens of questions and answers."""

import hashlib
import json
import pathlib

import pytest

from lloco_jax.data.examples import Example
from lloco_jax.data.prompts import (
  PLAIN,
  PROMPTS,
  Prompt,
  encode_example,
  encode_question,
)
from lloco_jax.data.quality import with_choices
from lloco_jax.weights import sources
from lloco_jax.weights.checkpoint import load


class Characters:
  """A tokenizer whose tokens are characters."""

  eos_id = 0

  def encode(self, text):
    return [ord(character) for character in text]


EXAMPLE = Example('1', 'Who {answer}?', ('Ada', 'Ada L.'), ('minutes',))


def decode(ids):
  return ''.join(map(chr, ids))


def test_the_plain_prompt():
  prompt_ids, answer_ids = encode_example(Characters(), PLAIN, EXAMPLE)
  assert decode(prompt_ids) == '\n\nQuestion: Who {answer}?\nAnswer:'
  assert decode(answer_ids) == ' Ada\0'
  assert prompt_ids == encode_question(Characters(), PLAIN, EXAMPLE.question)


def test_a_prompt_with_a_prefix_keeps_its_braces():
  prompt = Prompt('Given {this}:\n', 'Q {question} A:\n', '<{answer}>')
  prompt_ids, answer_ids = encode_example(Characters(), prompt, EXAMPLE)
  assert decode(prompt_ids) == 'Given {this}:\nQ Who {answer}? A:\n'
  assert decode(answer_ids) == '<Ada>\0'


@pytest.mark.parametrize('name', ['question', 'answer'])
def test_a_template_without_its_field_is_refused(name):
  with pytest.raises(ValueError, match=rf'{name} template .* {{{name}}}'):
    Prompt(**{name: 'nothing'})


def test_a_tokenizer_without_an_end_is_refused():
  tokenizer = Characters()
  tokenizer.eos_id = None
  with pytest.raises(ValueError, match='no end-of-sequence token'):
    encode_example(tokenizer, PLAIN, EXAMPLE)


# Of prefix, question and answer, joined by \0: the strings of the reference's
# commit 4f8a550, which the released adapters were trained with.
DIGESTS = {
  'quality': '28c99017341ea797',
  'qasper': '18ba39a3cf86d9a9',
  'qmsum': '3f33f90928581dbf',
  'narrative_qa': '50bf40dba84c10c8',
  'gov_report': 'fe9901dec16c0639',
  'hotpot_qa': 'c7aa30127ab564b6',
}


@pytest.mark.parametrize('name', DIGESTS)
def test_no_character_of_a_released_prompt_has_changed(name):
  prompt = PROMPTS[name]
  text = '\0'.join((prompt.prefix, prompt.question, prompt.answer))
  assert hashlib.sha256(text.encode()).hexdigest()[:16] == DIGESTS[name]


def test_prompts_by_name_are_all_tested():
  assert set(PROMPTS) == {'plain', *DIGESTS}
  assert PROMPTS['plain'] == PLAIN


def test_a_question_with_choices_is_asked_as_in_the_reference():
  question = with_choices('What?', ('one', 'two', 'three', 'four'))
  asked = PROMPTS['quality'].ask(question)
  assert asked.startswith('You are provided a story from above. We will now')
  assert asked.endswith(
    '\n\nAnswer:\nB. Paris\n\nQuestion:\nWhat?\n\nChoices:\nA. one\nB. two\n'
    'C. three\nD. four\nChoose the best answer by writing its corresponding '
    'letter (either A, B, C, or D).\n\nAnswer:\n'
  )


@pytest.mark.slow
def test_token_ids_of_the_released_prompts():
  """Against ids that transformers gave for the same tokenizer file.

  SmolLM2's tokenizer comes with its weights, which are fetched on first use.
  """
  path = pathlib.Path(__file__).parent / 'golden_prompts.json'
  expected = json.loads(path.read_text(encoding='utf-8'))
  tokenizer = load(sources.EMBEDDED_DEFAULT).need_tokenizer()
  assert set(expected['ids']) == set(PROMPTS)
  for name, (prompt_ids, answer_ids) in expected['ids'].items():
    example = Example('1', expected['question'], [expected['answer']], ['d'])
    found = encode_example(tokenizer, PROMPTS[name], example)
    assert found == (prompt_ids, answer_ids), name
