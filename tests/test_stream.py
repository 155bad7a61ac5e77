"""Token by token: the same tokens as all at once."""

import jax
import numpy as np
import pytest
import tiny
from tiny_model import CONFIG, WIDTH, Characters, tiny_adapter, tiny_model

import lloco_jax as lloco
from lloco_jax.data.contexts import Context
from lloco_jax.generation.answering import answer_text
from lloco_jax.generation.stream import FirstLine, Stream

PROMPT = [3, 5, 7, 9, 11]


def stream(context, adapter=None, new=12, **options):
  return list(Stream(tiny_model(), context, PROMPT, adapter, new, **options))


@pytest.mark.parametrize(
  'length, adapted',
  [pytest.param(9, False, marks=pytest.mark.slow), (70, True)],
)
def test_tokens_are_those_of_generate(length, adapted):
  vectors = np.asarray(tiny.normal(length, length, WIDTH))
  adapter = tiny_adapter() if adapted else None
  expected = lloco.generate(
    tiny_model(), PROMPT, vectors, adapter, 12, stop_tokens=()
  ).tolist()
  assert len(set(expected)) > 2
  found = stream(Context(vectors), adapter, stop_tokens=())
  assert found == expected
  stop = expected[5]
  assert (
    stream(Context(vectors), adapter, stop_tokens=[stop])
    == (expected[: expected.index(stop)])
  )
  assert stream(Context(vectors), adapter, 1, stop_tokens=()) == expected[:1]


def test_nothing_is_compiled_between_tokens():
  compiled = []

  def heard(event, *_, **__):
    if event.endswith('backend_compile_duration'):
      compiled.append(event)

  # So many new tokens no other test asks for.
  made = Stream(tiny_model(), Context(np.zeros((9, WIDTH))), PROMPT, None, 17)
  jax.monitoring.register_event_duration_secs_listener(heard)
  try:
    assert list(made)
    assert not compiled
  finally:
    jax.monitoring.unregister_event_duration_listener(heard)


def test_a_context_of_text():
  tokens = tiny.ids(1, 9)
  table = np.asarray(tiny_model().params['embed_tokens']['embedding'])
  expected = stream(Context(table[tokens]), stop_tokens=())
  assert stream(Context(tokens), stop_tokens=()) == expected


def test_refusals():
  none = Context(np.zeros((0, WIDTH), np.float32))
  with pytest.raises(ValueError, match='prompt .* is empty'):
    Stream(tiny_model(), none, [])
  with pytest.raises(ValueError, match='max_new_tokens is 0'):
    Stream(tiny_model(), none, PROMPT, max_new_tokens=0)
  window = CONFIG.max_position_embeddings
  long = Context(np.zeros((window - 20, WIDTH), np.float32))
  with pytest.raises(ValueError, match=f'the model has {window}'):
    Stream(tiny_model(), long, PROMPT, max_new_tokens=16)
  Stream(tiny_model(), long, PROMPT, max_new_tokens=15)


@pytest.mark.parametrize(
  'said',
  ['A mill.', '  A mill. ', '\n\n a b \nc', '', ' \n', 'a  b', 'a\r\nb', 'a\n'],
)
def test_the_first_line_piece_by_piece(said):
  line, pieces = FirstLine(Characters()), []
  tokens = Characters().encode(said)
  for token in tokens:
    assert not line.done
    pieces.append(line.add(token))
    if line.done:
      break
  assert ''.join(pieces) == line.text == answer_text(Characters(), tokens)
  assert line.done == ('\n' in said.lstrip())


class Bytes:
  """A tokenizer with one token a byte."""

  def decode(self, ids):
    return bytes(ids).decode('utf-8', 'replace')


def test_characters_of_several_tokens_come_whole():
  line = FirstLine(Bytes())
  pieces = [line.add(token) for token in 'né☃'.encode()]
  assert pieces == ['n', '', 'é', '', '', '☃']
