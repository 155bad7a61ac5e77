"""Made reports: the same everywhere, impossible to guess, fit to read."""

import collections
import hashlib
import itertools
import json
import re
import time

import pytest

from lloco_jax.data import filler, words
from lloco_jax.data.attributes import ATTRIBUTES
from lloco_jax.data.reports import make_dataset, make_report
from lloco_jax.weights import sources
from lloco_jax.weights.tokenizer import Tokenizer

VALUES = {value.lower() for pool in words.POOLS.values() for value in pool}
STATEMENTS = {attribute.key: attribute.statements for attribute in ATTRIBUTES}
QUESTIONS = {attribute.key: attribute.questions for attribute in ATTRIBUTES}


def words_of(text):
  return re.findall(r'[a-z]+', text.lower())


def paragraphs_of(report):
  return report.document.text.split('\n\n')


def sentences_of(report):
  """The sentences of the paragraphs, without title and headings."""
  return [
    sentence
    for paragraph in paragraphs_of(report)
    if paragraph.endswith('.')
    for sentence in re.findall(r'[^.]+\.', paragraph)
  ]


def starts():
  """The words that a statement starts with, where it is not a name."""
  texts = itertools.chain(*STATEMENTS.values())
  return {text.split()[0] for text in texts} - {'{name}'}


def facts_of(report):
  return {(fact.name, fact.attribute, fact.value) for fact in report.facts}


@pytest.fixture(scope='module')
def reports():
  return [
    make_report(seed, length, kind)
    for seed, (kind, length) in enumerate(
      itertools.product(filler.KINDS, (90, 600, 2500))
    )
  ]


@pytest.fixture(scope='module')
def dataset():
  return make_dataset(3, 10, 6, 20)


def fields(item):
  """Of a fact or an example; the reports' examples have no tags."""
  found = dict(vars(item))
  assert not found.pop('tags', ())
  return found


def test_reports_are_the_same_on_every_machine():
  made = [
    make_report(0),
    make_report(1, 90),
    make_report(2, (100, 900), 'estate', 'validation', 6.5, 'two', 'shelf'),
  ]
  text = json.dumps(
    [
      [report.document.id, report.document.text, report.document.group]
      + [[fields(item) for item in pair] for pair in pairs]
      for report in made
      for pairs in [list(zip(report.facts, report.examples))]
    ],
    sort_keys=True,
  )
  assert hashlib.sha256(text.encode()).hexdigest() == (
    'bd63eba4190946a28d0b419e6431a7fe9139c2af21e944161d1362aa41e20a32'
  )


def test_datasets_are_the_same_on_every_machine(dataset):
  text = json.dumps(
    [vars(document) for document in dataset.documents.values()]
    + [fields(item) for split in dataset.splits.values() for item in split],
    sort_keys=True,
  )
  assert hashlib.sha256(text.encode()).hexdigest() == (
    'af04b94941bcd14e81b75015af95c4e9c03ec5f794bd8e95086f1f23af9f3da6'
  )


def test_a_span_holds_the_sentence_of_its_fact(reports):
  for report in reports:
    assert len(report.facts) == len(report.examples)
    for fact, example in zip(report.facts, report.examples):
      sentence = report.document.text[fact.start : fact.end]
      assert sentence.endswith('.') and sentence.count('.') == 1
      assert fact.name in sentence
      assert fact.value in re.findall(r'\w+', sentence)
      assert fact.name in example.question
      assert example.answers == (fact.value,)
      assert example.document_ids == (report.document.id,)


def test_each_question_has_one_answer(reports):
  """Every statement of every value is looked for in the whole text."""
  for report in reports:
    text = report.document.text.lower()
    for fact, example in zip(report.facts, report.examples):
      (key,) = (
        key
        for key, questions in QUESTIONS.items()
        if example.question in [q.format(name=fact.name) for q in questions]
      )
      found = [
        match['value']
        for statement in STATEMENTS[key]
        for match in re.finditer(
          re.escape(statement.lower())
          .replace(r'\{name\}', re.escape(fact.name.lower()))
          .replace(r'\{a\}', 'an?')
          .replace(r'\{value\}', r'(?P<value>\w+)'),
          text,
        )
      ]
      assert found == [fact.value.lower()], example.question


def test_questions_of_two_attributes_differ():
  questions = [text for texts in QUESTIONS.values() for text in texts]
  assert len(set(questions)) == len(questions)
  assert min(map(len, QUESTIONS.values())) >= 2
  assert min(map(len, STATEMENTS.values())) >= 4


