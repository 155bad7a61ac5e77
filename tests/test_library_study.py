"""Pairs that the model makes of passages: asked, sifted, noted, resumed."""

import json

import pytest
from test_library import encode, make, model, text_of  # noqa: F401

import lloco_jax as lloco
from lloco_jax.__main__ import main
from lloco_jax.data.examples import Example
from lloco_jax.library import study as module
from lloco_jax.library.adding import add_folder, remove
from lloco_jax.library.kinds import EXAMPLE, KINDS
from lloco_jax.library.notes import dropped_file, notes_file
from lloco_jax.library.pairs import pairs_file, read_pairs
from lloco_jax.library.sifting import Seen, fault
from lloco_jax.library.study import study

pytest.importorskip('lancedb', reason="needs the extra 'library'")

PASSAGE = (
  'The mill of Oster was built in 1712 by Anna Berg, who sold barley to the '
  'ferry. Its roof is of slate.'
)


@pytest.mark.parametrize(
  'question, answer, reason',
  [
    ('Who built the mill of Oster?', 'Anna Berg', None),
    ('What is the roof made of?', 'Slate.', None),
    ('Who built the mill of Oster?', '', 'empty answer'),
    ('Who built the mill of Oster?', ' ...', 'empty answer'),
    ('Who built the mill', 'Anna Berg', 'no question'),
    ('Mill?', 'Anna Berg', 'no question'),
    ('Who built ' + 'the old mill ' * 20 + '?', 'Anna', 'question too long'),
    ('Who built the mill?', 'Anna Berg ' * 30, 'answer too long'),
    ('Who does this passage say built it?', 'Anna Berg', 'question points'),
    ('Who wrote Hamlet and Macbeth?', 'Anna Berg', 'question about something'),
    ('Who wrote of the old mill?', 'Anna Berg', None),
    ('Who wrote about another mill?', 'Anna Berg', 'question about something'),
    ('Who built the mill?', "I'm sorry, Anna Berg", 'refusal'),
    ('Who built the mill?', 'It is not mentioned.', 'refusal'),
    ('Who built the mill of Oster?', 'The mill of Oster', 'answer repeats'),
    (
      'Who built the mill?',
      'Peter Holm of Bergen',
      'answer not in the passage',
    ),
  ],
)
def test_what_is_refused_and_why(question, answer, reason):
  found = fault(question, answer, PASSAGE)
  assert found == reason or reason and found.startswith(reason)


def test_an_answer_that_was_cut_off_is_refused():
  asked = 'Who built the mill?', 'Anna Berg', PASSAGE
  assert fault(*asked, ended=False) == 'answer too long'
  # One word of five may be the model's own.
  said = 'Anna Berg built the mill of Oster herself'
  assert fault('Who was it that sold barley?', said, PASSAGE) is None
  said = 'Anna Berg built a windmill herself'
  assert fault('Who was it that sold barley?', said, PASSAGE)


def test_what_is_there_already():
  def pair(question, answer, document='d'):
    return Example('1', question, (answer,), (document,))

  seen = Seen([pair('Who is it?', 'Anna')])
  assert pair('who is IT', 'Berg') in seen
  assert pair('Who is it?', 'the Anna', 'e') in seen
  assert pair('Who is it?', 'Berg', 'e') not in seen
  assert pair('Who was it?', 'Anna') not in seen


@pytest.fixture
def library(tmp_path, model):  # noqa: F811
  files = tmp_path / 'files'
  files.mkdir()
  for number in range(3):
    (files / f'{number}.txt').write_text(text_of(number, 260))
  library = make(tmp_path / 'library', model, passage_characters=150)
  add_folder(library, files, 'mills', progress=False)
  return library


