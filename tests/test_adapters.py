"""Finetuning in a call."""

import dataclasses

import jax
import numpy as np
import pytest
from test_experiment import small_config, write_model

import lloco_jax as lloco
from lloco_jax import adapters, experiment, inputs
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
