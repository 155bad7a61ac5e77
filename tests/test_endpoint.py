"""The endpoint over HTTP, asked by OpenAI's own client."""

from concurrent.futures import ThreadPoolExecutor
import contextlib
import dataclasses
import http.client
import json
import socket
import threading
import time

import pytest
from test_library import (  # noqa: F401
  add_two_groups,
  encode,
  make,
  model,
  text_of,
)
import tiny

import lloco_jax as lloco
from lloco_jax.__main__ import main
from lloco_jax.endpoint import app, commands
from lloco_jax.endpoint.app import Endpoint
from lloco_jax.endpoint.finder import ANY, Finder
from lloco_jax.endpoint.messages import MOST_BYTES
from lloco_jax.library.adding import add_folder
from lloco_jax.library.checks import verify
from lloco_jax.library.library import Library
from lloco_jax.library.making import Making
from lloco_jax.serving.engine import Engine
from lloco_jax.serving.slots import Room
from lloco_jax.weights import peft

openai = pytest.importorskip('openai', reason="needs the extra 'test'")
uvicorn = pytest.importorskip('uvicorn', reason="needs the extra 'serve'")

ROOM = Room(context=64, prompt=48, new_tokens=12)


@pytest.fixture(scope='module')
def library(tmp_path_factory, model):  # noqa: F811
  """Two groups; it has its model's weights, and the endpoint's has not."""
  folder = tmp_path_factory.mktemp('files')
  library = make(tmp_path_factory.mktemp('library') / 'l', model)
  add_two_groups(library, folder)
  return library


@pytest.fixture(scope='module')
def endpoint(library):
  own = Library(library.folder, library.model, encode)
  engine = Engine(own.model, room=ROOM, slots=2, steps=4)
  own.free_weights()
  return Endpoint(Finder(own, 3, ROOM), engine, hosts=['127.0.0.1', '::1'])


@contextlib.contextmanager
def served(app):
  """The port of an application that runs."""
  listening = socket.create_server(('127.0.0.1', 0))
  # Without a config of its own, so that what it logs is seen.
  server = uvicorn.Server(
    uvicorn.Config(app, log_level='warning', log_config=None)
  )
  thread = threading.Thread(target=server.run, kwargs={'sockets': [listening]})
  thread.start()
  try:
    yield listening.getsockname()[1]
  finally:
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture(scope='module')
def port(endpoint):
  with served(endpoint.app()) as port:
    yield port


@pytest.fixture(scope='module')
def client(port):
  return client_of(port)


def client_of(port, key='none'):
  return openai.OpenAI(
    base_url=f'http://127.0.0.1:{port}/v1', api_key=key, max_retries=0
  )


def create(client, question='goose', model=ANY, **fields):  # noqa: F811
  messages = [{'role': 'user', 'content': question}]
  fields = {'messages': messages, 'max_tokens': 8} | fields
  return client.chat.completions.create(model=model, **fields)


def content(completion):
  return completion.choices[0].message.content


def test_an_answer_is_that_of_ask(client, library):
  expected = lloco.ask('goose', library, max_new_tokens=8)
  found = create(client)
  assert content(found) == expected.text
  assert found.model == expected.group == 'birds'
  read = expected.answer.context + expected.answer.prompt
  assert found.usage.prompt_tokens == read
  assert found.usage.total_tokens == read + found.usage.completion_tokens
  told = found.lloco
  assert told['vectors'] == expected.answer.context
  assert told['text_tokens'] == expected.text_tokens
  assert told['has_adapter'] is False
  assert [(each['document'], each['passage']) for each in told['sources']] == [
    (hit.entry.name, hit.text) for hit in expected.sources
  ]


def test_a_group_is_a_model(client, library):
  assert [each.id for each in client.models.list()] == [ANY, 'birds', 'mills']
  assert client.models.retrieve('mills').id == 'mills'
  assert client.models.retrieve(ANY).id == ANY
  found = create(client, model='mills')
  expected = lloco.ask('goose', library, 'mills', max_new_tokens=8)
  assert found.model == 'mills' and content(found) == expected.text
  for call in (create, lambda client, **named: client.models.retrieve('x')):
    with pytest.raises(openai.NotFoundError, match="no model 'x'.*mills"):
      call(client, model='x')


