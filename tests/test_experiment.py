"""A whole run on a tiny model: train.py's and eval.py's stages."""

import importlib
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
from official_files import longbench_row, write_lines
import pytest
import tokenizers

from lloco_jax import command_line, experiment, inputs
from lloco_jax.__main__ import main
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import init_params
from lloco_jax.weights import huggingface

EOS = 0


def write_model(folder, seed=0, summary_length=2, window=2048):
  """A random compressor with a byte-level tokenizer, in a folder."""
  backend = tokenizers.Tokenizer(tokenizers.models.BPE())
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  backend.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=300,
    special_tokens=['<eos>'],
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  backend.train_from_iterator(['the roof of the mill is made of'], trainer)
  config = LlamaConfig(
    vocab_size=300,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    max_position_embeddings=window,
    eos_token_ids=(EOS,),
    summary_length=summary_length,
  )
  folder.mkdir()
  params = init_params(config, jax.random.key(seed))
  huggingface.save_params(folder, params, config)
  backend.save(str(folder / 'tokenizer.json'))
  return folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_model(tmp_path_factory.mktemp('model') / 'tiny')


def small_config(folder):
  config = importlib.import_module('configs.demo').get_config()
  config.model.name = str(folder)
  config.model.compressor = ''
  config.data.train_documents = 2
  config.data.validation_documents = 3
  config.data.questions_per_document = 3
  config.data.words = (90, 120)
  config.compression.segment_length = 32
  config.compression.rows = 2
  config.epochs = 2
  config.training.tensorboard = False
  config.evaluation.max_new_tokens = 3
  config.evaluation.bootstrap_samples = 50
  return config


@pytest.fixture(scope='module')
def run(folder, tmp_path_factory):
  """The workdir of a run that was trained and evaluated."""
  workdir = tmp_path_factory.mktemp('run') / 'demo'
  config = small_config(folder)
  experiment.train(config, workdir)
  outcome = experiment.evaluate(config, workdir)
  return config, workdir, outcome


def test_run_leaves_adapters_results_and_report(run):
  _, workdir, outcome = run
  for name in ('lloco', 'no_context', 'truncated'):
    assert (workdir / 'adapters' / name / 'adapter_model.safetensors').is_file()
  assert len(outcome.systems) == 9
  assert all(len(system.answers) == 9 for system in outcome.systems)
  evaluation = workdir / 'evaluation'
  found = json.loads((evaluation / 'results.json').read_text())
  assert found
  assert 'LLoCO' in (evaluation / 'report.md').read_text()
  assert len((evaluation / 'predictions.jsonl').read_text().splitlines()) == 81


def test_second_run_does_nothing_again(run, capsys):
  config, workdir, _ = run
  before = {
    path: path.stat().st_mtime_ns
    for path in workdir.rglob('*.safetensors')
    if path.is_file()
  }
  experiment.train(config, workdir)
  said = capsys.readouterr().out
  assert said.count('is trained') == 3
  assert said.startswith(f'Config: {workdir / "config.json"}\n')
  after = {path: path.stat().st_mtime_ns for path in before}
  assert before == after


def test_needles_are_trained_evaluated_and_mapped(folder, tmp_path, capsys):
  config = small_config(folder)
  needle = importlib.import_module('configs.needle').get_config('smollm2,tiny')
  config.data = needle.data
  config.data.needle.lengths, config.data.needle.depths = (200, 400), (0, 100)
  config.data.needle.train_repeats = config.data.needle.validation_repeats = 1
  config.epochs, config.adapters = 1, ('lloco',)
  experiment.train(config, tmp_path)
  outcome = experiment.evaluate(config, tmp_path)
  answers = outcome.systems[0].answers
  assert {answer.tags for answer in answers} == {
    (f'length={length}', f'depth={depth}')
    for length in (200, 400)
    for depth in (0, 100)
  }
  said = (tmp_path / 'evaluation/report.md').read_text()
  assert '(score_by_length_and_depth.png)' in said
  assert '| 400 | 2 |' in said.split('## Score by length')[1]
  capsys.readouterr()
  main(['compare', str(tmp_path), str(tmp_path)])
  assert 'LLoCO, exact_match x100 on 4 questions' in capsys.readouterr().out


