"""Official files, whole or in part, against counts that are known.

They are read below the folder that LLOCO_DATA names, one folder a data set.
"""

import os
import pathlib

import pytest

from lloco_jax.data.fairytaleqa import read_fairytaleqa
from lloco_jax.data.hotpotqa import read_hotpotqa
from lloco_jax.data.longbench import TASKS, read_longbench
from lloco_jax.data.qmsum import read_qmsum
from lloco_jax.data.quality import read_quality
from lloco_jax.data.scrolls import read_scrolls
from lloco_jax.data.squad import UNANSWERABLE, read_squad
from lloco_jax.data.texts import read_texts

ALL = ('train', 'validation', 'test')

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    not os.environ.get('LLOCO_DATA'),
    reason='LLOCO_DATA names no folder with the files of the data sets, '
    'which are not part of this repository',
  ),
]


def staged(name):
  folder = pathlib.Path(os.environ['LLOCO_DATA'], name)
  if not folder.exists():
    pytest.skip(f'LLOCO_DATA has no {name}, which has to be downloaded')
  return folder


def counts(dataset):
  """Documents and questions of each split."""
  return {
    split: (len(dataset.documents_of(split)), len(examples))
    for split, examples in dataset.splits.items()
  }


def tagged(examples, tag):
  return sum(tag in example.tags for example in examples)


def words(dataset):
  lengths = [len(each.text.split()) for each in dataset.documents.values()]
  return sum(lengths) / len(lengths)


def test_quality():
  dataset = read_quality(staged('quality_partial'))
  assert counts(dataset) == {'train': (25, 314), 'validation': (27, 409)}
  validation = dataset.splits['validation']
  assert tagged(dataset.splits['train'], '2 options') == 314
  assert tagged(validation, '2 options') == 255
  assert tagged(validation, '4 options') == 154
  assert tagged(validation, 'hard') == 0
  assert 4500 < words(dataset) < 5100


def test_qmsum():
  dataset = read_qmsum(staged('qmsum'), ALL)
  assert counts(dataset) == {
    'train': (162, 1257),
    'validation': (28, 216),
    'test': (28, 231),
  }
  # The speakers' names are a tenth of it.
  assert 9900 < words(dataset) < 10_200


def test_qmsum_in_the_format_of_scrolls_is_the_same():
  own = read_qmsum(staged('qmsum'), ALL)
  other = read_scrolls(staged('scrolls_format'), 'qmsum', ALL)
  for split in ('validation', 'test'):
    texts = [
      {each.text for each in dataset.documents_of(split)}
      for dataset in (own, other)
    ]
    assert texts[0] == texts[1] and len(texts[0]) == 28
    asked = [
      [
        (example.question, example.answers, dataset.documents[name].text)
        for example in dataset.splits[split]
        for name in example.document_ids
      ]
      for dataset in (own, other)
    ]
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
  ('part', 'references', 'expected'),
  # Qasper's 202 rows are references of 193 questions.
  [('qasper', 202, (28, 193)), ('narrative_qa', 6, (6, 6))],
)
def test_scrolls(part, references, expected):
  dataset = read_scrolls(staged('scrolls_format'), part)
  assert counts(dataset) == {'validation': expected}
  answers = [e.answers for e in dataset.splits['validation']]
  assert sum(map(len, answers)) == references


@pytest.mark.parametrize(
  ('part', 'expected', 'unanswerable', 'length'),
  [
    ('v1.1', (40, 9100), 0, (5300, 5500)),
    ('v2.0', (29, 10_051), 5032, (4300, 4500)),
  ],
)
def test_squad(part, expected, unanswerable, length):
  dataset = read_squad(staged('squad'), part)
  assert counts(dataset) == {'validation': expected}
  assert tagged(dataset.splits['validation'], UNANSWERABLE) == unanswerable
  assert length[0] < words(dataset) < length[1]


def test_fairytaleqa():
  dataset = read_fairytaleqa(staged('fairytaleqa'), splits=ALL)
  assert counts(dataset) == {
    'train': (232, 8548),
    'validation': (23, 1025),
    'test': (23, 1007),
  }
  assert 2100 < words(dataset) < 2200


@pytest.mark.parametrize(
  ('part', 'expected', 'gold'),
  # Two of the 491 questions share their paragraphs.
  [('distractor', (490, 491), 491), ('fullwiki', (498, 498), 151)],
)
def test_hotpotqa(part, expected, gold):
  dataset = read_hotpotqa(staged('hotpotqa'), part)
  assert counts(dataset) == {'train': (498, 498), 'validation': expected}
  assert tagged(dataset.splits['train'], 'gold paragraphs') == 498
  assert tagged(dataset.splits['validation'], 'gold paragraphs') == gold


LONGBENCH = {
  'narrativeqa': (6, 22_958),
  'qasper': (9, 2914),
  'multifieldqa_en': (7, 4496),
  'hotpotqa': (13, 8838),
  '2wikimqa': (13, 4274),
  'musique': (7, 11_111),
  'gov_report': (12, 7590),
  'qmsum': (4, 5426),
  'multi_news': (11, 1568),
  'trec': (8, 6066),
  'triviaqa': (12, 9397),
  'samsum': (15, 5877),
  'passage_count': (4, 10_625),
  'passage_retrieval_en': (15, 9244),
}


@pytest.mark.parametrize('task', TASKS)
def test_longbench_mini(task):
  questions, length = LONGBENCH[task]
  dataset = read_longbench(staged('longbench/mini'), task)
  assert counts(dataset) == {'validation': (questions, questions)}
  assert words(dataset) == pytest.approx(length, abs=1)


def test_longbench_multi_news_is_whole():
  dataset = read_longbench(staged('longbench/full'), 'multi_news')
  assert counts(dataset) == {'validation': (200, 200)}


def test_needle_essays():
  essays = list(read_texts(staged('needle')))
  assert len(essays) == 49
  assert sum(len(essay.text.split()) for essay in essays) == 111_913
