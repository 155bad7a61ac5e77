"""Training of a compressor on texts, and what its vectors keep of others."""

import importlib
import json
import pathlib

import jax
import numpy as np
from official_files import write_fairytaleqa
import pytest
from test_experiment import changed, small_config, write_model

from configs import common
from lloco_jax import experiment
from lloco_jax.compressor_data import mixture
from lloco_jax.evaluation import probe_report
from lloco_jax.finetuning.checkpoints import flat_config
from lloco_jax.weights.checkpoint import load, load_tokenizer


def flat(config):
  return flat_config(config.to_dict(), ignored=())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_model(
    tmp_path_factory.mktemp('model') / 'base', summary_length=0
  )


@pytest.fixture
def texts(tmp_path, monkeypatch):
  """A file of texts to train on, and a folder of others."""
  monkeypatch.setenv('LLOCO_CACHE', str(tmp_path / 'cache'))
  random = np.random.default_rng(0)

  def text():
    return ' '.join(random.choice(['red', 'green', 'blue'], 40))

  lines = [
    {'id': f'{kind}/{number}', 'text': text()}
    for kind in ('mine', 'theirs')
    for number in range(2)
  ]
  train = tmp_path / 'train.jsonl'
  train.write_text('\n'.join(map(json.dumps, lines)))
  held_out = tmp_path / 'held_out'
  held_out.mkdir()
  for name in ('a', 'b'):
    (held_out / f'{name}.txt').write_text(text())
  return train, held_out


@pytest.fixture
def config(folder, texts):
  config = common.compressor('texts')
  config.model.name = str(folder)
  config.data.source = 'texts'
  config.data.path, config.evaluation.path = map(str, texts)
  config.data.leave_out = ('theirs/',)
  config.data.segment_length, config.data.shortest = 12, 8
  config.summary.length = 2
  config.summary.language = 1.0
  config.batch.rows, config.steps = 2, 2
  config.lora.rank = 2
  config.training.tensorboard = False
  config.evaluation.target = 10
  config.evaluation.segments = (0, 2)
  config.evaluation.bootstrap_samples = 20
  return config


def test_texts_are_learnt_and_what_is_kept_is_reported(
  config, tmp_path, capsys
):
  workdir = tmp_path / 'w'
  experiment.train(config, workdir)
  said = capsys.readouterr().out
  assert '2 documents' in said
  fields = json.loads((workdir / 'compressor/compressor.json').read_text())
  assert fields['tokens_trained'] == 2 * 2 * 20
  experiment.evaluate(config, workdir)
  said = capsys.readouterr().out
  assert '4 probes of 2 documents' in said and "another document's, " in said
  found = json.loads(
    (workdir / 'evaluation' / probe_report.RESULTS_FILE).read_text()
  )
  nothing, read = (row['losses'] for row in found['rows'])
  assert len({loss['mean'] for loss in nothing.values()}) == 1
  assert len({loss['mean'] for loss in read.values()}) == 5
  assert read['nothing'] == nothing['nothing']
  assert found['rows'][1]['own_gain']['clusters'] == 2
  config.evaluation.reader = 'compressor'
  config.evaluation.segment_lengths = (8, 12)
  experiment.evaluate(config, workdir)
  again = json.loads(
    (workdir / 'evaluation' / probe_report.RESULTS_FILE).read_text()
  )
  assert again['rows'][0]['losses'] != found['rows'][0]['losses']
  assert [row['tokens'] for row in again['rows']] == [0, 16, 0, 24]


def test_batches_of_one_length_each_take_turns(config, tmp_path, capsys):
  config.data.segment_lengths = (4, 12)
  batches, *_ = mixture(config, ['texts'], load_tokenizer(config.model.name))
  for step in range(6):
    length, rows = ((4, 6), (12, 2))[step % 2]
    batch = batches[step]
    assert batch['segments'].shape == (rows, 2, length)
    # Ends of documents alone are padded.
    assert (batch['lengths'].sum(axis=1) == 2 * length).mean() >= 0.5
  capsys.readouterr()
  experiment.train(config, tmp_path / 'w')
  assert 'Of rows of 24 tokens' in capsys.readouterr().out
  fields = json.loads((tmp_path / 'w/compressor/compressor.json').read_text())
  assert fields['tokens_trained'] == 2 * 2 * 24
  lines = (tmp_path / 'w/training/metrics.jsonl').read_text().splitlines()
  assert [json.loads(line)['positions'] for line in lines] == [48, 48]


