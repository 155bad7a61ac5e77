"""Files of text, Markdown, HTML and PDF to plain text."""

import collections
from collections.abc import Callable
from html.parser import HTMLParser
import io
import logging
import pathlib
import re

from lloco_jax.data.documents import decode_utf8
from lloco_jax.retrieval.extra import need

# Control characters that are no part of a text.
_CONTROL = re.compile(rb'[\x00-\x08\x0e-\x1a\x1c-\x1f]')
# In a page that was decoded, also what stands for what could not be.
_STRANGE = re.compile('[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f\ufffd]')
_BINARY_SHARE = 0.01
_UTF_16 = (b'\xff\xfe', b'\xfe\xff')
_UNSEEN = frozenset('noscript rp rt script style template'.split())
_BLOCKS = frozenset(
  'address article aside blockquote body caption dd div dl dt figcaption '
  'figure footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre section '
  'table title tr ul'.split()
)
_CELLS = frozenset(('td', 'th'))
# Tags that hold nothing and are not closed.
_VOID = frozenset(
  'area base basefont bgsound br col command embed frame hr image img input '
  'isindex keygen link menuitem meta nextid param source spacer track '
  'wbr'.split()
)


def parse(path: pathlib.Path, data: bytes, name: str) -> tuple[str, list[str]]:
  """The text of a file, and sentences about what is not in it.

  Args:
    path: decides by its suffix what kind of file it is.
    data: its content.
    name: what it is called in an error.

  Raises:
    ValueError: it has no text, or is not what its suffix says.
    ImportError: its parser is not installed.
  """
  if not data:
    raise ValueError(f'{name} is empty; give it a text or remove it.')
  text, remarks = PARSERS[path.suffix.lower()](data, name)
  if not any(each.isprintable() and not each.isspace() for each in text):
    raise ValueError(f'{name} holds nothing to read; remove it.')
  return text, remarks


def _plain(data: bytes, name: str):
  if data.startswith(_UTF_16):
    raise ValueError(
      f'{name} is UTF-16; convert it, for example with '
      '`iconv -f utf-16 -t utf-8 old > new`.'
    )
  beginning = data[: 2**16]
  strange = len(_CONTROL.findall(beginning))
  if b'\0' in data or strange > _BINARY_SHARE * len(beginning):
    raise ValueError(_binary(name))
  return _lines(decode_utf8(data, name)), []


def _binary(name: str) -> str:
  return (
    f'{name} holds binary data and no text; remove it, or give it the suffix '
    'of what it is.'
  )


def _html(data: bytes, name: str):
  need('beautifulsoup4', 'library', 'bs4')
  import bs4

  declared = bs4.dammit.EncodingDetector.find_declared_encoding(
    data, is_html=True
  )
  # What is not declared is guessed only where it is not UTF-8.
  encodings = list(filter(None, (declared, 'utf-8')))
  source = bs4.UnicodeDammit(data, user_encodings=encodings, is_html=True)
  markup = source.unicode_markup or ''
  # Binary data is characters as well, in the encoding that was guessed.
  if len(_STRANGE.findall(markup)) > _BINARY_SHARE * len(data):
    raise ValueError(_binary(name))
  page = _Page()
  try:
    page.feed(markup)
    page.close()
  except Exception as error:  # the parser gives up in ways of its own
    raise ValueError(
      f'{name} cannot be read as HTML ({_short(error)}); save it as text.'
    ) from None
  remarks = []
  if source.contains_replacement_characters:
    remarks.append(
      f'{name} is not in the encoding that it declares; some of its characters '
      'are lost.'
    )
  lines = [line.strip(' \t') for line in ''.join(page.pieces).split('\n')]
  # What blocks stand between becomes one empty line.
  text = re.sub(r'\n{2,}', '\n\n', '\n'.join(lines)).strip()
  if not text:
    raise ValueError(
      f'{name} has no text in it, perhaps only pictures or scripts; save what '
      'it shows as text.'
    )
  return text + '\n', remarks