def test_filler_holds_no_value():
  texts = [*filler.LEADS, *filler.ARRIVALS]
  for name, kind in filler.KINDS.items():
    texts += [*kind.titles, *kind.openings, *kind.headings]
    texts += filler.SENTENCES[name]
    texts += itertools.chain(*filler.SLOTS[name].values())
  texts += words.FIRST_NAMES + words.SECOND_NAMES
  for text in texts:
    plain = re.sub(r'[\[{]\w+[\]}]', '', text)
    assert not VALUES & set(words_of(plain)), text


def test_a_value_stands_in_facts_only(reports):
  for report in reports:
    text = report.document.text
    for fact in reversed(report.facts):
      text = text[: fact.start] + text[fact.end :]
    assert not VALUES & set(words_of(text))


def test_statements_hold_no_value_of_their_own():
  for attribute in ATTRIBUTES:
    pool = {value.lower() for value in attribute.values}
    for text in attribute.statements + attribute.questions:
      assert not pool & set(words_of(text)), text


def test_answers_cannot_be_guessed():
  """Not overall, and not by who knows the attribute asked for."""
  counts = collections.defaultdict(collections.Counter)
  for seed in range(400):
    for fact in make_report(seed, 600).facts:
      counts[fact.attribute][fact.value] += 1
  assert set(counts) == {attribute.key for attribute in ATTRIBUTES}
  for attribute in ATTRIBUTES:
    values = attribute.values
    assert len(set(values)) == len(values) >= 40
    assert set(counts[attribute.key]) == set(values)
  best = sum(count.most_common(1)[0][1] for count in counts.values())
  drawn = sum(count.total() for count in counts.values())
  assert drawn > 9000
  # The guesser here has seen the very answers, luck included.
  assert best / drawn < 0.035
  assert max(1 / len(attribute.values) for attribute in ATTRIBUTES) < 0.03


def test_splits_share_neither_documents_nor_names_nor_facts(dataset):
  documents = {
    split: {document.text for document in dataset.documents_of(split)}
    for split in dataset.splits
  }
  assert len(documents['train']) == 10 and len(documents['validation']) == 6
  assert not documents['train'] & documents['validation']
  train = [make_report(seed, 4000) for seed in range(30)]
  validation = [
    make_report(seed, 4000, split='validation') for seed in range(30)
  ]
  names = [
    {fact.name for report in part for fact in report.facts}
    for part in (train, validation)
  ]
  facts = [set().union(*map(facts_of, part)) for part in (train, validation)]
  assert min(map(len, names)) > 1000
  assert not names[0] & names[1]
  assert not facts[0] & facts[1]
  # The words of the names are shared: a new name is made of known words.
  firsts = [{name.split()[0] for name in part} for part in names]
  assert firsts[0] == firsts[1]


def test_a_dataset_asks_over_the_whole_document(dataset):
  assert [len(split) for split in dataset.splits.values()] == [200, 120]
  for split, examples in dataset.splits.items():
    for document in dataset.documents_of(split):
      asked = [
        example
        for example in examples
        if example.document_ids == (document.id,)
      ]
      at = [
        re.search(rf'\b{example.answers[0]}\b', document.text).start()
        for example in asked
      ]
      assert len({example.question for example in asked}) == len(asked) == 20
      quarters = collections.Counter(
        4 * place // len(document.text) for place in at
      )
      assert min(quarters[quarter] for quarter in range(4)) >= 2


def test_facts_are_spread_evenly():
  for seed in range(20):
    report = make_report(seed, 2000, facts_per_hundred_words=4.0)
    assert len(report.facts) == 80
    length = len(report.document.text)
    eighths = collections.Counter(
      8 * fact.start // length for fact in report.facts
    )
    assert all(7 <= eighths[eighth] <= 13 for eighth in range(8)), eighths


@pytest.mark.parametrize('rate', [0.5, 2.0, 4.0, 7.0])
@pytest.mark.parametrize('length', [40, 60, 90, 400, 420, 1300, 4900])
def test_length_and_number_of_facts_are_as_asked(length, rate):
  for seed in range(5):
    report = make_report(seed, length, facts_per_hundred_words=rate)
    assert len(report.facts) == max(1, round(length * rate / 100))
    written = len(report.document.text.split())
    slack = 25 + (0.12 * length if rate == 7 else 0)
    assert length - 7 <= written <= length + slack


def test_a_range_of_lengths_is_used_whole():
  lengths = [
    len(make_report(seed, (100, 500)).document.text.split())
    for seed in range(200)
  ]
  assert min(lengths) < 120 and max(lengths) > 480 and max(lengths) < 530