def test_questions_of_a_data_set_take_turns_with_made_ones(
  config, tmp_path, capsys
):
  write_fairytaleqa(tmp_path / 'stories')
  config.data.source = 'passages,questions'
  config.data.dataset.source = 'fairytaleqa'
  config.data.dataset.part = 'sections'
  config.data.dataset.path = str(tmp_path / 'stories')
  config.data.segment_length, config.data.segments = 64, 4
  config.data.width, config.data.targets = 96, 32
  config.data.facts_per_hundred_words = (6.0, 6.0)
  config.summary.language, config.steps = 0.0, 4
  config.training.log_every = 1
  experiment.train(config, tmp_path / 'w')
  assert '1 of 2 questions, about 1 documents' in capsys.readouterr().out
  fields = json.loads((tmp_path / 'w/compressor/compressor.json').read_text())
  # A whole row and the short section, of two rows each.
  short = fields['tokens_trained'] / (4 * 2) * 2 - 4 * 64
  assert 4 < short < 40
  lines = (tmp_path / 'w/training/metrics.jsonl').read_text().splitlines()
  seen = [json.loads(line)['tokens'] for line in lines]
  assert len(seen) == 4 and seen[1] == seen[3] != seen[0]


def test_all_parameters_may_be_trained(config, tmp_path, capsys):
  config.all_parameters = True
  config.training.optimizer.learning_rate = 1e-2
  config.training.optimizer.warmup_ratio = 0.0
  workdir = tmp_path / 'w'
  experiment.train(config, workdir)
  base, trained = load(config.model.name), load(str(workdir / 'compressor'))
  assert trained.config.summary_length == config.summary.length
  for name in ('layers', 'embed_tokens', 'norm'):
    for old, new in zip(
      jax.tree.leaves(base.params[name]), jax.tree.leaves(trained.params[name])
    ):
      assert old.shape == new.shape and np.all(np.any(old != new))
  text = 'the mill is red'
  assert trained.tokenizer.encode(text) == base.tokenizer.encode(text)
  assert trained.tokenizer.eos_id == base.tokenizer.eos_id
  assert trained.segment_length == config.data.segment_length
  # It goes on from its last checkpoint, which is the end.
  experiment.train(config, workdir)
  experiment.evaluate(config, workdir)
  assert 'Report: ' in capsys.readouterr().out
  config.start = 'somewhere'
  with pytest.raises(ValueError, match='leave config.start'):
    experiment.train(config, tmp_path / 'other')


def test_a_run_keeps_to_its_texts(config, texts, tmp_path):
  config.batch.rows = 1
  workdir = tmp_path / 'w'
  experiment.train(config, workdir)
  train, _ = texts
  train.write_text(train.read_text().replace('red', 'blue'))
  with pytest.raises(ValueError, match='another config .fingerprints.texts'):
    experiment.train(config, workdir)


def test_an_autocompressor_is_evaluated_as_it_is(config, tmp_path, capsys):
  base = write_model(tmp_path / 'autocompressor', window=128)
  config.model.name = str(base)
  config.evaluation.reader = 'compressor'
  # With their target they exceed the window: vectors alone are read.
  config.evaluation.segments = (1, 12)
  config.evaluation.segment_lengths = (10,)
  config.evaluation.probes_per_document = 1
  with pytest.raises(ValueError, match='is an AutoCompressor, whose summary'):
    experiment.train(config, tmp_path / 'w')
  for file in pathlib.Path(config.evaluation.path).iterdir():
    file.write_text(' '.join([file.stem, 'green', 'blue', 'red'] * 40))
  experiment.evaluate(config, tmp_path / 'w')
  found = json.loads(
    (tmp_path / 'w/evaluation' / probe_report.RESULTS_FILE).read_text()
  )
  assert found['facts']['compressor'] == str(base)
  short, long = found['rows']
  assert short['losses']['text']['mean'] > 0
  assert long['losses']['text']['mean'] is None
  assert long['losses']['summaries']['mean'] > 0
  assert 'are read as vectors alone' in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize('stage', ['texts', 'llama2_7b'])
