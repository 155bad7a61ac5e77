"""The command `serve` of python -m lloco_jax."""

import argparse
import ipaddress
import math
import os
import socket
import threading
import time

import numpy as np

from lloco_jax.endpoint.app import Endpoint, check_key
from lloco_jax.endpoint.finder import Finder
from lloco_jax.library.library import DEFAULT_FOLDER, Library
from lloco_jax.library.making import RESERVE
from lloco_jax.serving.engine import Engine
from lloco_jax.serving.requests import Request
from lloco_jax.serving.slots import Room

KEY = 'LLOCO_API_KEY'
_OWN = ('127.0.0.1', 'localhost', '::1')
# Fewer than texts have as a rule.
_CHARACTERS_PER_TOKEN = 3
# For answers that are being written when the endpoint is stopped.
_GRACE_SECONDS = 5


def add_serve(commands) -> None:
  """Adds the command `serve` to those of a parser."""
  parser = commands.add_parser(
    'serve',
    help='a library behind an endpoint for chats',
    description='Answers questions to a library over HTTP, in the form of '
    "OpenAI's chat completions; a group of documents is a model. With the "
    f'environment variable {KEY} requests must bring that key.',
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
  )
  for name, default, said in (
    ('library', DEFAULT_FOLDER, 'folder of the library'),
    ('host', '127.0.0.1', 'address to listen on; 0.0.0.0 for all'),
    ('port', 8000, 'to listen on; 0 for a free one'),
    ('slots', 8, 'answers that are written at a time'),
    ('documents', 3, 'read for a question at most'),
    ('context', 0, "summary vectors of a question's documents at most; 0: what "
     'the longest of the library take, as far as the window goes'),
    ('prompt', 256, 'tokens of a question at most'),
    ('max_new_tokens', 256, 'tokens of an answer at most'),
    ('waiting', 256, 'questions at a time at most'),
  ):  # fmt: skip
    parser.add_argument(
      f'--{name}',
      type=type(default),
      default=default,
      metavar='N' if isinstance(default, int) else name.upper(),
      help=said,
    )
  parser.add_argument(
    '--last_message',
    action='store_true',
    help='of a conversation read the last message alone, where it is refused '
    'otherwise',
  )
  parser.add_argument(
    '--warm_up',
    action='store_true',
    help='compile for questions of all lengths before the first, which takes '
    'minutes; else it is done as they come, seconds each',
  )
  parser.set_defaults(action=_serve)


def _serve(chosen) -> None:
  try:
    import uvicorn
  except ImportError as error:
    raise ImportError(
      "To serve needs the extra 'serve': pip install 'lloco_jax[serve]'"
    ) from error
  key = os.environ.get(KEY, '')
  _check(chosen, key)
  library = Library(chosen.library)
  listening = _listen(chosen.host, chosen.port)
  began = time.monotonic()
  room = _room(library, chosen)
  finder = Finder(library, chosen.documents, room)
  engine = _engine(library, finder, room, chosen.slots)
  if chosen.warm_up:
    print(f'Compiling {engine.programs} programs ...', flush=True)
    engine.warm_up()
  else:
    # What every question needs.
    first = np.zeros((room.context, library.model.config.hidden_size))
    engine.submit(Request([0], first, max_new_tokens=2))
    engine.run()
  own = _own_names(chosen.host)
  endpoint = Endpoint(
    finder,
    engine,
    last_message=chosen.last_message,
    most_waiting=chosen.waiting,
    key=key,
    # Or a page of a browser on this machine might ask by a name of its own.
    hosts=own,
    log=True,
  )

  class Server(uvicorn.Server):
    def handle_exit(self, sig, frame):
      # Before its own time is over, when clients would be told nothing.
      threading.Timer(_GRACE_SECONDS - 1, endpoint.close).start()
      super().handle_exit(sig, frame)

  server = Server(
    uvicorn.Config(
      endpoint.app(),
      log_level='warning',
      # Its own would end the handlers that are there, with their streams.
      log_config=None,
      access_log=False,
      timeout_graceful_shutdown=_GRACE_SECONDS,
    )
  )
  host = f'[{chosen.host}]' if ':' in chosen.host else chosen.host
  print(
    f'Ready after {time.monotonic() - began:.0f} s: '
    f'http://{host}:{listening.getsockname()[1]}/v1 answers as '
    f'{", ".join(finder.groups())}.',
    flush=True,
  )
  if not own and not key:
    print(
      f'Note: whoever reaches {chosen.host} may ask, and so may any page of a '
      f'browser that does; {KEY}=... in the environment asks for a key.',
      flush=True,
    )
  server.run(sockets=[listening])


