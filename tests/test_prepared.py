"""What tensorflow_datasets prepares, against the same files read as they are.

It is prepared and read in a program of its own, beside a TensorFlow that says
when it is imported.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import types
import zipfile

from file_server import serving
from official_files import (
  article,
  hotpot_row,
  scrolls_row,
  write_fairytaleqa,
  write_hotpotqa,
  write_json,
  write_lines,
  write_longbench,
  write_quality,
  write_scrolls,
  write_squad,
)
import pytest

from configs import common
from lloco_jax.data import hotpotqa, scrolls, squad
from lloco_jax.data.prepared import Prepared
from lloco_jax.inputs import load_dataset

SOURCES = {
  'scrolls': 'qasper',
  'fairytaleqa': 'sections',
  'hotpotqa': 'fullwiki',
  'longbench': 'qasper',
  'quality': '',
  'squad': 'v2.0',
}
# Whose official files would be fetched where nothing is prepared.
FETCHED = (hotpotqa, scrolls, squad)
WARNING = 'TENSORFLOW WAS IMPORTED'


def config_of(source, path=''):
  config = common.finetuning('test').data
  config.source, config.part = source, SOURCES[source]
  config.path = str(path)
  return config


def told(dataset):
  """All of a dataset, as JSON keeps it."""
  documents = {name: each.text for name, each in dataset.documents.items()}
  splits = {
    split: sorted(
      [each.id, each.question, each.answers, each.document_ids, each.tags]
      for each in examples
    )
    for split, examples in dataset.splits.items()
  }
  return json.loads(json.dumps([dict(sorted(documents.items())), splits]))


def prepare(site):
  """Prepares all data sets from a server, and prints what is read of them."""
  from lloco_jax.data.builders import (
    fairytaleqa_dataset_builder,
    hotpotqa_dataset_builder,
    longbench_dataset_builder,
    quality_htmlstripped_dataset_builder,
    scrolls_dataset_builder,
    squad_by_article_dataset_builder,
  )

  for module in FETCHED:
    module.DOWNLOADS.clear()
  for source in SOURCES:
    try:
      load_dataset(config_of(source))
    except (ValueError, OSError) as error:
      print(f'Missing: {error}')
  for config in scrolls_dataset_builder.Builder.BUILDER_CONFIGS:
    config.data_url = f'{site}qasper.zip'
  fairytaleqa_dataset_builder._URL = f'{site}fairytaleqa.zip'
  hotpotqa_dataset_builder._URL = site
  longbench_dataset_builder._URL = f'{site}longbench.zip'
  quality_htmlstripped_dataset_builder.URL = site
  squad_by_article_dataset_builder._URL = site
  for builder in (
    scrolls_dataset_builder.Builder(
      config='qasper', file_format='array_record'
    ),
    fairytaleqa_dataset_builder.Builder(file_format='array_record'),
    hotpotqa_dataset_builder.Builder(
      config='fullwiki', file_format='array_record'
    ),
    longbench_dataset_builder.Builder(
      config='qasper', file_format='array_record'
    ),
    quality_htmlstripped_dataset_builder.Builder(file_format='array_record'),
    squad_by_article_dataset_builder.Builder(
      config='v2.0', file_format='array_record'
    ),
  ):
    builder.download_and_prepare()
  found = {source: told(load_dataset(config_of(source))) for source in SOURCES}

  import tensorflow_datasets as tfds
  from tensorflow_datasets.text.scrolls.scrolls import Scrolls

  rows = tfds.data_source('hotpotqa/fullwiki', split='train')
  found['rows'] = [row['_id'].decode() for row in rows]
  theirs = Scrolls(config='qasper').as_data_source(split='train')
  found['scrolls rows'] = len(theirs)
  found['modules'] = sorted(sys.modules)
  print(json.dumps(found))


def pack(path, folder):
  with zipfile.ZipFile(path, 'w') as archive:
    for file in sorted(folder.rglob('*')):
      archive.write(file, file.relative_to(folder))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder a data set, and a site with what is downloaded."""
  folder = tmp_path_factory.mktemp('prepared')
  site = folder / 'site'
  site.mkdir()
  write_scrolls(folder / 'scrolls')
  # The official test files have no outputs.
  test = scrolls_row('q9', 0, 'What?', 'A paper.', None)
  write_lines(folder / 'scrolls/qasper/test.jsonl', [test])
  pack(site / 'qasper.zip', folder / 'scrolls')
  write_fairytaleqa(folder / 'fairytaleqa/FairytaleQAData-1')
  pack(site / 'fairytaleqa.zip', folder / 'fairytaleqa')
  write_longbench(folder / 'longbench', 'qasper')
  pack(site / 'longbench.zip', folder / 'longbench')
  write_hotpotqa(site)
  rows = [hotpot_row(f'r{n}', f'Fox {n}', 'Mill') for n in range(12)]
  write_json(site / 'hotpot_train_v1.1.json', rows)
  write_quality(site)
  write_squad(site, 'v2.0')
  odd = {'answers': [{'text': 'red'}, {'text': 'Red'}]}
  none = {'answers': [], 'is_impossible': True}
  articles = [
    article('Owl', 'One.', 'Two.', **odd),
    article('Mill', 'Three.', **none),
  ]
  # A paragraph that nobody asked about.
  articles[0]['paragraphs'].insert(1, {'context': 'Alone.', 'qas': []})
  write_json(site / 'train-v2.0.json', {'data': articles})
  return folder