def test_a_stream_has_the_same_text(client):
  whole = create(client)
  chunks = list(
    create(client, stream=True, stream_options={'include_usage': True})
  )
  pieces = [
    choice.delta.content or '' for chunk in chunks for choice in chunk.choices
  ]
  assert ''.join(pieces) == content(whole)
  assert chunks[0].lloco == whole.lloco
  assert chunks[-1].usage == whole.usage
  assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
  assert len({chunk.id for chunk in chunks}) == 1
  (stop,) = (content(whole)[2:4],)
  cut = list(create(client, stream=True, stop=[stop]))
  text = ''.join(chunk.choices[0].delta.content or '' for chunk in cut)
  assert text == content(whole).partition(stop)[0]
  assert cut[-1].choices[0].finish_reason == 'stop'
  # Without one it has all the tokens it may have.
  assert whole.choices[0].finish_reason == 'length'


def test_many_at_once_are_answered_as_alone(client, library):
  questions = [f'goose {word}' for word in 'mill roof ferry slate'.split()] * 2
  expected = [
    lloco.ask(question, library, max_new_tokens=8).text
    for question in questions[:4]
  ]
  with ThreadPoolExecutor(8) as threads:
    found = threads.map(lambda question: create(client, question), questions)
    assert [content(each) for each in found] == expected * 2


def test_drawn_answers_follow_their_seed(client):
  def drawn(seed):
    return content(create(client, temperature=2.0, seed=seed))

  assert drawn(1) == drawn(1)
  assert len({drawn(seed) for seed in range(4)}) > 1


@pytest.fixture
def adapters(library, tmp_path):
  found = []
  for seed in range(2):
    adapter = tiny.adapter(seed, config=library.model.config)
    peft.save_adapter(
      tmp_path / str(seed),
      adapter,
      library.model.name,
      base_fingerprint=library.model.fingerprint,
    )
    found.append(tmp_path / str(seed))
  return found


def test_what_is_done_to_the_library_counts_at_once(
  client, library, adapters, tmp_path
):
  """An adapter that is named, another in its place, a document, a damage."""

  def both():
    expected = lloco.ask('goose', library, max_new_tokens=8)
    found = create(client)
    assert content(found) == expected.text
    assert found.lloco['has_adapter'] == expected.has_adapter
    assert found.lloco['sources'][0]['document'] == (
      expected.sources[0].entry.name
    )
    return found

  texts = [content(both())]
  first, second = adapters
  library.name_adapter('birds', str(first), 'plain')
  try:
    texts.append(content(both()))
    first.rename(tmp_path / 'away')
    with pytest.raises(openai.InternalServerError, match='not in .* any more'):
      create(client)
    second.rename(first)
    texts.append(content(both()))
  finally:
    library.forget_adapter('birds')
  assert len(set(texts)) == 3
  assert content(both()) == texts[0]
  (tmp_path / 'more').mkdir()
  (tmp_path / 'more/new.txt').write_text('goose goose goose')
  add_folder(library, tmp_path / 'more', 'birds', progress=False)
  found = both()
  assert found.lloco['sources'][0]['document'].endswith('new.txt')
  key = next(
    entry.key
    for entry in library.catalogue.entries()
    if entry.path.endswith('new.txt')
  )
  (summaries,) = (library.folder / 'store').rglob(f'*{key}*.safetensors')
  summaries.write_bytes(b'')
  with pytest.raises(openai.InternalServerError, match='damaged or gone'):
    create(client)
  verify(library, mend=True)
  assert content(both()) == texts[0]


@pytest.mark.parametrize(
  'question, fields, said',
  [
    (' ', {}, 'question is empty'),
    ('goose ' * 60, {}, 'of at most 48; .* --prompt='),
    ('goose ' * 500, {}, 'of at most 1,536; ask in fewer words'),
    ('goose', {'n': 2}, "'n' can be 1 alone"),
    ('goose', {'max_tokens': 13}, '12 tokens at most'),
    ('\ud800', {}, 'not UTF-8|not JSON'),
  ],
)
def test_what_cannot_be_answered_is_refused(client, question, fields, said):
  with pytest.raises(openai.BadRequestError, match=said):
    if question == '\ud800':
      raw = b'{"model":"%s","messages":[{"role":"user","content":"\\ud800"}]}'
      client.post(
        '/chat/completions', cast_to=object, content=raw % ANY.encode()
      )
    create(client, question, **fields)


