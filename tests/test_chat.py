"""Requests in OpenAI's form, and the text of answers."""

import json

import numpy as np
import pytest
from tiny_model import Characters

from lloco_jax.endpoint.chat import read_request
from lloco_jax.endpoint.wording import StoppedLine
from lloco_jax.generation.answering import answer_text

ASKED = {'model': 'mills', 'messages': [{'role': 'user', 'content': 'Who?'}]}


def read(most=64, last_message=False, **fields):
  return read_request(json.dumps(ASKED | fields).encode(), most, last_message)


def test_a_request_as_clients_send_it():
  asked = read()
  assert (asked.model, asked.question) == ('mills', 'Who?')
  assert asked.max_new_tokens == 64 and asked.sampling.temperature == 0
  assert not asked.stream and not asked.stop and not asked.include_usage
  asked = read(
    max_tokens=5,
    max_completion_tokens=5,
    temperature=0.5,
    top_p=0.9,
    seed=7,
    stop='.',
    stream=True,
    stream_options={'include_usage': True},
    n=1,
    presence_penalty=0.0,
    tools=[],
    logprobs=None,
    user='me',
    response_format={'type': 'text'},
  )
  assert asked.max_new_tokens == 5 and asked.stop == ('.',)
  sampling = asked.sampling
  assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.5, 0.9, 7)
  assert asked.stream and asked.include_usage
  parts = [{'type': 'text', 'text': 'Who '}, {'type': 'text', 'text': 'is?'}]
  assert read(messages=[message(parts)]).question == 'Who is?'


def message(content, role='user'):
  return {'role': role, 'content': content}


def test_choices_of_two_requests_differ_unless_they_give_a_seed():
  assert read().sampling.seed != read().sampling.seed


def test_of_a_conversation_the_last_message_counts_where_it_may():
  messages = [message('Be short.', 'system'), message('Who?')]
  with pytest.raises(ValueError, match='2 messages.*--last_message'):
    read(messages=messages)
  assert read(messages=messages, last_message=True).question == 'Who?'
  with pytest.raises(ValueError, match='role "assistant"'):
    read(messages=[*messages, message('I', 'assistant')], last_message=True)


@pytest.mark.parametrize(
  'fields, said',
  [
    ({'model': None}, 'GET /v1/models'),
    ({'messages': []}, "'messages' must be a list"),
    ({'messages': ['Who?']}, "'messages' must be a list"),
    ({'messages': [message(None)]}, "'content' must be a text"),
    (
      {'messages': [message([{'type': 'image_url', 'image_url': {}}])]},
      'is no text',
    ),
    ({'messages': [message([{'type': 'text'}])]}, "'content' must be a text"),
    ({'max_tokens': 65}, "'max_tokens' is 65.*64.*--max_new_tokens=65"),
    ({'max_tokens': 0}, "'max_tokens' must be a whole number"),
    ({'max_tokens': True}, "'max_tokens' must be a whole number"),
    ({'max_tokens': 1.0}, "'max_tokens' must be a whole number"),
    ({'max_tokens': 1, 'max_completion_tokens': 2}, 'differ'),
    ({'temperature': -1}, 'temperature is -1'),
    ({'temperature': 3}, "'temperature' is 3; it must be 0 to 2"),
    ({'temperature': 'hot'}, "temperature is 'hot'"),
    ({'temperature': True}, "'temperature' must be a number"),
    ({'top_p': 0}, 'top_p is 0'),
    ({'seed': 2**64}, 'seed is'),
    ({'seed': 'x'}, "seed is 'x'"),
    ({'stop': ''}, "'stop' must be"),
    ({'stop': list('abcde')}, "'stop' must be"),
    ({'stop': 3}, "'stop' must be"),
    ({'stream': 1}, "'stream' must be true or false"),
    ({'stream_options': {'x': 1}}, "'stream_options'"),
    ({'n': 2}, "'n' can be 1 alone"),
    ({'n': True}, "'n' can be 1 alone"),
    ({'logprobs': 0}, "'logprobs' can be false alone"),
    ({'tools': [{}]}, "'tools' can be"),
    ({'top_k': 3}, "no field 'top_k'"),
  ],
)
def test_what_is_not_done_is_refused(fields, said):
  with pytest.raises(ValueError, match=said):
    read(**fields)


@pytest.mark.parametrize(
  'body', [b'', b'{', b'[]', b'"x"', b'\xff', b'[' * 100_000, b'1' * 10_000]
)
def test_a_body_that_is_no_object(body):
  with pytest.raises(ValueError, match='The body'):
    read_request(body, 64)


@pytest.mark.parametrize('seed', range(40))
def test_a_line_ends_before_the_first_of_the_stops(seed):
  """Against the text of all tokens, cut at once."""
  random = np.random.default_rng(seed)
  text = ''.join(random.choice(list('ab \n'), 30, p=[0.4, 0.4, 0.15, 0.05]))
  stops = [
    ''.join(random.choice(list('ab '), random.integers(1, 5))).strip() or 'b'
    for _ in range(random.integers(0, 4))
  ]
  tokenizer = Characters()
  tokens = tokenizer.encode(text)
  line, pieces, used = StoppedLine(tokenizer, stops), [], 0
  for token in tokens:
    pieces.append(line.add(token))
    used += 1
    if line.done:
      break
  pieces.append(line.end())
  whole = answer_text(tokenizer, tokens)
  ends = [at for stop in stops if (at := whole.find(stop)) >= 0]
  assert ''.join(pieces) == line.text == whole[: min(ends, default=len(whole))]
  # No later than the stop is there.
  if ends:
    read = answer_text(tokenizer, tokens[:used])
    assert any(read.endswith(stop) for stop in stops)


def test_what_may_become_a_stop_is_held_back():
  tokenizer = Characters()
  line = StoppedLine(tokenizer, ['abc'])
  pieces = [line.add(token) for token in tokenizer.encode('xabab')]
  assert pieces == ['x', '', '', 'ab', '']
  assert line.end() == 'ab' and line.text == 'xabab'
