"""Questions to a library: what is read, who answers, what is said."""

import dataclasses
import shutil

import numpy as np
import pytest
from test_library import (  # noqa: F401
  add_two_groups,
  encode,
  files,
  make,
  model,
  text_of,
)

import lloco_jax as lloco
from lloco_jax.__main__ import main
from lloco_jax.data.examples import Example
from lloco_jax.data.prompts import PLAIN, PROMPTS
from lloco_jax.generation.answering import answer_text
from lloco_jax.library import asking, commands
from lloco_jax.library import library as module
from lloco_jax.library.adding import add_folder
from lloco_jax.library.checks import verify
from lloco_jax.library.library import Library
from lloco_jax.nn.lora import LoraConfig, init_adapter
from lloco_jax.weights import peft

pytest.importorskip('lancedb', reason="needs the extra 'library'")


@pytest.fixture(scope='module')
def library(tmp_path_factory, model):  # noqa: F811
  folder = tmp_path_factory.mktemp('files')
  library = make(tmp_path_factory.mktemp('library') / 'l', model)
  add_two_groups(library, folder)
  return library


@pytest.fixture(scope='module')
def adapter(tmp_path_factory, model):  # noqa: F811
  import jax

  folder = tmp_path_factory.mktemp('adapter')
  adapter = init_adapter(model.config, LoraConfig(2, 4.0), jax.random.key(0))
  random = np.random.default_rng(0)
  adapter = jax.tree.map(
    lambda leaf: random.normal(size=leaf.shape).astype(np.float32), adapter
  )
  peft.save_adapter(
    folder, adapter, model.name, base_fingerprint=model.fingerprint
  )
  return folder, adapter


def said(model, tokens):  # noqa: F811
  """The answer, without a character that is not finished."""
  return answer_text(model.tokenizer, tokens).rstrip('\ufffd').rstrip()


def expected(library, answer, adapter=None, prompt=PLAIN, question='goose'):
  """What `generate` says of the summaries of an answer's sources."""
  model = library.model  # noqa: F811
  context = np.concatenate(
    [library.store.load(hit.entry.key) for hit in answer.sources]
  )
  ids = model.tokenizer.encode(prompt.ask(question))
  tokens = lloco.generate(model, ids, context, adapter, 8).tolist()
  if 0 in tokens:
    tokens = tokens[: tokens.index(0)]
  return said(model, tokens), len(context), len(ids)


def test_the_answer_is_that_of_the_summaries(library):
  pieces = []
  answer = lloco.ask('goose', library, max_new_tokens=8, said=pieces.append)
  text, vectors, prompt = expected(library, answer)
  assert answer.text == text and ''.join(pieces) == text
  assert len(pieces) > 1
  assert (answer.answer.context, answer.answer.prompt) == (vectors, prompt)
  assert answer.group == 'birds' and not answer.has_adapter
  assert {hit.entry.group for hit in answer.sources} == {'birds'}
  assert 'goose' in answer.sources[0].text
  assert answer.text_tokens == sum(h.entry.tokens for h in answer.sources)
  assert 0 < answer.answer.seconds_to_first_token <= answer.answer.seconds
  assert answer.from_text is None


def test_a_group_and_a_number_of_documents(library):
  answer = lloco.ask('goose', library, 'mills', documents=1, max_new_tokens=8)
  assert answer.group == 'mills' and len(answer.sources) == 1
  assert answer.text == expected(library, answer)[0]
  with pytest.raises(ValueError, match='documents is 0'):
    lloco.ask('goose', library, documents=0)


@pytest.mark.slow
def test_the_text_itself_is_read_for_comparison(library):
  answer = lloco.ask('goose', library, max_new_tokens=8, compare=True)
  texts = library.catalogue.texts([h.entry.version for h in answer.sources])
  joined = '\n\n'.join(''.join(pieces) for pieces in texts.values())
  model = library.model  # noqa: F811
  whole = model.tokenizer.encode(joined) + model.tokenizer.encode(
    PLAIN.ask('goose')
  )
  tokens = lloco.generate(model, whole, max_new_tokens=8).tolist()
  tokens = tokens[: tokens.index(0)] if 0 in tokens else tokens
  assert answer.from_text.text == said(model, tokens)
  assert answer.from_text.context == len(model.tokenizer.encode(joined))


@pytest.mark.slow
def test_the_adapter_of_the_group_answers(library, adapter):
  folder, weights = adapter
  own = Library(library.folder, library.model, encode)
  own.name_adapter('birds', str(folder), 'qasper')
  try:
    answer = lloco.ask('goose', own, max_new_tokens=8)
    assert answer.has_adapter
    text, _, prompt = expected(own, answer, weights, PROMPTS['qasper'])
    assert answer.text == text and answer.answer.prompt == prompt
    assert not lloco.ask('mill', own, 'mills', max_new_tokens=2).has_adapter
  finally:
    (own.folder / 'adapters.json').unlink()
  assert not lloco.ask('goose', own, max_new_tokens=2).has_adapter


