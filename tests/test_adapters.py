"""Finetuning in a call."""

import dataclasses

import jax
import numpy as np
import pytest
from test_experiment import small_config, write_model

import lloco_jax as lloco
from lloco_jax import experiment, inputs
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