def _check(chosen, key: str) -> None:
  """Raises ValueError, before anything is loaded."""
  least = {'context': 0}
  for name in ('slots', 'documents', 'context', 'prompt', 'max_new_tokens'):
    value, smallest = getattr(chosen, name), least.get(name, 1)
    if value < smallest:
      raise ValueError(f'--{name} is {value}; it must be {smallest} or more.')
  if chosen.waiting < 1:
    raise ValueError(f'--waiting is {chosen.waiting}; it must be 1 or more.')
  try:
    check_key(key)
  except ValueError as error:
    raise ValueError(f'{KEY}: {error}') from None


def _own_names(host: str) -> tuple[str, ...]:
  """Names of this machine for itself where a host is one; else none."""
  try:
    own = host == 'localhost' or ipaddress.ip_address(host).is_loopback
  except ValueError:
    own = False
  return tuple(dict.fromkeys((host, *_OWN))) if own else ()


def _listen(host: str, port: int) -> socket.socket:
  """Before the model is loaded; who asks meanwhile waits."""
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  found = socket.socket(family, socket.SOCK_STREAM)
  found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    found.bind((host, port))
    found.listen()
  except (OSError, OverflowError) as error:
    found.close()
    raise OSError(
      f'{host}:{port} cannot be listened on ({error}); choose another --port '
      'or --host.'
    ) from error
  return found


def _room(library: Library, chosen) -> Room:
  entries = library.catalogue.entries()
  if not entries:
    raise ValueError(
      f'The library {library.folder} has no documents; add some with: python '
      '-m lloco_jax library add FOLDER'
    )
  window = library.model.window
  taken = chosen.prompt + chosen.max_new_tokens
  if chosen.context + taken > window:
    raise ValueError(
      f'--prompt, --max_new_tokens and --context take {chosen.context + taken} '
      f"of the model's {window} positions; lower them."
    )
  context = chosen.context
  if not context:
    # What is added later may be as long as a part of a file.
    part = library.making.part_characters // _CHARACTERS_PER_TOKEN
    segments = -(-part // library.settings.segment_length)
    longest = [entry.vectors for entry in entries]
    longest += [segments * library.settings.summary_length] * chosen.documents
    most = sum(sorted(longest, reverse=True)[: chosen.documents])
    context = max(min(most, window - max(RESERVE, taken)), 0)
  return Room(context, chosen.prompt, chosen.max_new_tokens)


def _engine(library: Library, finder: Finder, room: Room, slots: int) -> Engine:
  """With all adapters there are, and room for some more."""
  adapters = {}
  for group in finder.groups():
    try:
      named, _ = finder.adapter(group)
    except RuntimeError as error:
      print(f"Note: the group '{group}' gives no answers: {error}", flush=True)
      continue
    if named:
      adapters[named.name] = named.adapter
  model = library.model
  # The engine has them in another form.
  library.free_weights()
  network = model.config
  places = (slots + min(slots, 6)) * room.places
  kept = 2 * network.num_hidden_layers * network.num_key_value_heads
  kept *= network.head_dim * model.params['norm']['scale'].dtype.itemsize
  print(
    f'{slots} slots for {room.context:,} vectors, {room.prompt} tokens of a '
    f'question and {room.new_tokens} of an answer take '
    f'{kept * places / 2**30:.2f} GiB.',
    flush=True,
  )
  ranks = [adapter.rank for adapter in adapters.values()]
  capacity = 2 ** math.ceil(math.log2(len(adapters) + 4))
  return Engine(
    model,
    adapters,
    room=room,
    slots=slots,
    capacity=capacity,
    rank=max(ranks, default=8),
  )
