"""Files to text: what is read, what is refused, what is told."""

import gzip
import pathlib
import sys

import numpy as np
import pytest

from lloco_jax.library.parsers import parse

pytest.importorskip('bs4', reason="needs the extra 'library'")
pytest.importorskip('pypdf', reason="needs the extra 'library'")


def read(name, data):
  return parse(pathlib.Path(name), data, f'"{name}"')


def pdf(*pages, password=None):
  fpdf = pytest.importorskip('fpdf', reason='makes the PDFs of this test')
  file = fpdf.FPDF()
  file.set_font('helvetica')
  for page in pages:
    file.add_page()
    if page:
      file.multi_cell(0, text=page)
    else:
      file.rect(10, 10, 50, 50)
  if password is not None:
    file.set_encryption(
      owner_password='o',
      user_password=password,
      encryption_method=fpdf.enums.EncryptionMethod.AES_256,
    )
  return bytes(file.output())


@pytest.mark.parametrize('suffix', ['.txt', '.md', '.TXT', '.markdown'])
def test_text_is_taken_as_it_is(suffix):
  text = '# Head\n\n  *naïve* <b> 東京\tx\n'
  assert read(f'a{suffix}', text.encode()) == (text, [])
  assert read(f'a{suffix}', b'\xef\xbb\xbfa\r\nb\rc') == ('a\nb\nc', [])


HTML = """<!doctype html><html><head><title>The  mill</title>
<style>p {color: red}</style></head><body><!-- unseen -->
<h1>Roof</h1><p>It is
   <b>sl</b>ate,<br>grey.</p><ul><li>one<li>two</ul>
<table><tr><td>a</td><td>b</td></tr></table><pre>x  y
  z</pre><script>alert(1)</script>&amp; end</body></html>"""


def test_html_is_what_a_reader_sees():
  text, remarks = read('a.html', HTML.encode())
  assert remarks == []
  assert text.split() == (
    'The mill Roof It is slate, grey. one two a b x y z & end'.split()
  )
  assert 'It is slate,\ngrey.\n' in text
  assert '\none\n' in text and 'a b' in text
  assert 'x  y\nz' in text and '\n\n\n' not in text


def test_html_in_the_encoding_that_it_declares():
  page = '<meta charset="iso-8859-1"><p>Straße</p>'.encode('latin-1')
  assert read('a.htm', page) == ('Straße\n', [])


@pytest.mark.parametrize('declared', ['', '<meta charset="ascii">'])
def test_utf_8_goes_before_any_guess(declared):
  page = f'{declared}<p>She spoke of Łódź at length, and Łódź it was.</p>'
  read_as = ('She spoke of Łódź at length, and Łódź it was.\n', [])
  assert read('a.html', page.encode()) == read_as
  assert read('a.html', b'\xef\xbb\xbf' + page.encode()) == read_as


def test_an_encoding_that_is_not_declared_is_guessed():
  page = '<p>Die Straße führt über die Brücke nach Süden.</p>'
  read_as = ('Die Straße führt über die Brücke nach Süden.\n', [])
  assert read('a.html', page.encode('latin-1')) == read_as
  assert read('a.html', page.encode('utf-16')) == read_as


def test_readings_above_a_word_and_what_is_void():
  page = '<ruby>漢<rp>(<rt>kan<rp>)</ruby>字<p>a<img>b</img>c<hr>d&eacute; &lt;'
  assert read('a.html', page.encode())[0] == '漢字\nabc\n\ndé <\n'


def lines_run(function):
  """How many lines of Python a call takes."""
  count, before = 0, sys.gettrace()

  def trace(frame, event, argument):
    nonlocal count
    count += event == 'line'
    return trace

  sys.settrace(trace)
  try:
    function()
  finally:
    sys.settrace(before)
  return count


MANY = {
  'paragraphs': '<p>word</p>',
  'paragraphs that are not closed': '<p>word',
  'items': '<ul><li><b>wo</b>rd',
  'cells': '<table><tr><td>word',
  'breaks': '<p>word<br></p>',
  'pictures': '<svg><title>x</title></svg><p>word',
  'pictures that are not closed': '<svg><title>x</title><p>word',
}


@pytest.mark.parametrize('what', MANY)
def test_the_work_grows_with_the_page_alone(what):
  read('a.html', b'<p>x')
  few, many = (
    lines_run(lambda n=n: read('a.html', MANY[what].encode() * n))
    for n in (100, 400)
  )
  assert many < 4.1 * few
  text, _ = read('a.html', MANY[what].encode() * 20_000)
  assert text.split() == ['word'] * 20_000


def test_a_picture_that_is_not_closed_hides_no_text():
  page = b'<p>One.<svg><title>x</title></svg><p>Two.<svg><circle><p>Three.<p>4'
  text, _ = read('a.html', page)
  assert text.split() == ['One.', 'Two.', 'Three.', '4']


def test_deeply_nested_html():
  page = b'<div>' * 5000 + b'deep' + b'</div>' * 5000
  assert read('a.html', page)[0].strip() == 'deep'


def test_pdf_is_read_page_by_page():
  text, remarks = read('a.pdf', pdf('The roof is slate.', 'Captain Oduya'))
  assert text.index('slate') < text.index('Oduya') and remarks == []


def test_pages_without_text_are_told():
  text, [remark] = read('a.pdf', pdf('The roof is slate.', None, None))
  assert 'slate' in text
  assert remark == '"a.pdf" has no text on 2 of its 3 pages (2, 3).'


PAGE = b'<p>The roof is slate.</p>' * 99
PNG = b'\x89PNG\r\n\x1a\n' + np.random.default_rng(0).bytes(2000)

REFUSED = {
  'nothing': ('a.txt', b'', 'is empty'),
  'blank': ('a.md', b' \n', 'holds nothing to read'),
  'NUL': ('a.txt', b'text\0text', 'binary data'),
  'control characters': ('a.txt', bytes(range(1, 32)) * 9, 'binary data'),
  'a picture': ('a.txt', b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR', 'binary data'),
  'UTF-16': ('a.txt', 'text'.encode('utf-16'), 'is UTF-16; convert it'),
  'Latin-1': ('a.txt', b'Stra\xdfe', 'not UTF-8: byte 0xdf'),
  'nothing to see': ('a.txt', '\u200b\n\u200b'.encode(), 'nothing to read'),
  'no text in HTML': ('a.html', b'<script>x</script>', 'no text in it'),
  'NUL far behind': ('a.txt', b'text ' * 20_000 + b'\0', 'binary data'),
  'a picture called HTML': ('a.html', PNG, 'binary data'),
  'packed HTML': ('a.html', gzip.compress(PAGE), 'binary data'),
  'no PDF': ('a.pdf', b'text', 'cannot be read as PDF'),
  'half a PDF': ('a.pdf', b'%PDF-1.4\n1 0 obj\n<<', 'cannot be read as PDF'),
}


@pytest.mark.parametrize('what', REFUSED)
def test_unreadable_files_are_refused_in_a_sentence(what):
  name, data, said = REFUSED[what]
  with pytest.raises(ValueError, match=said) as error:
    read(name, data)
  message = str(error.value)
  assert message.startswith(f'"{name}"') and message.endswith('.')
  assert '\n' not in message


def test_pdfs_without_text_and_with_a_password():
  with pytest.raises(ValueError, match='only pictures of pages; read them'):
    read('a.pdf', pdf(None, None))
  with pytest.raises(ValueError, match='has a password'):
    read('a.pdf', pdf('text', password='p'))
  # One that only forbids to change it is open to all.
  assert read('a.pdf', pdf('slate', password='')) == ('slate\n', [])
