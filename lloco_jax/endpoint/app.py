"""The endpoint: OpenAI's chat completions over the groups of a library."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
import contextlib
import dataclasses
import functools
import hmac
import json
import time

from lloco_jax.endpoint.async_engine import AsyncEngine
from lloco_jax.endpoint.chat import (
  ChatRequest,
  Completion,
  error_object,
  read_request,
)
from lloco_jax.endpoint.finder import ANY, Finder, Reading
from lloco_jax.endpoint.wording import StoppedLine
from lloco_jax.serving.engine import Engine
from lloco_jax.serving.requests import Request

MOST_BYTES = 2**20


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
    self._finder, self._engine = finder, engine
    self._most_new_tokens = engine.room.new_tokens
    self._tokenizer = finder.library.model.need_tokenizer()
    self._last_message, self._most_waiting = last_message, most_waiting
    self._key, self._hosts, self._log = key.encode(), tuple(hosts), log
    self._waiting = 0

  def app(self):
    """The ASGI application; its engine runs as long as it does.

    Raises:
      ImportError: the extra 'serve' is missing.
    """
    try:
      from starlette.applications import Starlette
      from starlette.exceptions import HTTPException
      from starlette.middleware import Middleware
      from starlette.middleware.trustedhost import TrustedHostMiddleware
      from starlette.routing import Route
    except ImportError as error:
      raise ImportError(
        "The endpoint needs the extra 'serve': pip install 'lloco_jax[serve]'"
      ) from error
    middleware = []
    if self._hosts:
      middleware.append(
        Middleware(TrustedHostMiddleware, allowed_hosts=self._hosts)
      )
    return Starlette(
      routes=[
        Route('/health', _health),
        Route('/v1/models', self._models),
        Route('/v1/models/{name:path}', self._model),
        Route('/v1/chat/completions', self._chat, methods=['POST']),
      ],
      middleware=middleware,
      lifespan=self._lifespan,
      exception_handlers={
        HTTPException: _refusal,
        # Those that are expected, without their traces; and all others.
        OSError: _failure,
        RuntimeError: _failure,
        Exception: _failure,
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
      self._thread.shutdown(cancel_futures=True)

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
    from starlette.responses import JSONResponse

    self._check_key(request)
    data = [_model_object(name) for name in await self._names()]
    return JSONResponse({'object': 'list', 'data': data})

  async def _model(self, request):
    from starlette.responses import JSONResponse

    self._check_key(request)
    name = request.path_params['name']
    _check_name(name, await self._names())
    return JSONResponse(_model_object(name))

  async def _chat(self, request):
    from starlette.responses import JSONResponse, StreamingResponse

    self._check_key(request)
    body = await _body(request)
    if self._waiting >= self._most_waiting:
      raise _error(
        429,
        f'{self._waiting} questions wait already; ask again later.',
        'rate_limit_error',
      )
    began = time.monotonic()
    with self._counted():
      try:
        asked = read_request(body, self._most_new_tokens, self._last_message)
        group = None if asked.model == ANY else asked.model
        if group is not None:
          _check_name(group, await self._names())
        read = self._finder.read
        reading = await self._in_thread(read, asked.question, group)
      except ValueError as error:
        raise _error(400, str(error)) from error
    writing = _Writing(asked, reading, began)
    pieces = self._pieces(writing)
    if asked.stream:
      return StreamingResponse(
        _events(writing, pieces), media_type='text/event-stream'
      )
    task = asyncio.ensure_future(_whole(writing, pieces))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
      await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
      if not task.done():
        raise _error(499, 'The client has gone.')
      return JSONResponse(task.result())
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
      if self._log:
        writing.print()

  def _check_key(self, request) -> None:
    given = request.headers.get('authorization', '').encode()
    if self._key and not hmac.compare_digest(given, b'Bearer ' + self._key):
      raise _error(
        401,
        'The API key is missing or another; give the one that the endpoint '
        'was started with, as "Authorization: Bearer KEY".',
        'authentication_error',
        'invalid_api_key',
      )


@dataclasses.dataclass
class _Writing:
  """An answer as it is written: tokens so far, and why it ended."""

  asked: ChatRequest
  reading: Reading
  began: float
  tokens: int = 0
  reason: str | None = None

  def print(self) -> None:
    reading = self.reading
    documents = len(reading.sources)
    seconds = time.monotonic() - self.began
    print(
      f'{time.strftime("%H:%M:%S")} {reading.group}: {documents} '
      f'document{"s" * (documents > 1)}, {len(reading.vectors):,} vectors and '
      f'{len(reading.ids):,} tokens read, {self.tokens} written, '
      f'{seconds:.2f} s{"" if self.reason else ", not to the end"}',
      flush=True,
    )


async def _whole(writing, pieces):
  completion = Completion(writing.reading, int(time.time()))
  text = ''.join([piece async for piece in pieces])
  return completion.whole(text, writing.tokens, writing.reason)


async def _events(writing, pieces):
  """Server-sent events of an answer."""
  completion = Completion(writing.reading, int(time.time()))
  yield _event(completion.first())
  try:
    async with contextlib.aclosing(pieces):
      async for piece in pieces:
        yield _event(completion.piece(piece))
    yield _event(completion.last(writing.reason))
    if writing.asked.include_usage:
      yield _event(completion.usage(writing.tokens))
  except Exception as error:
    yield _event(error_object(_sentence(error), 'server_error'))
  yield 'data: [DONE]\n\n'


def _event(fields) -> str:
  return f'data: {json.dumps(fields)}\n\n'


async def _body(request) -> bytes:
  """The body of a request, of JSON, or an error."""
  kind = request.headers.get('content-type', '').partition(';')[0].strip()
  if kind.lower() != 'application/json':
    raise _error(
      415, 'The request must be JSON, with "Content-Type: application/json".'
    )
  body = b''
  async for chunk in request.stream():
    body += chunk
    if len(body) > MOST_BYTES:
      raise _error(
        413, f'The request has more than {MOST_BYTES:,} bytes; send less.'
      )
  return body


async def _disconnected(request) -> None:
  while (await request.receive())['type'] != 'http.disconnect':
    pass


async def _health(request):
  from starlette.responses import JSONResponse

  return JSONResponse({'status': 'ok'})


def _model_object(name: str) -> dict:
  return {
    'id': name,
    'object': 'model',
    'created': 0,
    'owned_by': 'lloco_jax',
  }


def _check_name(name: str, names: Sequence[str]) -> None:
  if name not in names:
    raise _error(
      404,
      f"There is no model '{name}'; there are {', '.join(names)}.",
      code='model_not_found',
    )


def _error(
  status: int, said: str, kind='invalid_request_error', code: str | None = None
):
  from starlette.exceptions import HTTPException

  return HTTPException(status, error_object(said, kind, code))


async def _refusal(request, error):
  """Of a HTTPException; those of the library that serves are plain text."""
  from starlette.responses import JSONResponse

  content = error.detail
  if not isinstance(content, dict):
    content = error_object(f'{content}.', 'invalid_request_error')
  return JSONResponse(content, error.status_code, error.headers)


async def _failure(request, error):
  from starlette.responses import JSONResponse

  return JSONResponse(error_object(_sentence(error), 'server_error'), 500)


def _sentence(error: Exception) -> str:
  return str(error) or type(error).__name__