def test_questions_and_answers_are_the_models_own(library, monkeypatch):
  """Against `generate`, a prompt at a time, without batches or padding."""
  monkeypatch.setattr(module, '_QUESTION_TOKENS', 6)
  monkeypatch.setattr(module, '_ANSWER_TOKENS', 5)
  base = library.base
  stop = {*base.config.eos_token_ids, *base.tokenizer.encode('\n')}

  def said(passage, prompt, most):
    text = f'{EXAMPLE}Passage: {passage.text}'
    ids = base.tokenizer.encode(text) + base.tokenizer.encode(prompt)
    tokens = lloco.generate(base, ids, max_new_tokens=most).tolist()
    ends = [place for place, token in enumerate(tokens) if token in stop]
    return tokens[: ends[0]] if ends else tokens

  passages = module._passages(library, 'mills')[:2]
  kinds = [KINDS['time'], KINDS['number']]
  found = module._ask(library, passages, kinds)
  for passage, some in zip(passages, found):
    for kind, (asked, question, answer, ended) in zip(kinds, some):
      new = said(passage, f'\nQuestion: {kind.opening}', 6)
      expected = kind.opening + base.tokenizer.decode(new)
      expected = expected[: expected.find('?') + 1 or None]
      assert asked is kind and question == ' '.join(expected.split())
      new = said(passage, f'\nQuestion: {question}\nAnswer:', 5)
      lines = base.tokenizer.decode(new).strip().splitlines()
      assert answer == (lines[0].strip() if lines else '')
      assert ended == (len(new) < 5)


def scripted(calls, stop_after=None):
  """Stands in for the model: a good pair and a bad one a passage."""

  def ask(library, passages, kinds):
    if stop_after is not None and len(calls) == stop_after:
      raise KeyboardInterrupt
    calls.extend(passage.id for passage in passages)
    made = []
    for passage in passages:
      words = passage.text.replace('.', '').split()
      question = f'Who has {" ".join(words[:5])}?'
      answer = next(word for word in words if word not in words[:5])
      made.append(
        [(kinds[0], question, answer, True), (kinds[1], 'What?', '', True)]
      )
    return made

  return ask


def test_a_study_goes_on_where_it_was_stopped(library, monkeypatch, tmp_path):
  calls = []
  monkeypatch.setattr(module, '_PASSAGES_AT_ONCE', 2)
  monkeypatch.setattr(module, '_ask', scripted(calls, stop_after=2))
  with pytest.raises(KeyboardInterrupt):
    study(library, 'mills', progress=False)
  notes, pairs = notes_file(library, 'mills'), pairs_file(library, 'mills')
  assert len(notes.read_text().splitlines()) == 2
  # What a kill may leave: notes and pairs half written, and pairs without one.
  lines = notes.read_text().splitlines(keepends=True)
  notes.write_text(lines[0] + lines[1][:20])
  pairs.write_text(pairs.read_text() + '{"id": "half')
  monkeypatch.setattr(module, '_ask', scripted(calls))
  studied = study(library, 'mills', progress=False)
  passages = module._passages(library, 'mills')
  count = len(passages)
  assert count > 4 and studied.passages == count - 1 and studied.known == 1
  assert sorted(set(calls)) == sorted(passage.id for passage in passages)
  assert studied.refused == {'no question': count - 1}
  found = read_pairs(library, 'mills')
  assert len({pair.id for pair in found}) == len(found) == count
  for pair in found:
    assert pair.tags == ('person',) and pair.id.endswith('-person')
    [entry] = [
      e for e in library.catalogue.entries() if (e.name,) == pair.document_ids
    ]
    [texts] = library.catalogue.texts([entry.version]).values()
    texts = [' '.join(text.replace('.', '').split()) for text in texts]
    assert any(pair.question[8:-1] in text for text in texts)
  refused = json.loads(notes.read_text().splitlines()[0])['refused']
  assert refused == [
    {
      'kind': 'thing',
      'question': 'What?',
      'answer': '',
      'refused': 'no question',
    }
  ]
  # Nothing is left to do, also of a pair that the user has removed.
  pairs.write_text(''.join(pairs.read_text().splitlines(keepends=True)[1:]))
  again = study(library, 'mills', progress=False)
  assert (again.passages, again.known, again.kept) == (0, count, 0)
  assert len(read_pairs(library, 'mills')) == count - 1


def test_pairs_of_changed_passages_go_and_the_users_stay(
  library, monkeypatch, tmp_path
):
  monkeypatch.setattr(module, '_ask', scripted([]))
  study(library, 'mills', progress=False)
  pairs = pairs_file(library, 'mills')
  # Without the end of its line, as an editor may leave it.
  own = '{"id": "mine", "question": "q", "answer": "a", "document_id": "0.txt"}'
  pairs.write_text(pairs.read_text() + own)
  before = {passage.id for passage in module._passages(library, 'mills')}
  (tmp_path / 'files/1.txt').write_text(text_of(9, 280))
  add_folder(library, tmp_path / 'files', 'mills', progress=False)
  after = {passage.id for passage in module._passages(library, 'mills')}
  gone, stay = len(before - after), len(before & after)
  assert gone and stay
  studied = study(library, 'mills', most=1, progress=False)
  assert studied.passages == 1
  assert (studied.known, studied.dropped) == (stay, gone)
  assert f'{gone} pairs were dropped' in studied.text()
  found = read_pairs(library, 'mills')
  assert len(found) == stay + 1 + 1
  assert [pair.id for pair in found].count('mine') == 1
  study(library, 'mills', progress=False)
  assert len(read_pairs(library, 'mills')) == len(after) + 1
  with pytest.raises(
    ValueError, match="no kind of question 'x'; use some of p"
  ):
    study(library, 'mills', kinds=['x'])
  with pytest.raises(ValueError, match='most is -1'):
    study(library, 'mills', most=-1)