@pytest.fixture(scope='module')
def said(folder):
  """What the program of its own prints."""
  if importlib.util.find_spec('tensorflow_datasets') is None:
    pytest.skip('tensorflow_datasets, of the extra tfds, is not installed')
  stub = folder / 'stub/tensorflow/__init__.py'
  stub.parent.mkdir(parents=True)
  stub.write_text(
    f'import sys\nprint({WARNING!r}, file=sys.stderr)\nraise ImportError\n'
  )
  paths = [str(stub.parents[1]), *filter(None, sys.path)]
  with serving(folder / 'site') as site:
    done = subprocess.run(
      [sys.executable, __file__, site],
      capture_output=True,
      text=True,
      env={
        **os.environ,
        'PYTHONPATH': os.pathsep.join(paths),
        'TFDS_DATA_DIR': str(folder / 'tfds'),
        'LLOCO_CACHE': str(folder / 'cache'),
        'no_proxy': '127.0.0.1',
      },
    )
  assert done.returncode == 0, done.stderr
  assert WARNING not in done.stderr
  return done.stdout.splitlines()


@pytest.mark.parametrize('source', SOURCES)
def test_rows_are_what_the_files_hold(folder, said, source):
  path = {
    **dict.fromkeys(('hotpotqa', 'quality', 'squad'), folder / 'site'),
    'fairytaleqa': folder / 'fairytaleqa/FairytaleQAData-1',
  }.get(source, folder / source)
  expected = told(load_dataset(config_of(source, path)))
  assert json.loads(said[-1])[source] == expected


def test_builders_keep_the_order_of_the_files(folder, said):
  (file,) = (folder / 'site').glob('hotpot_train*')
  expected = [row['_id'] for row in json.loads(file.read_text())]
  assert json.loads(said[-1])['rows'] == expected


def test_scrolls_is_prepared_for_the_builder_of_that_name(said):
  assert json.loads(said[-1])['scrolls rows'] == 3


def test_neither_tensorflow_nor_torch_is_imported(said):
  heavy = {'tensorflow', 'torch', 'transformers'}
  assert not heavy & set(json.loads(said[-1])['modules'])


def test_what_is_missing_is_told_with_the_command(said):
  missing = [line for line in said if line.startswith('Missing: ')]
  assert len(missing) == len(SOURCES)
  scrolls = missing[0]
  assert "(pip install 'lloco_jax[tfds]')" in scrolls
  assert 'https://scrolls-tau.s3.us-east-2.amazonaws.com/qasper.zip' in scrolls
  assert (
    'python -c "from lloco_jax.data.builders.scrolls_dataset_builder import '
    "Builder; Builder(config='qasper', file_format='array_record')"
    '.download_and_prepare()".'
  ) in scrolls


def test_a_format_that_needs_tensorflow_is_told(tmp_path, monkeypatch):
  (tmp_path / 'dataset_info.json').write_text('{}')
  info = types.SimpleNamespace(
    full_name='set/1.0.0', file_format=types.SimpleNamespace(value='tfrecord')
  )
  module = types.ModuleType('some_builder')
  module.Builder = lambda config: types.SimpleNamespace(
    data_path=tmp_path, info=info
  )
  monkeypatch.setitem(sys.modules, 'some_builder', module)
  message = f'as tfrecord, which .* remove {tmp_path}, .*download_and_prepare'
  with pytest.raises(ValueError, match=message):
    Prepared('some_builder').find(('train',))
  (tmp_path / 'dataset_info.json').unlink()
  assert Prepared('some_builder').find(('train',)) is None
  assert Prepared('no_such_builder').find(('train',)) is None


def test_rows_that_are_not_as_published_are_named(tmp_path):
  pytest.importorskip(
    'tensorflow_datasets', reason='tensorflow_datasets is of the extra tfds'
  )
  from lloco_jax.data.builders import (
    hotpotqa_dataset_builder,
    longbench_dataset_builder,
  )

  path = tmp_path / 'rows.json'
  good = hotpot_row('a', 'Fox', 'Mill')
  for module, content in (
    (longbench_dataset_builder, '{"_id": "x"}'),
    (hotpotqa_dataset_builder, json.dumps([{**good, 'context': [['Fox']]}])),
  ):
    path.write_text(content)
    with pytest.raises(ValueError, match=f'{path}, .* 1 is not as in the off'):
      list(module.Builder._generate_examples(None, path))
  path.write_text(json.dumps([good]))
  builder = hotpotqa_dataset_builder.Builder
  assert len(list(builder._generate_examples(None, path))) == 1


def test_checksums_are_those_of_the_downloads():
  path = pathlib.Path(hotpotqa.__file__).parent / 'builders/checksums.tsv'
  lines = [line.split('\t') for line in path.read_text().splitlines()]
  known = {url: (int(size), sha256) for url, size, sha256, _ in lines}
  assert known == {
    download.url: (download.size, download.sha256)
    for source in FETCHED
    for files in source.DOWNLOADS.values()
    for download in files.values()
  }


if __name__ == '__main__':
  prepare(sys.argv[1])
