"""Prompts: the text and the tokens of questions and answers."""

import pytest

from lloco_jax.data.examples import Example
from lloco_jax.data.prompts import (
  PLAIN,
  Prompt,
  encode_example,
  encode_question,
)


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