def test_pairs_of_passages_that_left_the_group_are_kept(
  library, monkeypatch, tmp_path
):
  monkeypatch.setattr(module, '_ask', scripted([]))
  study(library, 'mills', progress=False)
  pairs = pairs_file(library, 'mills')
  pairs.write_text(pairs.read_text().replace('"answer": "', '"answer": "my '))
  before = pairs.read_text().splitlines()
  other = tmp_path / 'files/other'
  other.mkdir()
  (tmp_path / 'files/1.txt').rename(other / '1.txt')
  add_folder(library, other, 'ferries', progress=False)
  add_folder(library, tmp_path / 'files', progress=False)
  studied = study(library, 'mills', progress=False)
  kept = dropped_file(library, 'mills').read_text().splitlines()
  assert 0 < len(kept) == studied.dropped
  assert f"they are in '{dropped_file(library, 'mills')}'" in studied.text()
  assert sorted(before) == sorted(pairs.read_text().splitlines() + kept)
  # A call that was stopped after it had written them.
  pairs.write_text('\n'.join(before) + '\n')
  notes = notes_file(library, 'mills')
  gone = {json.loads(line)['id'].rpartition('-')[0] for line in kept}
  lines = [
    json.dumps({'passage': id, 'document': '1.txt', 'kept': 1, 'refused': []})
    for id in sorted(gone)
  ]
  notes.write_text(notes.read_text() + '\n'.join(lines) + '\n')
  assert study(library, 'mills', progress=False).dropped == len(kept)
  assert dropped_file(library, 'mills').read_text().splitlines() == kept


def test_passages_are_read_again_for_other_kinds(library, monkeypatch):
  asked = []
  ask = scripted([])

  def noted(library, passages, kinds):
    asked.append([kind.name for kind in kinds])
    return ask(library, passages, [*kinds, *kinds])

  monkeypatch.setattr(module, '_ask', noted)
  count = len(module._passages(library, 'mills'))
  first = study(library, 'mills', ['time'], most=3, progress=False)
  assert (first.passages, first.known) == (3, 0)
  second = study(library, 'mills', ['time', 'place'], progress=False)
  assert (second.passages, second.known) == (count, 0)
  assert sorted(map(tuple, asked)) == sorted(
    [('time',), ('place',)] + [('time', 'place')] * (len(asked) - 2)
  )
  assert study(library, 'mills', ['place'], progress=False).passages == 0
  # Notes of earlier versions name no kinds: all were asked.
  notes = notes_file(library, 'mills')
  fields = [json.loads(line) for line in notes.read_text().splitlines()]
  for each in fields:
    del each['kinds']
  notes.write_text(''.join(json.dumps(each) + '\n' for each in fields))
  assert study(library, 'mills', progress=False).passages == 0


def test_an_id_of_two_pairs_is_told(library):
  line = '{"id": "a", "question": "q", "answer": "a", "document_id": "0.txt"}\n'
  path = pairs_file(library, 'mills')
  path.parent.mkdir()
  path.write_text(line * 2)
  with pytest.raises(ValueError, match="has the id 'a' 2 times"):
    read_pairs(library, 'mills')


def test_an_answer_is_given_once_a_passage():
  passage = module._Passage('d', PASSAGE)
  asked = ['Who built the mill of Oster?', 'What is the mill of Oster?']
  made = [
    (kind, question, 'Anna Berg', True)
    for kind, question in zip(KINDS.values(), asked)
  ]
  [kept], [refused] = module._sift(passage, made, Seen(), set())
  assert kept.question == asked[0]
  assert refused['refused'] == 'answer given before'


