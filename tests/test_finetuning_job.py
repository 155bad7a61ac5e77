"""The finetuning job: what it begins with, and what it refuses early."""

import json

import jax
import numpy as np
from official_files import write_lines
import pytest
from test_experiment import small_config, write_model
import tiny

from lloco_jax import experiment, finetuning_job
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.weights import peft


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  return write_model(tmp_path_factory.mktemp('model') / 'tiny')


def config_of(model):
  config = small_config(model)
  config.adapters = ('lloco',)
  config.epochs = 1
  config.data.train_documents = config.data.questions_per_document = 1
  config.data.validation_documents = 1
  return config


def start(folder, model, rank=8):
  """An adapter of another run, whose B are far from zero."""
  network = LlamaConfig.from_file(model / 'config.json')
  adapter = tiny.adapter(
    seed=3,
    rank=rank,
    alpha=16.0,
    targets=('q_proj', 'k_proj', 'v_proj', 'o_proj'),
    config=network,
  )
  peft.save_adapter(folder, adapter, 'tiny')
  return network, adapter


def test_a_run_goes_on_from_an_adapter(model, tmp_path):
  network, adapter = start(tmp_path / 'start', model)
  config = config_of(model)
  config.start.lloco = str(tmp_path / 'start')
  # It stays where it begins.
  config.training.optimizer.learning_rate = 1e-12
  experiment.train(config, tmp_path / 'w')
  found = peft.load_adapter(tmp_path / 'w/adapters/lloco', network)
  for name in adapter.targets:
    for side in 'ab':
      np.testing.assert_allclose(
        found.weights['layers']['self_attn'][name][side],
        adapter.weights['layers']['self_attn'][name][side],
        atol=1e-6,
      )
  assert found.dropout == config.lora.dropout
  # It is evaluated, also where what it began from is gone.
  (tmp_path / 'start').rename(tmp_path / 'gone')
  config.evaluation.max_new_tokens = 2
  experiment.evaluate(config, tmp_path / 'w')
  (tmp_path / 'gone').rename(tmp_path / 'start')
  # Of another adapter in its place nothing would be seen in the workdir.
  peft.save_adapter(
    tmp_path / 'start', jax.tree.map(np.negative, adapter), 'tiny'
  )
  with pytest.raises(ValueError, match='start_lloco was'):
    experiment.train(config, tmp_path / 'w')


def test_a_run_goes_on_from_an_rslora_adapter(model, tmp_path):
  """Its alpha is a root: the message's digits are enough."""
  start(tmp_path / 'start', model)
  path = tmp_path / 'start/adapter_config.json'
  fields = json.loads(path.read_text()) | {'use_rslora': True}
  path.write_text(json.dumps(fields))
  config = config_of(model)
  config.start.lloco = str(tmp_path / 'start')
  with pytest.raises(ValueError, match='rank 8, alpha 45.2548 and'):
    experiment.train(config, tmp_path / 'w')
  config.lora.alpha = 45.2548
  experiment.train(config, tmp_path / 'w')
  saved = json.loads(
    (tmp_path / 'w/adapters/lloco/adapter_config.json').read_text()
  )
  assert saved['lora_alpha'] == 16 * 8**0.5


@pytest.mark.parametrize(
  'refused, mended, said',
  [
    ({'segment_length': 4}, {'segment_length': 64}, 'compress further'),
    ({'block_characters': -1}, {'block_characters': 0}, 'block_char.* is -1'),
    ({'store': 'taken'}, {'store': ''}, 'taken'),
  ],
)
def test_what_was_refused_can_be_mended_in_the_same_workdir(
  tmp_path, refused, mended, said
):
  (tmp_path / 'taken').write_text('a file')
  config = config_of(write_model(tmp_path / 'narrow', window=256))
  if 'store' in refused:
    refused = {'store': str(tmp_path / 'taken')}
  config.compression.update(refused)
  with pytest.raises((ValueError, OSError), match=said):
    experiment.train(config, tmp_path / 'w')
  config.compression.update(mended)
  config.epochs = 1
  experiment.train(config, tmp_path / 'w')


def test_a_refused_evaluation_can_be_mended_in_the_same_workdir(tmp_path):
  model = write_model(tmp_path / 'tiny', window=256)
  start(tmp_path / 'adapter', model)
  config = config_of(model)
  config.evaluation.max_new_tokens = 2
  config.evaluation.adapters.lloco = str(tmp_path / 'adapter')
  for length, said in ((4, 'compress'), (0, 'segment_length is 0')):
    config.compression.segment_length = length
    with pytest.raises(ValueError, match=said):
      experiment.evaluate(config, tmp_path / 'w')
  config.compression.segment_length = 64
  experiment.evaluate(config, tmp_path / 'w')


def test_a_training_that_is_all_warm_up_is_told(model, tmp_path, capsys):
  config = config_of(model)
  config.epochs, config.batch.rows = 1, 64
  experiment.train(config, tmp_path / 'w')
  assert 'rises in all of 1 steps' in capsys.readouterr().out
  config.training.optimizer.warmup_steps = 0
  experiment.train(config, tmp_path / 'other')
  assert 'rises in all' not in capsys.readouterr().out


def test_an_adapter_of_another_size_is_refused_before_compression(
  model, tmp_path
):
  start(tmp_path / 'start', model, rank=4)
  config = config_of(model)
  config.start.lloco = str(tmp_path / 'start')
  with pytest.raises(
    ValueError, match=r"'lloco' starts from has rank 4, alpha"
  ):
    experiment.train(config, tmp_path / 'w')
  # An adapter that is nowhere is told before weights, which are as well.
  config.start.lloco = str(tmp_path / 'gone')
  config.model.name = str(tmp_path / 'no weights')
  with pytest.raises(FileNotFoundError, match='no adapter .*gone'):
    experiment.train(config, tmp_path / 'w')
  config.evaluation.adapters.lloco = str(tmp_path / 'gone')
  with pytest.raises(FileNotFoundError, match='no adapter .*gone'):
    experiment.evaluate(config, tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize('stage', [experiment.train, experiment.evaluate])
def test_what_is_wrong_with_the_data_is_told_first(
  model, tmp_path, stage, capsys
):
  config = config_of(model)
  config.data.source, config.data.path = 'quality', str(tmp_path / 'gone')
  with pytest.raises(FileNotFoundError, match="no folder '.*gone'"):
    stage(config, tmp_path / 'w')
  assert not capsys.readouterr().out


def test_a_split_that_is_missing_is_told(model, tmp_path, monkeypatch, capsys):
  """Of training it cannot do without, of evaluation before it is missed."""
  write_lines(tmp_path / 'documents.jsonl', [{'id': 'a', 'text': 'An owl.'}])
  example = {'id': '1', 'question': 'Who?', 'answer': 'An owl.'}
  example['document_id'] = 'a'
  write_lines(tmp_path / 'train.jsonl', [example])
  config = config_of(model)
  config.data.source, config.data.path = 'jsonl', str(tmp_path)
  monkeypatch.setattr(finetuning_job, 'train_adapters', lambda *args: None)
  experiment.train(config, tmp_path / 'w')
  assert "no examples of the split 'validation'" in capsys.readouterr().out
  (tmp_path / 'train.jsonl').rename(tmp_path / 'validation.jsonl')
  with pytest.raises(ValueError, match=r'only of validation; .* eval\.py'):
    experiment.train(config, tmp_path / 'w')