def test_an_adapter_in_its_place_is_found_without_a_name(library, adapter):
  place = library.folder / 'adapters/birds'
  place.parent.mkdir(exist_ok=True)
  place.symlink_to(adapter[0])
  try:
    assert lloco.ask('goose', library, max_new_tokens=2).has_adapter
  finally:
    place.unlink()


def test_a_library_may_be_moved_with_its_adapters(library, adapter, tmp_path):
  first, second = tmp_path / 'first', tmp_path / 'second'
  shutil.copytree(library.folder, first)
  shutil.copytree(adapter[0], first / 'training/birds/adapter')
  own = Library(first, library.model, encode)
  own.name_adapter('birds', str(first / 'training/birds/adapter'), 'qasper')
  own.name_adapter('mills', str(adapter[0]), 'plain')
  first.rename(second)
  assert Library(second, library.model, encode).adapter_folders() == {
    'birds': (str(second / 'training/birds/adapter'), 'qasper'),
    'mills': (str(adapter[0].resolve()), 'plain'),
  }


def test_adapters_that_are_refused(library, adapter, tmp_path):
  folder = str(adapter[0])
  with pytest.raises(ValueError, match="no group 'x'; it has birds, mills"):
    library.name_adapter('x', folder, 'plain')
  with pytest.raises(ValueError, match="no prompt 'x'"):
    library.name_adapter('birds', folder, 'x')
  with pytest.raises(FileNotFoundError):
    library.name_adapter('birds', str(tmp_path / 'none'), 'plain')
  other = dataclasses.replace(library.model, fingerprint='other')
  peft.save_adapter(tmp_path, adapter[1], 'other', base_fingerprint='other')
  assert other.fingerprint != library.model.fingerprint
  with pytest.raises(ValueError, match='other'):
    library.name_adapter('birds', str(tmp_path), 'plain')
  assert not library.adapter_folders()


@pytest.mark.parametrize(
  'content', ['{', '[]', 'null', '{"mills": 3}', '{"mills": {"folder": "x"}}']
)
def test_damaged_names_are_told_before_the_work(
  library, adapter, tmp_path, content
):
  named = library.folder / 'adapters.json'
  (tmp_path / 'new.txt').write_text('A goose.')
  named.write_text(content)
  try:
    for change in (
      lambda: library.name_adapter('birds', str(adapter[0]), 'plain'),
      lambda: library.forget_adapter('birds'),
      lambda: add_folder(library, tmp_path, 'birds', progress=False),
    ):
      with pytest.raises(ValueError, match='adapters.json is damaged .*remove'):
        change()
    assert named.read_text() == content
  finally:
    named.unlink()
  names = {entry.name for entry in library.catalogue.entries()}
  assert str(tmp_path / 'new.txt') not in names


def test_an_adapter_is_named_while_files_are_added(library, adapter):
  other = Library(library.folder, library.model, encode)
  with library.alone():
    other.name_adapter('birds', str(adapter[0]), 'plain')
    assert library.adapter_folders().keys() == {'birds'}
    other.forget_adapter('birds')
  assert not library.adapter_folders()


def test_summaries_that_are_gone_are_told(library, tmp_path):
  answer = lloco.ask('goose', library, documents=1, max_new_tokens=2)
  path = library.store.path(answer.sources[0].entry.key)
  path.rename(tmp_path / 'away')
  with pytest.raises(FileNotFoundError, match='compress the documents first'):
    lloco.ask('goose', library, documents=1, max_new_tokens=2)
  (tmp_path / 'away').rename(path)


def test_the_commands(tmp_path, model, files, capsys, monkeypatch):  # noqa: F811
  for name in ('make', '__init__'):
    function = getattr(Library, name)
    function = getattr(function, '__func__', function)
    defaults = [
      encode if each is module.embed else each for each in function.__defaults__
    ]
    monkeypatch.setattr(function, '__defaults__', tuple(defaults))
  place = f'--library={tmp_path / "l"}'

  def call(*arguments):
    main([*arguments, place])
    return capsys.readouterr().out

  said = call(
    'library', 'add', str(files), '--group=mills', f'--model={model.name}',
    '--part_characters=400',
  )  # fmt: skip
  assert '3 added, 0 unchanged' in said
  said = call('library', 'add', str(files), '--group=mills')
  assert '0 added, 3 unchanged' in said
  # A default that is given is no default.
  with pytest.raises(SystemExit, match="part_characters '400', not '7000'"):
    call('library', 'add', str(files), '--part_characters=7000')
  said = call('library', 'list', '--documents')
  assert 'mills: 3 files, 5 documents' in said and 'adapter: none' in said
  assert 'b.md, part 3: ' in said
  assert '5 documents verified: 0 damaged' in call('library', 'verify')
  said = call('ask', 'ferry', '--max_new_tokens=4', '--compare')
  assert "group 'mills', which has no adapter: the compressor alone" in said
  assert '/c.html' in said and 'The ferry is late.' in said
  assert 'vectors in place of' in said and 'reading the text itself' in said
  assert '1 files removed' in call('library', 'remove', str(files / 'a.txt'))
  for path in (tmp_path / 'l/store').glob('*.safetensors'):
    path.unlink()
  with pytest.raises(SystemExit) as ended:
    call('library', 'verify')
  assert ended.value.code == 1
  with pytest.raises(SystemExit, match='Nothing is named to be removed'):
    call('library', 'remove')