def test_finetuning_changes_what_it_should(run, folder, tmp_path):
  """Another seed of dropout and order gives another adapter."""
  config, workdir, _ = run
  config = config.copy_and_resolve_references()
  config.unlock()
  config.training.seed = 1
  config.adapters = ('lloco',)
  experiment.train(config, tmp_path / 'other')
  files = [
    (place / 'adapters/lloco/adapter_model.safetensors').read_bytes()
    for place in (workdir, tmp_path / 'other')
  ]
  assert files[0] != files[1]


def changed(config, **fields):
  config = config.copy_and_resolve_references()
  for name, value in fields.items():
    parts = name.split('__')
    target = config
    for part in parts[:-1]:
      target = target[part]
    target[parts[-1]] = value
  return config


def test_workdir_of_another_config_is_refused(run):
  config, workdir, _ = run
  with pytest.raises(ValueError, match='epochs'):
    experiment.train(changed(config, epochs=3), workdir)


@pytest.mark.parametrize(
  'fields, sentence',
  [
    ({'job': 'sing'}, "config.job is 'sing'"),
    ({'adapters': ('loco',)}, 'choose from'),
    ({'data__source': 'web'}, 'must be one of reports, jsonl'),
    ({'data__source': 'jsonl'}, 'config.data.path is empty'),
    ({'data__train_documents': -1}, 'config.data.train_documents is -1'),
    ({'epochs': 0}, 'config.epochs is 0; it must be 1 or more'),
    ({'batch__rows': 0}, 'config.batch.rows is 0; it must be 1 or more'),
    ({'compression__token_cap': 0}, 'config.compression.token_cap is 0'),
    ({'data__seed': -1}, 'config.data.seed is -1'),
    ({'model__name': 'no/such/place'}, 'no/such/place'),
    ({'model__compressor': 'shipped'}, 'No compressor is shipped'),
    ({'lora__targets': ('x_proj',)}, 'x_proj'),
    ({'prompt__question': 'What?'}, 'must hold {question}'),
    ({'evaluation__metric': 'bleu'}, "metric is 'bleu'"),
    ({'evaluation__bootstrap_samples': 0}, 'bootstrap_samples is 0'),
    ({'evaluation__rows': 0}, 'config.evaluation.rows is 0'),
    ({'model__compressor': 'no/such/folder'}, 'no/such/folder'),
    ({'evaluation__temperature': -1.0}, 'config.evaluation: temperature is -1'),
    ({'evaluation__retrieval': ('web',)}, "names 'web'; choose from bm25"),
    (
      {'evaluation__retrieval': ('bm25',), 'evaluation__passages': 0},
      'config.evaluation: passages is 0',
    ),
    (
      {'evaluation__adapters': {'loco': 'x'}},
      "names 'loco'; choose from lloco",
    ),
  ],
)
def test_bad_config_is_refused_in_a_sentence(
  folder, tmp_path, fields, sentence
):
  with pytest.raises((ValueError, OSError), match=sentence):
    experiment.train(changed(small_config(folder), **fields), tmp_path / 'w')
  # The workdir is still free for the mended config.
  assert not (tmp_path / 'w').exists()


def test_workdir_of_other_weights_is_refused(run, tmp_path):
  """Also where the config says the same."""
  config, workdir, _ = run
  other = write_model(tmp_path / 'other', seed=1)
  shutil.copytree(workdir, tmp_path / 'w')
  moved = tmp_path / 'w/config.json'
  text = moved.read_text().replace(config.model.name, str(other))
  moved.write_text(text)
  config = changed(config, model__name=str(other))
  with pytest.raises(ValueError, match='other weights, or another config'):
    experiment.evaluate(config, tmp_path / 'w')
  with pytest.raises(ValueError, match='fingerprints.model was'):
    experiment.train(config, tmp_path / 'w')