def raw(
  port, method='POST', body=b'{}', path='/v1/chat/completions', **headers
):
  connection = http.client.HTTPConnection('127.0.0.1', port)
  headers = {'Content-Type': 'application/json'} | headers
  connection.request(method, path, body, headers)
  response = connection.getresponse()
  return response.status, response.read().decode()


def test_requests_that_are_none(port):
  assert raw(port, 'GET', None, '/health')[0] == 200
  status, said = raw(port, 'GET', None)
  assert status == 405 and json.loads(said)['error']['message']
  assert raw(port, 'GET', None, '/v1/x')[0] == 404
  status, said = raw(port, body=b' ' * (MOST_BYTES + 1))
  assert status == 413 and '1,048,576 bytes' in said
  status, said = raw(port, **{'Content-Type': 'text/plain'})
  assert status == 415 and 'application/json' in said
  # A page of a browser that calls this machine by another name.
  for host in ('evil.test', 'evil.test:127', '[::1', ''):
    status, said = raw(port, 'GET', None, '/v1/models', Host=host)
    assert (
      status == 400 and '127.0.0.1, ::1' in json.loads(said)['error']['message']
    )
  for host in ('127.0.0.1', f'[::1]:{port}'):
    assert raw(port, 'GET', None, '/v1/models', Host=host)[0] == 200
  body = b'{"model":"\\ud800","messages":[{"role":"user","content":"x"}]}'
  status, said = raw(port, body=body)
  assert status == 404 and '\ud800' in json.loads(said)['error']['message']


def test_who_hangs_up_in_the_middle_of_a_body(port, caplog):
  for _ in range(3):
    with socket.create_connection(('127.0.0.1', port)) as connection:
      connection.sendall(
        b'POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n'
        b'Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{'
      )
      time.sleep(0.1)
  time.sleep(0.2)
  assert raw(port, 'GET', None, '/health')[0] == 200
  assert not caplog.records


def test_an_answer_does_not_depend_on_the_log(library, endpoint, monkeypatch):
  def closed(*_, **__):
    raise BrokenPipeError(32, 'Broken pipe')

  monkeypatch.setattr(app, 'print', closed, raising=False)
  logging = Endpoint(endpoint._finder, endpoint._engine, log=True)
  expected = lloco.ask('goose', library, max_new_tokens=8)
  with served(logging.app()) as port:
    for _ in range(2):
      assert content(create(client_of(port))) == expected.text


def test_a_document_that_exceeds_the_room_is_told(library):
  """It is read or the question refused, never others in its place."""
  found = lloco.ask('goose', library, max_new_tokens=1).answer.context
  finder = Finder(library, 3, dataclasses.replace(ROOM, context=found))
  assert len(finder.read('goose').vectors) == found
  finder = Finder(library, 3, dataclasses.replace(ROOM, context=found - 1))
  with pytest.raises(ValueError, match=f'{found} .* --context={found}'):
    finder.read('goose')
  with pytest.raises(ValueError, match='documents is 0'):
    Finder(library, 0, ROOM)


@pytest.mark.parametrize('stream', [False, True])
def test_who_hangs_up_is_not_answered_further(
  endpoint, port, stream, monkeypatch, caplog
):
  engine, cancelled = endpoint._engine, threading.Event()
  cancel, step = engine.cancel, engine.step
  monkeypatch.setattr(
    engine, 'cancel', lambda answer: (cancelled.set(), cancel(answer))
  )
  # So that it is not done before the client has gone.
  monkeypatch.setattr(engine, 'step', lambda: (time.sleep(0.3), step())[1])
  connection = http.client.HTTPConnection('127.0.0.1', port)
  asked = {
    'model': ANY,
    'messages': [{'role': 'user', 'content': 'goose'}],
    'stream': stream,
  }
  connection.request(
    'POST',
    '/v1/chat/completions',
    json.dumps(asked).encode(),
    {'Content-Type': 'application/json'},
  )
  time.sleep(0.4)
  connection.close()
  assert cancelled.wait(10)
  time.sleep(0.1)
  assert not caplog.records


def test_a_key_and_too_many(library, endpoint):
  strict = Endpoint(
    endpoint._finder, endpoint._engine, key='secret', most_waiting=0
  )
  with served(strict.app()) as port:
    assert raw(port, 'GET', None, '/health')[0] == 200
    for call in (create, lambda client: client.models.list()):
      with pytest.raises(openai.AuthenticationError, match='API key'):
        call(client_of(port, 'other'))
    assert len(list(client_of(port, 'secret').models.list())) == 3
    assert raw(port, Authorization='Bearer schl\xfcssel')[0] == 401
    with pytest.raises(openai.RateLimitError, match='ask again later'):
      create(client_of(port, 'secret'))


