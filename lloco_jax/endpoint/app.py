"""The endpoint: OpenAI's chat completions over the groups of a library."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
import contextlib
import dataclasses
import functools
import hmac
import time

from lloco_jax.endpoint.async_engine import AsyncEngine
from lloco_jax.endpoint.chat import (
  ChatRequest,
  Completion,
  error_object,
  read_request,
)
from lloco_jax.endpoint.finder import ANY, Finder, Reading
from lloco_jax.endpoint.messages import (
  body_of,
  client_gone,
  disconnected,
  event,
  failure,
  host_of,
  http_error,
  json_response,
  refusal,
  sentence,
)
from lloco_jax.endpoint.wording import StoppedLine
from lloco_jax.serving.engine import Engine
from lloco_jax.serving.requests import Request


def check_key(key: str) -> None:
  """Raises ValueError where no client could send a key as it is."""
  if key != key.strip() or not (key.isascii() and key.isprintable()):
    raise ValueError(
      'The API key must be of letters, digits and signs of ASCII, without '
      'spaces around it.'
    )


class Endpoint:
  """Answers HTTP requests from a library by an engine.

  Args:
    finder: of what the engine reads.
    engine: which nobody else may use while the endpoint runs.
    last_message: of several messages the last one counts alone; else they are
      refused.
    most_waiting: questions at a time, those in slots included; more are
      refused.
    key: that requests must bring; none where it is empty.
    hosts: names by which requests may call this machine; () for any.
    log: prints a line for each answer.

  Raises:
    ValueError: the key is none for a header.
  """

  def __init__(
    self,
    finder: Finder,
    engine: Engine,
    *,
    last_message: bool = False,
    most_waiting: int = 256,
    key: str = '',
    hosts: Sequence[str] = (),
    log: bool = False,
  ):
    check_key(key)
    self._finder, self._engine = finder, engine
    self._most_new_tokens = engine.room.new_tokens
    self._tokenizer = finder.library.model.need_tokenizer()
    self._last_message, self._most_waiting = last_message, most_waiting
    self._key, self._hosts, self._log = key.encode(), tuple(hosts), log
    self._waiting = 0
    self._running: AsyncEngine | None = None

  def app(self):
    """The ASGI application; its engine runs as long as it does.

    Raises:
      ImportError: the extra 'serve' is missing.
    """
    try:
      from starlette.applications import Starlette
      from starlette.exceptions import HTTPException
      from starlette.routing import Route
    except ImportError as error:
      raise ImportError(
        "The endpoint needs the extra 'serve': pip install 'lloco_jax[serve]'"
      ) from error
    return Starlette(
      routes=[
        Route('/health', _health),
        Route('/v1/models', self._models),
        Route('/v1/models/{name:path}', self._model),
        Route('/v1/chat/completions', self._chat, methods=['POST']),
      ],
      lifespan=self._lifespan,
      exception_handlers={
        HTTPException: refusal,
        # Those that are expected, without their traces; and all others.
        OSError: failure,
        RuntimeError: failure,
        Exception: failure,
      },
    )

  @contextlib.asynccontextmanager
  async def _lifespan(self, app):
    # One thread, since a library is not for several.
    self._thread = ThreadPoolExecutor(1, 'finder')
    self._running = AsyncEngine(self._engine)
    try:
      yield
    finally:
      self._running.close()
      await asyncio.to_thread(self._running.join)
      self._thread.shutdown(cancel_futures=True)

  def close(self) -> None:
    """Ends all answers, whose clients are told; from any thread."""
    if self._running is not None:
      self._running.close()

  async def _in_thread(self, function, *arguments):
    loop = asyncio.get_running_loop()
    call = functools.partial(function, *arguments)
    return await loop.run_in_executor(self._thread, call)

  @contextlib.contextmanager
  def _counted(self):
    self._waiting += 1
    try:
      yield
    finally:
      self._waiting -= 1

  async def _names(self) -> list[str]:
    return [ANY, *await self._in_thread(self._finder.groups)]

  async def _models(self, request):
    self._check(request)
    data = [_model_object(name) for name in await self._names()]
    return json_response({'object': 'list', 'data': data})

  async def _model(self, request):
    self._check(request)
    name = request.path_params['name']
    _check_name(name, await self._names())
    return json_response(_model_object(name))

  async def _chat(self, request):
    from starlette.responses import StreamingResponse

    self._check(request)
    body = await body_of(request)
    if self._waiting >= self._most_waiting:
      raise http_error(
        429,
        f'{self._waiting} questions wait already; ask again later.',
        'rate_limit_error',
      )
    began = time.monotonic()
    with self._counted():
      try:
        asked = read_request(body, self._most_new_tokens, self._last_message)
      except ValueError as error:
        raise http_error(400, str(error)) from error
      group = None if asked.model == ANY else asked.model
      try:
        reading = await self._in_thread(
          self._finder.read, asked.question, group, asked.max_new_tokens
        )
      except ValueError as error:
        # Looked for here alone, since to find reads the groups as well.
        if group is not None:
          _check_name(group, await self._names())
        raise http_error(400, str(error)) from error
    writing = _Writing(asked, reading, began)
    pieces = self._pieces(writing)
    if asked.stream:
      return StreamingResponse(
        _events(writing, pieces), media_type='text/event-stream'
      )
    task = asyncio.ensure_future(_whole(writing, pieces))
    gone = asyncio.ensure_future(disconnected(request))
    try:
      await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
      if not task.done():
        raise client_gone()
      return json_response(task.result())
    finally:
      task.cancel()
      gone.cancel()

  async def _pieces(self, writing: '_Writing') -> AsyncIterator[str]:
    """The text of an answer as it comes."""
    asked, reading = writing.asked, writing.reading
    line = StoppedLine(self._tokenizer, asked.stop)
    adapter = reading.adapter
    request = Request(
      reading.ids,
      reading.vectors,
      adapter.name if adapter else None,
      asked.max_new_tokens,
      asked.sampling,
    )
    generated = self._running.generate(request, adapter and adapter.adapter)
    try:
      with self._counted():
        async for news in generated:
          piece = ''
          for token in news.tokens:
            writing.tokens += 1
            piece += line.add(token)
            if line.done:
              break
          done = line.done or news.done
          if done:
            piece += line.end()
            ended = line.done or news.stopped
            writing.reason = 'stop' if ended else 'length'
          if piece:
            yield piece
          if done:
            return
    finally:
      await generated.aclose()
      self._print(writing)

  def _check(self, request) -> None:
    """Raises an error where a request has another host's name, or no key."""
    host = host_of(request)
    if self._hosts and host not in self._hosts:
      raise http_error(
        400,
        f"This endpoint is not called '{host}'; it is called "
        f'{", ".join(self._hosts)}.',
      )
    given = request.headers.get('authorization', '').encode('latin-1')
    if self._key and not hmac.compare_digest(given, b'Bearer ' + self._key):
      raise http_error(
        401,
        'The API key is missing or another; give the one that the endpoint '
        'was started with, as "Authorization: Bearer KEY".',
        'authentication_error',
        'invalid_api_key',
      )

  def _print(self, writing: '_Writing') -> None:
    """Where nobody reads it any more, no answer depends on that."""
    if not self._log:
      return
    try:
      print(writing.text(), flush=True)
    except OSError:
      self._log = False