def test_text_reads_as_text(reports):
  for report in reports:
    text = report.document.text
    assert text.isascii() and text == text.strip()
    assert '  ' not in text and '\n\n\n' not in text
    assert not re.search(r'[\[\]{}_]|\s[.,]|\.\.|,,|\ba [aeiou]', text)
    for lead in filler.LEADS:
      for rest in text.split(lead[1:])[1:]:
        assert rest.split()[0] not in starts()
    for paragraph in paragraphs_of(report):
      assert '\n' not in paragraph and paragraph[0].isupper()
    for sentence in sentences_of(report):
      assert sentence.strip()[0].isupper()
      assert 3 <= len(sentence.split()) <= 30
    title, opening, *rest = paragraphs_of(report)
    assert not title.endswith('.') and opening.endswith('.')
    headings = [part for part in rest if not part.endswith('.')]
    assert len(set(headings)) == len(headings)
    assert bool(headings) == (len(text.split()) > 420)
    # No heading is followed by another, or by nothing.
    assert text.endswith('.')
    assert not any(
      one in headings and two in headings for one, two in zip(rest, rest[1:])
    )


def test_sentences_are_rarely_repeated():
  for seed in range(10):
    sentences = sentences_of(make_report(seed, 4900))
    counts = collections.Counter(map(str.strip, sentences))
    assert max(counts.values()) <= 2
    assert len(counts) > 0.99 * len(sentences)


def test_places_come_back(reports):
  report = make_report(5, 3000)
  names = [fact.name for fact in report.facts]
  counts = collections.Counter(names)
  assert set(counts.values()) == {1, 2, 3}
  apart = [
    len(names) - 1 - names[::-1].index(name) - names.index(name)
    for name, count in counts.items()
    if count > 1
  ]
  assert (
    sum(gap < 5 for gap in apart) > 5 and sum(gap > 20 for gap in apart) > 5
  )


def test_examples_within_a_segment(reports):
  for report in reports:
    length = len(report.document.text)
    assert report.examples_within(0, length) == report.examples
    assert report.examples_within(0, 0) == ()
    for start, end in [(100, 400), (length // 3, 2 * length // 3)]:
      assert report.examples_within(start, end) == tuple(
        example
        for fact, example in zip(report.facts, report.examples)
        if start <= fact.start and fact.end <= end
      )
    fact = report.facts[0]
    assert len(report.examples_within(fact.start, fact.end)) == 1
    assert report.examples_within(fact.start + 1, fact.end) == ()
    assert report.examples_within(fact.start, fact.end - 1) == ()


def test_short_reports_are_made_fast():
  start = time.process_time()
  for seed in range(500):
    make_report(seed, 100)
  assert (time.process_time() - start) / 500 < 2e-3


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'seed': -1}, 'seed of a report is -1'),
    ({'words': 10}, 'cannot have 10 words'),
    ({'words': (300,)}, r'\(300,\); give the least and'),
    ({'words': (300, 200)}, r'cannot have \(300, 200\) words'),
    ({'kind': 'novel'}, "'novel'; use one of survey, "),
    ({'split': 'test'}, "'test'; use one of train, validation"),
    ({'facts_per_hundred_words': 0}, 'facts_per_hundred_words is 0'),
    ({'facts_per_hundred_words': 20}, 'facts_per_hundred_words is 20'),
    ({'words': 130_000}, '5200 facts needs more names'),
  ],
)
def test_what_cannot_be_made_is_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    make_report(**{'seed': 0, **arguments})


def test_more_questions_than_facts_are_refused():
  with pytest.raises(ValueError, match="'train-000' has 4 facts"):
    make_dataset(0, 1, 1, 5, words=100)


@pytest.mark.slow
def test_lengths_in_tokens():
  """Documents of 1,500 to 6,000 tokens; values and names of few tokens."""
  path = sources.resolve(sources.EMBEDDED_DEFAULT)
  tokenizer = Tokenizer.from_gguf(path)
  for length in (1300, 4900):
    for seed in range(20):
      tokens = len(tokenizer.encode(make_report(seed, length).document.text))
      assert 1500 <= tokens <= 6000
      assert 25 < tokens / (length * 0.04) < 45
  for key, pool in words.POOLS.items():
    counts = [len(tokenizer.encode(f' {value}')) for value in pool]
    assert max(counts) <= 2
    assert counts.count(1) == len(pool) or key == 'colour'