def test_equal_adapters_have_one_name(library, adapters):
  first, second = adapters
  finder, names = Finder(library, 3, ROOM), []
  try:
    for folder in (first, second, first):
      library.name_adapter('birds', str(folder), 'plain')
      names.append(finder.adapter('birds')[0].name)
  finally:
    library.forget_adapter('birds')
  assert names[0] == names[2] != names[1]


@pytest.mark.parametrize(
  'flag, said',
  [
    ('--slots=0', '--slots is 0'),
    ('--documents=0', '--documents is 0'),
    ('--context=-1', '--context is -1; it must be 0 or more'),
    ('--prompt=0', '--prompt is 0'),
    ('--max_new_tokens=0', '--max_new_tokens is 0'),
    ('--waiting=0', '--waiting is 0'),
    ('--port=99999', ':99999 cannot be listened on'),
    ('--host=no.such.host.test', 'no.such.host.test:8000 cannot be'),
    ('--prompt=9000', '--context take 9256 of the model.s 2048'),
  ],
)
def test_flags_are_checked_before_anything_is_loaded(library, flag, said):
  with pytest.raises(SystemExit, match=said):
    main(['serve', f'--library={library.folder}', flag])


@pytest.mark.parametrize('key', ['schl\xfcssel', ' x', 'x\n'])
def test_keys_that_no_client_can_send(key, monkeypatch):
  monkeypatch.setenv(commands.KEY, key)
  with pytest.raises(SystemExit, match='LLOCO_API_KEY: .* of ASCII'):
    main(['serve'])


def test_two_on_one_port():
  with commands._listen('127.0.0.1', 0) as first:
    port = first.getsockname()[1]
    with pytest.raises(OSError, match=f'127.0.0.1:{port} cannot be listened'):
      commands._listen('127.0.0.1', port)
  assert commands._own_names('127.0.0.2')[0] == '127.0.0.2'
  assert '::1' in commands._own_names('localhost')
  assert commands._own_names('0.0.0.0') == commands._own_names('box') == ()


def test_the_command(tmp_path, model, monkeypatch, capsys):  # noqa: F811
  pytest.importorskip('wordllama', reason="needs the extra 'retrieval'")
  (tmp_path / 'files').mkdir()
  (tmp_path / 'files/a.txt').write_text('The goose ' + text_of(1, 60))
  library = Library.make(tmp_path / 'library', Making(model=model.name))
  with pytest.raises(SystemExit, match='has no documents'):
    main(['serve', f'--library={library.folder}'])
  add_folder(library, tmp_path / 'files', 'birds', progress=False)
  (library.folder / 'adapters/birds').mkdir(parents=True)
  damaged = library.folder / 'adapters/birds/adapter_config.json'
  damaged.touch()
  servers = []

  class Server(uvicorn.Server):
    def __init__(self, config):
      super().__init__(config)
      servers.append(self)

  monkeypatch.setattr(uvicorn, 'Server', Server)
  monkeypatch.setenv(commands.KEY, 'secret')
  arguments = ['serve', f'--library={library.folder}', '--max_new_tokens=8']
  thread = threading.Thread(
    target=main, args=([*arguments, '--port=0', '--slots=1'],)
  )
  thread.start()
  try:
    while thread.is_alive() and not (servers and servers[0].started):
      time.sleep(0.05)
    (listening,) = servers[0].servers[0].sockets
    port = listening.getsockname()[1]
    said = capsys.readouterr().out
    assert f'http://127.0.0.1:{port}/v1 answers as birds.' in said
    # Three of the longest that a file may be cut into.
    assert '1 slots for 12 vectors' in said
    assert "Note: the group 'birds' gives no answers" in said
    with pytest.raises(openai.InternalServerError, match='not valid JSON'):
      create(client_of(port, 'secret'))
    damaged.unlink()
    expected = lloco.ask('goose', library, max_new_tokens=8)
    assert content(create(client_of(port, 'secret'))) == expected.text
    assert 'birds: 1 document, 2 vectors' in capsys.readouterr().out
    with pytest.raises(SystemExit, match=f':{port} cannot be listened on'):
      main([*arguments, f'--port={port}'])
  finally:
    servers[0].should_exit = True
    thread.join()