def test_evaluation_settings_may_change_after_training(run, tmp_path):
  config, workdir, _ = run
  shutil.copytree(workdir, tmp_path / 'w')
  outcome = experiment.evaluate(
    changed(
      config,
      evaluation__metric='scrolls_rouge',
      evaluation__max_new_tokens=2,
      # Nor is anything trained on these.
      data__validation_documents=2,
      adapters=('lloco', 'no_context'),
    ),
    tmp_path / 'w',
  )
  assert len(outcome.systems[0].answers) == 6
  assert 'finetuned on equal-budget truncation' not in systems_of(outcome)
  assert outcome.metric == 'scrolls_rouge'
  assert set(outcome.systems[0].answers[0].scores) == {
    *('exact_match', 'f1', 'rouge1', 'rouge2', 'rougeL')
  }
  with pytest.raises(ValueError, match="'lloco' must be among"):
    experiment.evaluate(changed(config, adapters=('no_context',)), workdir)


def systems_of(outcome):
  return {system.name: system for system in outcome.systems}


@pytest.mark.slow
def test_retrieval_and_finetuning_on_the_text(folder, tmp_path):
  pytest.importorskip('bm25s', reason="needs the extra 'retrieval'")
  pytest.importorskip('wordllama', reason="needs the extra 'retrieval'")
  config = changed(
    small_config(folder),
    adapters=('lloco', 'full'),
    evaluation__retrieval=('bm25', 'embedding'),
    evaluation__passage_tokens=32,
    evaluation__passages=2,
  )
  config.data.words = (1500, 1600)  # Longer than the window.
  config.data.validation_documents = 2
  experiment.train(config, tmp_path / 'w')
  outcome = experiment.evaluate(config, tmp_path / 'w')
  found = systems_of(outcome)
  gap = 2  # An empty line is two tokens here.
  for name in ('retrieval (BM25)', 'retrieval (embedding)'):
    assert len(found[name].answers) == 6
    assert found[name].tokens_read == 2 * 32 + gap
  whole = found['finetuned on uncompressed context']
  window = found['context truncated to the window']
  assert len(whole.answers) == 6 and not found['full context'].answers
  assert whole.tokens_read == window.tokens_read > 1900
  predictions = [
    [answer.prediction for answer in system.answers]
    for system in (whole, window)
  ]
  assert predictions[0] != predictions[1]


def longbench_config(folder, data):
  """Of data that has nothing to train on."""
  rows = [
    longbench_row(f'm{n}', 'Colour?', f'The mill {n} is red.', 'red')
    for n in range(2)
  ]
  write_lines(data / 'data/qasper.jsonl', rows)
  return changed(
    small_config(folder),
    data__source='longbench',
    data__path=str(data),
    data__part='qasper',
  )


def test_adapter_of_another_run_answers(run, folder, tmp_path, capsys):
  _, workdir, _ = run
  config = longbench_config(folder, tmp_path / 'data')
  with pytest.raises(ValueError, match='evaluation.adapters.lloco=FOLDER'):
    experiment.evaluate(config, tmp_path / 'w')
  place = str(workdir / 'adapters/lloco')
  config = changed(config, evaluation__adapters__lloco=place)
  outcome = experiment.evaluate(config, tmp_path / 'w')
  assert 'LLoCO' in systems_of(outcome)
  assert "LLoCO with another document's summaries" in outcome.controls
  sentence = (
    'For want of an adapter left out: "finetuned without context", "finetuned '
    'on equal-budget truncation".'
  )
  assert sentence in capsys.readouterr().out
  report = (tmp_path / 'w/evaluation/report.md').read_text()
  assert sentence in report and place in report
  # It is the other run's: with one more the control is there.
  other = str(workdir / 'adapters/no_context')
  config = changed(config, evaluation__adapters__no_context=other)
  outcome = experiment.evaluate(config, tmp_path / 'w')
  assert 'finetuned without context' in outcome.controls
  assert 'left out: "finetuned on equal' in capsys.readouterr().out