@dataclasses.dataclass
class _Writing:
  """An answer as it is written: tokens so far, and why it ended."""

  asked: ChatRequest
  reading: Reading
  began: float
  tokens: int = 0
  reason: str | None = None

  def text(self) -> str:
    """A line about it."""
    reading = self.reading
    documents = len(reading.sources)
    seconds = time.monotonic() - self.began
    return (
      f'{time.strftime("%H:%M:%S")} {reading.group}: {documents} '
      f'document{"s" * (documents > 1)}, {len(reading.vectors):,} vectors and '
      f'{len(reading.ids):,} tokens read, {self.tokens} written, '
      f'{seconds:.2f} s{"" if self.reason else ", not to the end"}'
    )


async def _whole(writing, pieces):
  completion = Completion(writing.reading, int(time.time()))
  text = ''.join([piece async for piece in pieces])
  return completion.whole(text, writing.tokens, writing.reason)


async def _events(writing, pieces):
  """Server-sent events of an answer."""
  completion = Completion(writing.reading, int(time.time()))
  yield event(completion.first())
  try:
    async with contextlib.aclosing(pieces):
      async for piece in pieces:
        yield event(completion.piece(piece))
    yield event(completion.last(writing.reason))
    if writing.asked.include_usage:
      yield event(completion.usage(writing.tokens))
  except Exception as error:
    yield event(error_object(sentence(error), 'server_error'))
  yield 'data: [DONE]\n\n'


async def _health(request):
  return json_response({'status': 'ok'})


def _model_object(name: str) -> dict:
  return {
    'id': name,
    'object': 'model',
    'created': 0,
    'owned_by': 'lloco_jax',
  }


def _check_name(name: str, names: Sequence[str]) -> None:
  if name not in names:
    raise http_error(
      404,
      f"There is no model '{name}'; there are {', '.join(names)}.",
      code='model_not_found',
    )