def test_configs_of_compressors_run_end_to_end(config, tmp_path, stage, capsys):
  """But for their sizes, on a tiny base: training, evaluation, and an adapter
  on top of what was trained."""
  if stage == 'texts':
    chosen = importlib.import_module('configs.compressor_smollm2')
    chosen = chosen.get_config(stage)
  else:
    chosen = importlib.import_module('configs.compressor_llama2_7b')
    chosen = chosen.get_config()
  assert flat(chosen).keys() == flat(common.compressor('any')).keys()
  # In bfloat16, as they are.
  chosen.model.name = config.model.name
  chosen.start = ''
  chosen.data.path = config.data.path
  chosen.data.segments, chosen.data.segment_length = 2, 12
  chosen.data.shortest = min(chosen.data.shortest, 8)
  chosen.summary.length = 2
  chosen.steps = 2
  chosen.batch.rows = min(chosen.batch.rows, 2)
  chosen.training.accumulation = min(chosen.training.accumulation, 2)
  chosen.training.tensorboard = False
  experiment.train(chosen, tmp_path / 'w')
  assert (tmp_path / 'w/compressor/compressor.json').is_file()
  lines = (tmp_path / 'w/training/metrics.jsonl').read_text().splitlines()
  losses = [json.loads(line)['loss'] for line in lines]
  # A divergence from the base, or the loss of about 300 tokens alike.
  low, high = (0, 3) if stage == 'texts' else (3, 30)
  assert len(losses) == 2 and all(low < loss < high for loss in losses)
  chosen.evaluation.path = config.evaluation.path
  chosen.evaluation.segment_lengths = (8, 12)
  chosen.evaluation.segments, chosen.evaluation.target = (0, 2), 10
  experiment.evaluate(chosen, tmp_path / 'w')
  assert (tmp_path / 'w/evaluation' / probe_report.SHARES_FILE).is_file()
  capsys.readouterr()
  finetuning = small_config(config.model.name)
  finetuning.model.dtype = 'bfloat16'
  finetuning.model.compressor = str(tmp_path / 'w/compressor')
  experiment.train(finetuning, tmp_path / 'lloco')
  assert 'trained on segments of up to 12 tokens; this run compresses 32' in (
    capsys.readouterr().out
  )
  outcome = experiment.evaluate(finetuning, tmp_path / 'lloco')
  assert len(outcome.systems) == 9


@pytest.mark.parametrize(
  'fields, sentence',
  [
    ({'data__source': 'books'}, "'books'; .* passages, questions, texts"),
    ({'data__source': 'texts,'}, "'texts,'; .* or several with commas"),
    (
      {'data__source': 'questions', 'data__questions': 0},
      'config.data.questions is 0; say how many',
    ),
    ({'data__source': 'questions'}, 'config.data.path is empty'),
    ({'data__path': ''}, 'config.data.path is empty'),
    ({'data__leave_out': ('mine', 'theirs')}, 'leave_out names all'),
    ({'data__shortest': 13}, 'shortest is 13'),
    ({'data__segment_lengths': (4, 13)}, 'lengths has 13; each must be from 1'),
    ({'data__segment_lengths': (0,)}, 'lengths has 0; each must be from 1'),
    ({'data__leave_out': ('theirs/', 'his')}, "names 'his', but no document"),
    ({'summary__language': 0.0}, 'nothing to learn from texts'),
    (
      {'summary__language': 0.0, 'data__source': 'passages,texts'},
      'nothing to learn from texts',
    ),
    ({'summary__length': 0}, 'summary.length is 0; it must be >= 1'),
    ({'summary__naming': -1.0}, 'summary.naming is -1.0; it must be >= 0'),
    ({'data__segment_length': 2045}, 'of 2045 .* 2049 positions, more than'),
    (
      {
        'summary__distillation': 1.0,
        'data__segment_length': 1200,
        'data__segments': 2,
        'data__shortest': 900,
      },
      'take 2100 positions, more than the base',
    ),
    (
      {
        'data__source': 'passages,texts',
        'data__questions': 1,
        'data__passages_per_context': 500,
      },
      'of 500 passages has 2000 vectors, and with .* base',
    ),
    ({'batch__rows': 500}, 'fewer than the 500 of a batch'),
    ({'evaluation__reader': 'me'}, "reader is 'me'; .* base, compressor"),
    ({'evaluation__segments': ()}, r'segments is \(\)'),
    ({'evaluation__target': 1}, 'target is 1; it must be >= 2'),
    ({'evaluation__segment_lengths': (0,)}, 'each must be >= 1'),
  ],
)
def test_bad_training_is_refused(config, tmp_path, fields, sentence):
  with pytest.raises(ValueError, match=sentence):
    experiment.train(changed(config, **fields), tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


def test_what_cannot_be_made_leaves_the_workdir_free(config, tmp_path):
  fields = {'data__source': 'passages', 'data__width': 16}
  with pytest.raises(ValueError, match='No passage of'):
    experiment.train(changed(config, **fields), tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize(
  'fields, error, sentence',
  [
    ({'evaluation__path': ''}, ValueError, 'evaluation.path is empty'),
    ({}, FileNotFoundError, 'w/compressor is missing; run train.py with'),
    ({'evaluation__target': 2040}, ValueError, 'a target of 2040 exceed'),
    ({'evaluation__compressor': 'shipped'}, ValueError, 'No compressor is sh'),
  ],
)
def test_bad_evaluation_is_refused(config, tmp_path, fields, error, sentence):
  with pytest.raises(error, match=sentence):
    experiment.evaluate(changed(config, **fields), tmp_path / 'w')