def test_the_command(library, monkeypatch, capsys):
  monkeypatch.setattr(module, '_ask', scripted([]))
  arguments = ['library', 'study', f'--library={library.folder}', '--most=2']
  main([*arguments, '--group=mills'])
  said = capsys.readouterr().out
  assert "'mills': 2 passages read, 0 known before; 2 pairs kept" in said
  assert 'Refused: 2 no question.' in said
  assert f"pairs are in '{pairs_file(library, 'mills')}'" in said
  assert f'--config.library.path={library.folder} --config.lib' in said
  with pytest.raises(SystemExit, match="no group 'x'; it has mills"):
    main([*arguments, '--group=x'])


def test_pairs_stay_with_passages_whose_document_is_called_otherwise(
  library, monkeypatch, tmp_path
):
  """Its file has grown into two documents, and is moved."""
  calls = []
  monkeypatch.setattr(module, '_ask', scripted(calls))
  study(library, 'mills', progress=False)
  pairs = pairs_file(library, 'mills')
  pairs.write_text(pairs.read_text().replace('"answer": "', '"answer": "my '))
  before, asked = read_pairs(library, 'mills'), len(calls)
  grown = tmp_path / 'files/0.txt'
  grown.write_text(grown.read_text() + '\n\n' + text_of(5, 300))
  moved = tmp_path / 'moved'
  (tmp_path / 'files').rename(moved)
  add_folder(library, moved, 'mills', progress=False)
  remove(library, [str(tmp_path / 'files')])
  studied = study(library, 'mills', most=1, progress=False)
  after = {pair.id: pair for pair in read_pairs(library, 'mills')}
  # The last passage of a text that has grown is another one.
  assert studied.dropped <= 1 and len(calls) == asked + 1
  names = {entry.name for entry in library.catalogue.entries()}
  kept = [after[pair.id] for pair in before if pair.id in after]
  assert len(kept) == len(before) - studied.dropped
  for pair in kept:
    assert pair.answers[0].startswith('my ')
    assert set(pair.document_ids) <= names


def test_a_passage_that_is_cut_is_told(library, monkeypatch, capsys):
  passage = module._Passage('mills.txt', text_of(1, 6000))
  asked = []

  def stop(base, some, **settings):
    asked.extend(len(each.context) for each in some)
    raise KeyboardInterrupt

  monkeypatch.setattr(module, 'answer_all', stop)
  for each, cut in ((module._Passage('a', PASSAGE), False), (passage, True)):
    with pytest.raises(KeyboardInterrupt):
      module._ask(library, [each], module.choose_kinds(['time']))
    whole = len(library.base.tokenizer.encode(module.before(each.text)))
    said = capsys.readouterr().out
    lost = (
      f'of mills.txt is too long to be read whole, {whole - asked[-1]:,} of'
    )
    assert (lost in said) == (whole > asked[-1]) == cut


def test_pairs_that_are_not_utf8_are_named(library, monkeypatch):
  monkeypatch.setattr(module, '_ask', scripted([]))
  study(library, 'mills', most=1, progress=False)
  pairs = pairs_file(library, 'mills')
  pairs.write_bytes(pairs.read_bytes() + '{"id": "é"}'.encode('latin1'))
  with pytest.raises(ValueError, match=r'mills\.jsonl is not UTF-8: .*iconv'):
    study(library, 'mills', progress=False)


def test_passages_too_short_to_ask_about_are_told(tmp_path, model, capsys):  # noqa: F811
  files = tmp_path / 'files'
  files.mkdir()
  (files / 'a.txt').write_text('Short.')
  library = make(tmp_path / 'library', model)
  add_folder(library, files, 'mills', progress=False)
  main(['library', 'study', f'--library={library.folder}'])
  said = capsys.readouterr().out
  assert "There are no pairs about 'mills': passages of fewer" in said
  assert 'train.py' not in said


def test_a_passage_in_a_second_document_changes_no_pair(
  library, monkeypatch, tmp_path
):
  calls = []
  monkeypatch.setattr(module, '_ask', scripted(calls))
  study(library, 'mills', progress=False)
  before = read_pairs(library, 'mills')
  twin = tmp_path / 'files/00.txt'
  twin.write_text((tmp_path / 'files/1.txt').read_text())
  add_folder(library, tmp_path / 'files', 'mills', progress=False)
  asked = len(calls)
  studied = study(library, 'mills', progress=False)
  assert (studied.passages, studied.dropped, len(calls)) == (0, 0, asked)
  assert read_pairs(library, 'mills') == before
