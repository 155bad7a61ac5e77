"""Requests and answers in the form of OpenAI's chat completions."""

from collections.abc import Mapping
import dataclasses
import json
import numbers
import secrets
from typing import Any

from lloco_jax.endpoint.finder import Reading
from lloco_jax.generation.sampling import Sampling

# Fields that change no answer.
_OF_NO_EFFECT = {
  'metadata',
  'parallel_tool_calls',
  'prompt_cache_key',
  'prompt_cache_retention',
  'safety_identifier',
  'service_tier',
  'store',
  'tool_choice',
  'user',
}
# Fields of which one value alone can be had.
_FIXED = {
  'frequency_penalty': 0,
  'functions': [],
  'logit_bias': {},
  'logprobs': False,
  'modalities': ['text'],
  'n': 1,
  'presence_penalty': 0,
  'response_format': {'type': 'text'},
  'tools': [],
  'top_logprobs': 0,
}
_READ = {
  'max_completion_tokens',
  'max_tokens',
  'messages',
  'model',
  'seed',
  'stop',
  'stream',
  'stream_options',
  'temperature',
  'top_p',
}
_MOST_STOPS = 4


@dataclasses.dataclass(frozen=True)
class ChatRequest:
  """A question, of which model, and how it is to be answered.

  `stop` are texts that end the answer before them. `include_usage` asks for
  the count of tokens at the end of a stream.
  """

  model: str
  question: str
  max_new_tokens: int
  sampling: Sampling
  stop: tuple[str, ...]
  stream: bool
  include_usage: bool


def read_request(
  body: bytes, most_new_tokens: int, last_message: bool = False
) -> ChatRequest:
  """A request from its JSON.

  Args:
    body: JSON in UTF-8.
    most_new_tokens: tokens of an answer at most, and where none are given.
    last_message: of several messages the last one counts alone; else they are
      refused.

  Raises:
    ValueError: it is none, or asks for what is not done here.
  """
  fields = _fields(body)
  for name, value in fields.items():
    if name in _FIXED and not _is_same(value, _FIXED[name]):
      raise ValueError(
        f"'{name}' can be {json.dumps(_FIXED[name])} alone; leave it out."
      )
    if name not in _READ | _FIXED.keys() | _OF_NO_EFFECT:
      raise ValueError(f"There is no field '{name}' here; leave it out.")
  model = fields.get('model')
  if not isinstance(model, str):
    raise ValueError(
      "'model' must be the name of a group of documents, as GET /v1/models "
      'lists them.'
    )
  options = fields.get('stream_options', {})
  if not isinstance(options, Mapping) or set(options) - {'include_usage'}:
    raise ValueError("'stream_options' can hold 'include_usage' alone.")
  return ChatRequest(
    model=model,
    question=_question(fields.get('messages'), last_message),
    max_new_tokens=_max_new_tokens(fields, most_new_tokens),
    sampling=_sampling(fields),
    stop=_stop(fields.get('stop', [])),
    stream=_flag('stream', fields.get('stream', False)),
    include_usage=_flag('include_usage', options.get('include_usage', False)),
  )


def _is_same(value, fixed) -> bool:
  """Numbers as numbers, but no truth value as one."""
  return value == fixed and isinstance(value, bool) == isinstance(fixed, bool)


def _fields(body: bytes) -> dict[str, Any]:
  """Those that are not null."""
  try:
    fields = json.loads(body.decode())
  except (ValueError, RecursionError) as error:
    raise ValueError(f'The body is not JSON in UTF-8 ({error}).') from None
  if not isinstance(fields, dict):
    raise ValueError('The body must be an object of JSON.')
  return {name: value for name, value in fields.items() if value is not None}


def _question(messages, last_message: bool) -> str:
  if (
    not isinstance(messages, list)
    or not messages
    or not all(isinstance(message, Mapping) for message in messages)
  ):
    raise ValueError(
      "'messages' must be a list with a message, as "
      '[{"role": "user", "content": "Who signed the report?"}].'
    )
  if len(messages) > 1 and not last_message:
    raise ValueError(
      f"'messages' holds {len(messages)} messages, but adapters are finetuned "
      'on single questions, so that nothing before it would be read; send the '
      'question alone, or serve with --last_message.'
    )
  last = messages[-1]
  if last.get('role') != 'user':
    raise ValueError(
      f'The last message has the role {json.dumps(last.get("role"))}; it must '
      "be the question, of the role 'user'."
    )
  content = last.get('content')
  if isinstance(content, list):
    parts = [
      part.get('text')
      for part in content
      if isinstance(part, Mapping) and part.get('type') == 'text'
    ]
    if len(parts) < len(content):
      raise ValueError('A part of the question is no text; send text alone.')
    content = ''.join(parts) if all(isinstance(p, str) for p in parts) else None
  if not isinstance(content, str):
    raise ValueError("The question's 'content' must be a text.")
  return content