def test_missing_packages_name_the_extra(library, monkeypatch):
  find_spec = (
    module.Catalogue.__init__.__globals__['need']
    .__globals__['importlib']
    .util.find_spec
  )

  def without(name, *rest):
    return None if name == 'lancedb' else find_spec(name, *rest)

  monkeypatch.setattr('importlib.util.find_spec', without)
  with pytest.raises(ImportError, match=r"lancedb, of the extra 'library'"):
    Library(library.folder)


def test_the_window_bounds_what_is_read(library, monkeypatch):
  monkeypatch.setattr(asking, 'RESERVE', 2048 - 45)
  answer = lloco.ask('goose', library, max_new_tokens=2)
  assert sum(hit.entry.vectors for hit in answer.sources) <= 45
  monkeypatch.setattr(asking, 'RESERVE', 2048)
  with pytest.raises(ValueError, match='that leaves 0 for summaries'):
    lloco.ask('goose', library, max_new_tokens=2)


@pytest.mark.slow
def test_an_adapter_is_finetuned_on_the_summaries(library):
  """From the library's own documents to a group that has an adapter."""
  names = sorted(library.summaries('birds'))
  assert names == sorted(
    entry.name
    for entry in library.catalogue.entries()
    if entry.group == 'birds'
  )
  examples = [
    Example(name, 'What is it?', ('A goose.',), (name,)) for name in names
  ]
  adapter = lloco.finetune(
    library.model, examples, library.summaries('birds'), epochs=1
  )
  place = library.folder / 'adapters/birds'
  lloco.save_adapter(place, adapter, library.model)
  try:
    assert lloco.ask('goose', library, max_new_tokens=2).has_adapter
  finally:
    shutil.rmtree(place)


def test_nothing_is_made_for_a_folder_that_is_not_there(tmp_path):
  place = f'--library={tmp_path / "l"}'
  for arguments, said in (
    ([str(tmp_path / 'none'), '--group=g'], 'is no folder; name one'),
    ([str(tmp_path), '--group=a/b'], 'has a slash'),
  ):
    with pytest.raises(SystemExit, match=said):
      main(['library', 'add', *arguments, place])
    assert not (tmp_path / 'l').exists()


@pytest.mark.parametrize('question', [None, 5, b'goose', 'g\udcff?'])
def test_what_is_no_text_is_no_question(library, question):
  with pytest.raises(ValueError, match='in words, as|is not UTF-8'):
    lloco.ask(question, library)


def test_a_question_without_room_is_told_how_long_it_is(library):
  window = library.model.config.max_position_embeddings
  with pytest.raises(
    ValueError, match=f"of the model's {window:,} pos.* in few"
  ):
    lloco.ask('goose ' * window, library)


def test_an_answer_that_was_cut_is_told(library):
  for most in (2, 40):
    answer = lloco.ask('goose', library, max_new_tokens=most)
    report = commands.answer_report(answer)
    assert answer.answer.cut == ('all the tokens it may have' in report)
    whole = lloco.ask('goose', library, max_new_tokens=most + 1)
    if not answer.answer.cut:
      assert whole.text == answer.text
  assert lloco.ask('goose', library, max_new_tokens=2).answer.cut


def test_lost_summaries_are_told_with_their_document(library):
  entry = library.catalogue.entries()[0]
  path = library.store.folder / f'{entry.key}.safetensors'
  kept = path.read_bytes()
  path.unlink()
  try:
    with pytest.raises(
      FileNotFoundError, match=rf'of {entry.name} are .* verify --mend'
    ):
      lloco.ask('goose mill', library, entry.group, documents=9)
  finally:
    path.write_bytes(kept)


def test_an_adapter_that_is_gone_is_told(library, adapter, tmp_path):
  folder = shutil.copytree(adapter[0], tmp_path / 'adapter')
  library.name_adapter('birds', str(folder), 'plain')
  named = library.folder / 'adapters.json'
  try:
    assert not verify(library).adapters
    weights = folder / 'adapter_model.safetensors'
    weights.write_bytes(weights.read_bytes()[:-5])
    [damaged] = verify(library).adapters
    assert damaged.startswith("The adapter of the group 'birds': ")
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="'birds' is not in .*adapter'"):
      lloco.ask('goose', library, 'birds')
    findings = verify(library)
    assert "'birds' is not in" in findings.text()
    named.write_text(named.read_text().replace('"plain"', '"plane"'))
    with pytest.raises(ValueError, match='adapters.json is damaged .*plane'):
      lloco.ask('goose', library, 'birds')
    assert 'damaged' in verify(library).text()
  finally:
    named.unlink()


def test_a_group_that_is_not_there_has_no_summaries(library):
  with pytest.raises(ValueError, match="no group 'bird'; it has birds, mills"):
    library.summaries('bird')
