"""One adapter for several data sets: what it learns from, and its reports."""

import dataclasses
import json

import pytest
from test_experiment import small_config, write_model

from configs import common
from lloco_jax import combined_job, experiment
from lloco_jax.data.prompts import PROMPTS
from lloco_jax.weights import peft

SETS = {'first': ('plain', 1, 2), 'second': ('qasper', 2, 3)}


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  return write_model(tmp_path_factory.mktemp('model') / 'tiny')


def combined(model):
  """Two sets of reports, which differ in seed, size and prompt."""
  parts = {}
  for name, (prompt, seed, documents) in SETS.items():
    parts[name] = small_config(model)
    parts[name].adapters = ('lloco',)
    parts[name].epochs = 1
    parts[name].data.seed = seed
    parts[name].data.train_documents = documents
    parts[name].data.validation_documents = 2
    parts[name].prompt = common.prompt(prompt)
  config = common.combined('combined', 'tiny', parts)
  config.lock()
  return config


def test_every_set_is_asked_in_its_own_words(model, tmp_path, monkeypatch):
  called = []
  monkeypatch.setattr(
    combined_job, 'train_adapters', lambda *args: called.append(args)
  )
  experiment.train(combined(model), tmp_path)
  ((_, workdir, dataset, taught, later),) = called
  assert workdir == tmp_path
  for asked in (taught, later):
    assert [prompt for prompt, *_ in asked] == [
      PROMPTS[prompt] for prompt, _, _ in SETS.values()
    ]
  assert [len(examples) for _, examples in taught] == [2 * 3, 3 * 3]
  assert [len(examples) for _, examples, _ in later] == [2 * 3, 2 * 3]
  alone = combined_job.load_data(
    combined_job.experiment_of(combined(model), 'second')
  )
  assert [
    dataclasses.replace(
      each,
      id=each.id.removeprefix('second/'),
      document_ids=tuple(
        id.removeprefix('second/') for id in each.document_ids
      ),
    )
    for each in taught[1][1]
  ] == list(alone.splits['train'])
  for document in alone.documents.values():
    assert dataset.documents[f'second/{document.id}'].text == document.text
  assert {each.group for each in dataset.documents.values()} == {'combined'}


def test_every_set_is_evaluated_with_the_one_adapter(
  model, tmp_path, monkeypatch
):
  config, called = combined(model), []
  with pytest.raises(FileNotFoundError, match="'lloco' is missing .* train.py"):
    experiment.evaluate(config, tmp_path)
  adapter = tmp_path / 'adapters/lloco'
  adapter.mkdir(parents=True)
  (adapter / peft.CONFIG).write_text('{}')
  monkeypatch.setattr(
    combined_job, 'evaluate', lambda *args: called.append(args)
  )
  assert list(experiment.evaluate(config, tmp_path)) == list(SETS)
  for (part, workdir), name in zip(called, SETS, strict=True):
    assert workdir == tmp_path / 'evaluations' / name
    assert part.evaluation.adapters.lloco == str(adapter)
    assert part.compression.store == str(tmp_path / 'store')
    for mine, theirs in (
      (part.data, config.sets[name].data),
      (part.prompt, config.sets[name].prompt),
      (part.lora, config.lora),
      (part.model, config.model),
    ):
      assert mine.to_dict() == theirs.to_dict()


def test_adapters_of_another_config_are_not_evaluated(
  model, tmp_path, monkeypatch
):
  config, called = combined(model), []
  monkeypatch.setattr(
    combined_job, 'evaluate', lambda *args: called.append(args[0])
  )
  adapter = tmp_path / 'adapters/lloco'
  adapter.mkdir(parents=True)
  (adapter / peft.CONFIG).write_text('{}')
  trained = {**config.to_dict(), 'fingerprints': {'model': 'x'}}
  (tmp_path / 'config.json').write_text(json.dumps(trained))
  with config.unlocked():
    config.sets.first.data.validation_documents = 1
    config.sets.first.evaluation.adapters.lloco = 'elsewhere'
    config.sets.first.evaluation.bootstrap_samples = 7
  experiment.evaluate(config, tmp_path)
  assert called[0].evaluation.adapters.lloco == 'elsewhere'
  assert called[1].evaluation.adapters.lloco == str(adapter)
  part = config.copy_and_resolve_references()
  with part.unlocked():
    del part.sets['first']
  experiment.evaluate(part, tmp_path)
  with config.unlocked():
    config.epochs += 1
    config.sets.first.data.seed += 1
  with pytest.raises(
    ValueError, match=r'\(epochs was 1, now 2, sets.first.data.seed was 1, now'
  ):
    experiment.evaluate(config, tmp_path)
  with config.unlocked():
    config.sets.third = config.sets.second
  with pytest.raises(ValueError, match='on first, second, and not on third; l'):
    experiment.evaluate(config, tmp_path)
  assert len(called) == 3


@pytest.mark.parametrize('stage', [experiment.train, experiment.evaluate])
def test_a_set_without_a_place_is_told_before_any_is_read(
  model, tmp_path, stage, capsys
):
  config = combined(model)
  with config.unlocked():
    config.sets.second.data.source = 'quality'
    config.sets.second.data.path = ''
  with pytest.raises(
    ValueError, match='config.sets.second.data.path is empty; name the folder'
  ):
    stage(config, tmp_path / 'w')
  assert not capsys.readouterr().out
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize('stage', [experiment.train, experiment.evaluate])
def test_how_a_set_is_evaluated_is_checked_first(model, tmp_path, stage):
  config = combined(model)
  with config.unlocked():
    config.sets.second.evaluation.metric = 'nope'
  with pytest.raises(
    ValueError, match="config.sets.second.evaluation.metric is 'nope'"
  ):
    stage(config, tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


@pytest.mark.slow
def test_it_is_trained_once_and_evaluated_on_each(model, tmp_path, capsys):
  config = combined(model)
  experiment.train(config, tmp_path)
  assert (tmp_path / 'adapters/lloco' / peft.CONFIG).is_file()
  capsys.readouterr()
  found = experiment.evaluate(config, tmp_path)
  assert list(found) == list(SETS)
  said = capsys.readouterr().out
  assert said.count('documents are in the store already') == 2
  for name in SETS:
    report = tmp_path / 'evaluations' / name / 'evaluation/report.md'
    assert f'Evaluation of combined_tiny on {name}' in report.read_text()
    main = {system.name: system for system in found[name].systems}['LLoCO']
    assert len(main.answers) == 2 * 3
  questions = [
    {answer.question for answer in outcome.systems[0].answers}
    for outcome in found.values()
  ]
  assert questions[0] != questions[1]