def test_named_adapter_takes_the_place_of_the_workdirs(run, tmp_path):
  config, workdir, before = run
  shutil.copytree(workdir, tmp_path / 'w')
  place = str(workdir / 'adapters/truncated')
  outcome = experiment.evaluate(
    changed(config, evaluation__adapters__lloco=place), tmp_path / 'w'
  )
  answers = [
    [answer.prediction for answer in systems_of(each)['LLoCO'].answers]
    for each in (before, outcome)
  ]
  assert answers[0] != answers[1]
  assert len(outcome.systems) == len(before.systems)


def test_adapter_of_other_weights_is_refused(run, tmp_path):
  _, workdir, _ = run
  other = write_model(tmp_path / 'other', seed=1)
  config = changed(
    longbench_config(other, tmp_path / 'data'),
    evaluation__adapters__lloco=str(workdir / 'adapters/lloco'),
  )
  with pytest.raises(
    ValueError, match='other weights, or another config.json, than'
  ):
    experiment.evaluate(config, tmp_path / 'w')


@pytest.mark.slow
def test_sampled_answers(run, tmp_path):
  config, workdir, before = run
  shutil.copytree(workdir, tmp_path / 'w')
  sampled = changed(config, evaluation__temperature=1.0, evaluation__seed=1)
  first, second = (
    experiment.evaluate(sampled, tmp_path / 'w') for _ in range(2)
  )
  assert first.systems == second.systems
  assert first.scores.keys() == before.scores.keys()
  predictions = [
    [answer.prediction for answer in systems_of(each)['no context'].answers]
    for each in (before, first)
  ]
  assert predictions[0] != predictions[1]