def _max_new_tokens(fields, most: int) -> int:
  given = {
    name: fields[name]
    for name in ('max_completion_tokens', 'max_tokens')
    if name in fields
  }
  for name, value in given.items():
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
      raise ValueError(f"'{name}' must be a whole number, 1 or more.")
    if value > most:
      raise ValueError(
        f"'{name}' is {value}, and an answer has {most} tokens at most; ask "
        f'for fewer, or serve with --max_new_tokens={value}.'
      )
  if len(set(given.values())) > 1:
    raise ValueError(
      "'max_tokens' and 'max_completion_tokens' differ; give one of them."
    )
  return next(iter(given.values()), most)


def _sampling(fields) -> Sampling:
  for name in ('temperature', 'top_p', 'seed'):
    if isinstance(fields.get(name), bool):
      raise ValueError(f"'{name}' must be a number.")
  temperature = fields.get('temperature', 0)
  if isinstance(temperature, numbers.Real) and temperature > 2:
    raise ValueError(f"'temperature' is {temperature}; it must be 0 to 2.")
  return Sampling(
    temperature=temperature,
    top_p=fields.get('top_p', 1.0),
    seed=fields.get('seed', secrets.randbits(63)),
  )


def _stop(stop) -> tuple[str, ...]:
  stop = [stop] if isinstance(stop, str) else stop
  if (
    not isinstance(stop, list)
    or len(stop) > _MOST_STOPS
    or not all(isinstance(each, str) and each for each in stop)
  ):
    raise ValueError(f"'stop' must be a text or a list of up to {_MOST_STOPS}.")
  return tuple(stop)


def _flag(name: str, value) -> bool:
  if not isinstance(value, bool):
    raise ValueError(f"'{name}' must be true or false.")
  return value


class Completion:
  """The objects that tell one answer, whole or in chunks.

  `lloco` in them is not OpenAI's: the documents that were read with the passage
  that was found, and the positions that their vectors took in place of their
  tokens.

  Args:
    reading: what is read for the question.
    created: seconds since 1970.
  """

  def __init__(self, reading: Reading, created: int):
    self._reading = reading
    self._fields = {
      'id': f'chatcmpl-{secrets.token_hex(12)}',
      'created': created,
      'model': reading.group,
    }

  def whole(self, text: str, tokens: int, reason: str) -> dict[str, Any]:
    """All of it at once; `tokens` were generated and `reason` ended it."""
    message = {'role': 'assistant', 'content': text}
    choice = {'index': 0, 'message': message, 'finish_reason': reason}
    return {
      'object': 'chat.completion',
      **self._fields,
      'choices': [choice | {'logprobs': None}],
      'usage': self._usage(tokens),
      'lloco': self._told(),
    }

  def first(self) -> dict[str, Any]:
    """The chunk before the first text, with the documents that are read."""
    chunk = self._chunk({'role': 'assistant', 'content': ''})
    return chunk | {'lloco': self._told()}

  def piece(self, text: str) -> dict[str, Any]:
    """The chunk of more text."""
    return self._chunk({'content': text})

  def last(self, reason: str) -> dict[str, Any]:
    """The chunk behind the last text."""
    return self._chunk({}, reason)

  def usage(self, tokens: int) -> dict[str, Any]:
    """The chunk with the count of tokens."""
    return {
      'object': 'chat.completion.chunk',
      **self._fields,
      'choices': [],
      'usage': self._usage(tokens),
    }

  def _chunk(self, delta, reason=None) -> dict[str, Any]:
    choice = {'index': 0, 'delta': delta, 'finish_reason': reason}
    return {
      'object': 'chat.completion.chunk',
      **self._fields,
      'choices': [choice],
    }

  def _usage(self, tokens: int) -> dict[str, int]:
    read = len(self._reading.vectors) + len(self._reading.ids)
    return {
      'prompt_tokens': read,
      'completion_tokens': tokens,
      'total_tokens': read + tokens,
    }

  def _told(self) -> dict[str, Any]:
    reading = self._reading
    return {
      'group': reading.group,
      'has_adapter': reading.adapter is not None,
      'vectors': len(reading.vectors),
      'text_tokens': sum(hit.entry.tokens for hit in reading.sources),
      'sources': [
        {
          'document': hit.entry.name,
          'passage': hit.text,
          'score': round(hit.score, 4),
        }
        for hit in reading.sources
      ],
    }


def error_object(said: str, kind: str, code: str | None = None) -> dict:
  """An error in OpenAI's form."""
  return {'error': {'message': said, 'type': kind, 'param': None, 'code': code}}
