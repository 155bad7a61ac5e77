"""Finetuning in a call."""

import collections
import dataclasses

import jax
import numpy as np
import pytest
from test_experiment import small_config, write_model
import tiny
from tiny_model import tiny_model

import lloco_jax as lloco
from lloco_jax import adapters, experiment, inputs
from lloco_jax.data.examples import Example
from lloco_jax.data.prompts import Prompt
from lloco_jax.nn.lora import LoraConfig


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_model(tmp_path_factory.mktemp('model') / 'tiny')


@pytest.mark.slow
def test_the_adapter_is_that_of_train_py(folder, tmp_path):
  config = small_config(folder)
  config.adapters = ('lloco',)
  config.training.optimizer.warmup_ratio = 0.04
  experiment.train(config, tmp_path / 'run')
  model = lloco.load(folder)
  dataset = inputs.load_dataset(config.data)
  summaries = {
    each.id: lloco.compress(model, model.tokenizer.encode(each.text), 32)
    for each in dataset.documents_of('train')
  }
  adapter = lloco.finetune(
    model,
    dataset.splits['train'],
    summaries,
    Prompt(**config.prompt),
    LoraConfig(**config.lora.to_dict()),
    config.epochs,
    config.batch.questions_per_row,
    config.training.optimizer.learning_rate,
    config.training.seed,
    tmp_path / 'again',
  )
  expected = lloco.load_adapter(tmp_path / 'run/adapters/lloco', model)
  assert dataclasses.replace(adapter, weights=expected.weights) == expected
  found, wanted = map(jax.tree.leaves, (adapter, expected))
  for one, other in zip(found, wanted, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
  assert (tmp_path / 'again/metrics.jsonl').is_file()


def test_questions_without_summaries_are_refused(folder):
  model = lloco.load(folder)
  dataset = inputs.load_dataset(small_config(folder).data)
  with pytest.raises(ValueError, match='document'):
    lloco.finetune(model, dataset.splits['train'], {})


class Reads(collections.UserDict):
  """Notes which of its values are read."""

  def __init__(self, values):
    super().__init__(values)
    self.read = []

  def __getitem__(self, key):
    self.read.append(key)
    return super().__getitem__(key)


def test_a_workdir_belongs_to_one_call(tmp_path):
  """The same call goes on from it; any other is refused."""
  model = tiny_model()
  one = {
    'examples': [Example('q', 'who?', ('ab',), ('d',))],
    'summaries': {'d': tiny.normal(1, 4, model.config.hidden_size)},
    'lora': LoraConfig(2, 4.0, 0.0),
    'workdir': tmp_path,
  }
  # A generator counts as a list does.
  first = lloco.finetune(model, **one | {'examples': iter(one['examples'])})
  # Summaries that nothing asks about are not part of it, nor read.
  more = Reads(one['summaries'] | {'e': np.zeros((4, 3))})
  again = lloco.finetune(model, **{**one, 'summaries': more})
  assert more.read == ['d']
  jax.tree.map(np.testing.assert_array_equal, first.weights, again.weights)
  others = (
    {'examples': [Example('q', 'who?', ('xy',), ('d',))]},
    {'summaries': {'d': tiny.normal(3, 4, model.config.hidden_size)}},
    {'lora': LoraConfig(2, 64.0, 0.0)},
    {'epochs': 4},
    {'prompt': Prompt(question='{question} Well:')},
  )
  for other in others:
    with pytest.raises(ValueError, match='another config .* another workdir'):
      lloco.finetune(model, **{**one, **other})


@pytest.mark.parametrize(
  'fields, said',
  [
    ({'epochs': 0}, 'epochs is 0'),
    ({'epochs': 1.5}, 'epochs is 1.5'),
    ({'questions_per_row': 0}, 'questions_per_row is 0'),
    ({'summaries': {'d': np.zeros((4, 15))}}, r"'d' are \[4, 15\]; .* \[n, 16"),
    ({'summaries': {'d': np.zeros((1, 4, 16))}}, r'are \[1, 4, 16\]'),
  ],
)
def test_bad_arguments_are_refused(fields, said):
  one = {
    'examples': [Example('q', 'who?', ('ab',), ('d',))],
    'summaries': {'d': np.zeros((4, 16), np.float32)},
  }
  with pytest.raises(ValueError, match=said):
    lloco.finetune(tiny_model(), **{**one, **fields})


def test_what_the_backward_pass_keeps_can_be_chosen(folder, monkeypatch):
  """'full' keeps a layer's input alone."""
  model = lloco.load(folder)
  examples = inputs.load_dataset(small_config(folder).data).splits['train'][:1]
  summaries = {
    key: np.zeros((4, model.config.hidden_size), np.float32)
    for key in examples[0].document_ids
  }
  monkeypatch.setattr(adapters, 'train', lambda task, *rest: task)

  def kept(remat):
    task = lloco.finetune(model, examples, summaries, remat=remat)
    batch = next(iter(task.batches))
    traced = jax.make_jaxpr(jax.grad(lambda x: task.loss(x, *fixed)[0]))
    fixed = task.frozen, batch, jax.random.key(0)
    return str(traced(task.trainable))

  assert 'nothing_saveable' in kept('full')
  assert 'nothing_saveable' not in kept('projections')
  with pytest.raises(ValueError, match="remat is 'most'; it must be one of no"):
    kept('most')