class _Page(HTMLParser):
  """What a reader sees of a page, in `pieces` after `close`.

  They are collected while the page goes by, and taken back where a tag that is
  not seen ends, so that the time is linear in the page, however deep it is.
  """

  def __init__(self):
    super().__init__()
    self.pieces = []
    self._open = []
    self._depth = collections.Counter()
    self._blocks = 0

  def handle_starttag(self, tag, attrs):
    self._open.append((tag, len(self.pieces), self._blocks))
    self._depth[tag] += 1
    self._blocks += tag in _BLOCKS
    if tag in _BLOCKS or tag == 'br':
      self.pieces.append('\n')
    if tag in _VOID:
      self._end_last()

  def handle_endtag(self, tag):
    # What was opened in it and not closed ends with it.
    if self._depth[tag]:
      while self._end_last() != tag:
        pass

  def handle_data(self, data):
    self.pieces.append(
      data if self._depth['pre'] else re.sub(r'\s+', ' ', data)
    )

  def unknown_decl(self, data):
    if data.startswith('CDATA['):
      self.handle_data(data.removeprefix('CDATA['))

  def close(self):
    super().close()
    while self._open:
      self._end_last()

  def _end_last(self) -> str:
    tag, start, blocks = self._open.pop()
    self._depth[tag] -= 1
    unseen = tag in _UNSEEN
    if tag == 'svg':
      # A browser ends one that was not closed before the next block.
      unseen = blocks == self._blocks
    elif tag == 'title' and self._depth['svg']:
      unseen, self._blocks = True, blocks
    if unseen:
      del self.pieces[start:]
    elif tag in _BLOCKS:
      self.pieces.append('\n')
    elif tag in _CELLS:
      self.pieces.append(' ')
    return tag


def _pdf(data: bytes, name: str):
  need('pypdf', 'library')
  import pypdf

  # It tells every small fault of a file.
  logging.getLogger('pypdf').setLevel(logging.CRITICAL)
  try:
    file = pypdf.PdfReader(io.BytesIO(data))
    locked = file.is_encrypted and not file.decrypt('')
    pages = [] if locked else [page.extract_text() for page in file.pages]
  except Exception as error:  # damaged files fail in many ways
    raise ValueError(
      f'{name} cannot be read as PDF ({_short(error)}); save it again from a '
      'PDF reader, or as text.'
    ) from None
  if locked:
    raise ValueError(f'{name} has a password; save a copy without one.')
  # It may give a character beyond 16 bits in two halves.
  pages = [
    page.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace').strip()
    for page in pages
  ]
  blank = [str(number) for number, page in enumerate(pages, 1) if not page]
  if len(blank) == len(pages):
    raise ValueError(
      f'{name} has no text in it, only pictures of pages; read them first, for '
      'example with ocrmypdf.'
    )
  remarks = []
  if blank:
    remarks.append(
      f'{name} has no text on {len(blank)} of its {len(pages)} pages '
      f'({", ".join(blank[:10])}{", ..." if len(blank) > 10 else ""}).'
    )
  return _lines('\n\n'.join(filter(None, pages)) + '\n'), remarks


# By suffix: bytes and name to text and remarks.
PARSERS: dict[str, Callable[[bytes, str], tuple[str, list[str]]]] = {
  '.txt': _plain,
  '.text': _plain,
  '.md': _plain,
  '.markdown': _plain,
  '.html': _html,
  '.htm': _html,
  '.xhtml': _html,
  '.pdf': _pdf,
}


def _lines(text: str) -> str:
  """The text with every line ended in the same way."""
  return text.replace('\r\n', '\n').replace('\r', '\n')


def _short(error: Exception) -> str:
  said = str(error).strip().splitlines()
  return (said[0] if said else type(error).__name__)[:100].rstrip('.')