def test_documents_of_several_groups_are_refused(folder, tmp_path):
  lines = [
    {'id': name, 'text': f'The roof of {name} is red.', 'group': name}
    for name in ('a', 'b')
  ]
  data = tmp_path / 'data'
  data.mkdir()
  (data / 'documents.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  example = {'id': '1', 'question': 'Roof?', 'answer': 'red'}
  example['document_id'] = 'a'
  (data / 'train.jsonl').write_text(json.dumps(example))
  config = changed(
    small_config(folder), data__source='jsonl', data__path=str(data)
  )
  with pytest.raises(ValueError, match='of the groups a, b'):
    experiment.train(config, tmp_path / 'w')


def test_evaluation_before_training_is_refused(folder, tmp_path):
  with pytest.raises(FileNotFoundError, match='run train.py'):
    experiment.evaluate(small_config(folder), tmp_path / 'w')


@pytest.mark.parametrize(
  'fields, sentence',
  [
    ({'model__compressor': 'shipped'}, 'name its folder in config.start'),
    ({'summary__substep': 0}, 'substep is 0'),
    ({'batch__rows': 12}, '12 rows cannot be put 8 a context'),
  ],
)
def test_bad_training_of_a_compressor_is_refused(tmp_path, fields, sentence):
  module = importlib.import_module('configs.compressor_smollm2')
  config = module.get_config('documents')
  config.data.source = 'passages'
  config.start = ''
  config.model.name = str(write_model(tmp_path / 'base', summary_length=0))
  with pytest.raises(ValueError, match=sentence):
    experiment.train(changed(config, **fields), tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


def test_base_that_cannot_compress_is_refused(tmp_path):
  base = write_model(tmp_path / 'base', summary_length=0)
  with pytest.raises(ValueError, match='no summary tokens'):
    experiment.train(small_config(base), tmp_path / 'w')


@pytest.mark.parametrize(
  'part, leaf, error, said',
  [
    ('lm_head', 'kernel', FloatingPointError, 'step 1'),
    ('norm', 'scale', ValueError, 'summaries of document .* not finite'),
  ],
)
def test_loss_of_nan_stops_the_run(folder, tmp_path, part, leaf, error, said):
  """So do summaries: nothing could be learnt from them."""
  broken = tmp_path / 'broken'
  shutil.copytree(folder, broken)
  config = LlamaConfig.from_file(broken / 'config.json')
  params = huggingface.load_params(broken, config)
  params[part][leaf] = np.full_like(params[part][leaf], np.nan)
  huggingface.save_params(broken, params, config)
  with pytest.raises(error, match=said):
    experiment.train(small_config(broken), tmp_path / 'w')


def test_expected_errors_end_in_a_sentence():
  def action():
    raise ValueError('The thing is wrong; mend it.')

  with pytest.raises(SystemExit, match='ValueError: The thing is wrong'):
    command_line.say(action)


def test_compressor_is_trained_saved_and_applied(tmp_path):
  base = write_model(tmp_path / 'base', summary_length=0)
  module = importlib.import_module('configs.compressor_smollm2')
  config = module.get_config('questions')
  config.start = ''
  config.data.questions = 0
  config.model.name = str(base)
  config.summary.length = 2
  config.lora.rank = 2
  config.batch.rows = 2
  config.steps = 3
  config.training.tensorboard = False
  experiment.train(config, tmp_path / 'w')
  demo = small_config(base)
  demo.model.compressor = str(tmp_path / 'w/compressor')
  demo.adapters = ('lloco',)
  base_model, model = inputs.load_models(demo.model)
  assert model.config.summary_length == 2
  plain, same = inputs.load_models(small_config(base).model)
  assert plain is same
  assert base_model.fingerprint == plain.fingerprint != model.fingerprint
  assert not np.allclose(
    model.params['layers']['self_attn']['q_proj']['kernel'],
    plain.params['layers']['self_attn']['q_proj']['kernel'],
  )
  config.start = str(tmp_path / 'w/compressor')
  with pytest.raises(ValueError, match='summary_sharpness 2.0, not 1.0'):
    experiment.train(changed(config, summary__sharpness=1.0), tmp_path / 'v')
  # Before the texts are read, which is long work.
  damaged = tmp_path / 'texts' / 'damaged.txt'
  damaged.parent.mkdir()
  damaged.write_bytes(b'\xff\xfe\xff')
  texts = {'data__source': 'texts', 'data__path': str(damaged.parent)}
  with pytest.raises(ValueError, match='LoRA of rank, alpha'):
    experiment.train(changed(config, lora__rank=3, **texts), tmp_path / 'v')
  with pytest.raises(ValueError, match='UTF-8'):
    experiment.train(changed(config, **texts), tmp_path / 'v')
  # And their place before the base is loaded.
  texts['data__path'] = 'nowhere'
  with pytest.raises(FileNotFoundError, match='nowhere'):
    experiment.train(changed(config, lora__rank=3, **texts), tmp_path / 'v')
  other = write_model(tmp_path / 'other', seed=1, summary_length=0)
  demo.model.name = str(other)
  with pytest.raises(ValueError, match='load that base'):
    inputs.load_models(demo.model)


def test_two_runs_in_one_workdir_are_refused(folder, tmp_path):
  """Not one process twice: that is how a run goes on."""
  workdir = tmp_path / 'w'
  other = (
    'import fcntl, pathlib, sys\n'
    f'path = pathlib.Path({str(workdir)!r})\n'
    'path.mkdir()\n'
    "file = (path / '.lock').open('w')\n"
    'fcntl.lockf(file, fcntl.LOCK_EX)\n'
    "print('locked', flush=True)\n"
    'sys.stdin.read()\n'
  )
  with subprocess.Popen(
    [sys.executable, '-c', other], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  ) as process:
    assert process.stdout.readline() == b'locked\n'
    with pytest.raises(ValueError, match='Another run is at work in'):
      experiment.train(small_config(folder), workdir)
    process.stdin.close()


def test_workdir_that_cannot_be_written(folder, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError, match='cannot be written .*--workdir'):
    experiment.train(small_config(folder), tmp_path / 'file/w')
