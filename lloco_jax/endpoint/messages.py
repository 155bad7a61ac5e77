"""What the endpoint reads of HTTP and what it writes."""

import asyncio
import json
from urllib.parse import urlsplit

from lloco_jax.endpoint.async_engine import Closed
from lloco_jax.endpoint.chat import error_object

MOST_BYTES = 2**20
_BODY_SECONDS = 60


async def body_of(request) -> bytes:
  """The body of a request, of JSON, or an error."""
  from starlette.requests import ClientDisconnect

  kind = request.headers.get('content-type', '').partition(';')[0].strip()
  if kind.lower() != 'application/json':
    raise http_error(
      415, 'The request must be JSON, with "Content-Type: application/json".'
    )
  try:
    async with asyncio.timeout(_BODY_SECONDS):
      body = b''
      async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
          raise http_error(
            413, f'The request has more than {MOST_BYTES:,} bytes; send less.'
          )
      return body
  except TimeoutError:
    raise http_error(
      408,
      f'The request took more than {_BODY_SECONDS} s to come; send it again.',
    ) from None
  except ClientDisconnect:
    raise client_gone() from None


async def disconnected(request) -> None:
  """Waits until the client has gone."""
  while (await request.receive())['type'] != 'http.disconnect':
    pass


def event(fields) -> str:
  """A server-sent event with a JSON object."""
  return f'data: {json.dumps(fields)}\n\n'


def http_error(
  status: int, said: str, kind='invalid_request_error', code: str | None = None
):
  """An exception that becomes an error in OpenAI's form."""
  from starlette.exceptions import HTTPException

  return HTTPException(status, error_object(said, kind, code))


def client_gone():
  """An error that nobody reads any more."""
  return http_error(499, 'The client has gone.')


def json_response(content, status: int = 200, headers=None):
  """A response in ASCII, since names of files may hold what is no UTF-8."""
  from starlette.responses import Response

  text = json.dumps(content)
  return Response(text, status, headers, media_type='application/json')


def host_of(request) -> str:
  """The name by which a request calls this machine, without the port."""
  try:
    return urlsplit(f'//{request.headers.get("host", "")}').hostname or ''
  except ValueError:
    return ''


async def refusal(request, error):
  """The response to a HTTPException, also to one of starlette itself."""
  content = error.detail
  if not isinstance(content, dict):
    content = error_object(f'{content}.', 'invalid_request_error')
  return json_response(content, error.status_code, error.headers)


async def failure(request, error):
  """The response to any other exception."""
  status = 503 if isinstance(error, Closed) else 500
  return json_response(error_object(sentence(error), 'server_error'), status)


def sentence(error: Exception) -> str:
  """What an exception says, or its name where it says nothing."""
  return str(error) or type(error).__name__
