"""Every config of the paper's experiments, with every model."""

import importlib
import math
import pathlib

from conftest import ROOT
from official_files import WRITERS
import pytest

from configs import common, small
from lloco_jax.data.longbench import TASKS
from lloco_jax.data.prompts import PROMPTS, Prompt
from lloco_jax.evaluation.scoring import METRICS
from lloco_jax.evaluation.systems import FINETUNED_ON
from lloco_jax.finetuning.checkpoints import flat_config
from lloco_jax.inputs import load_dataset
from lloco_jax.nn.lora import LoraConfig
from lloco_jax.progress import duration
from lloco_jax.weights.published import read_config

# Of the configs and what their data is written as.
CONFIGS = (
  *('quality', 'qasper', 'qmsum', 'narrativeqa'),
  *('hotpotqa', 'longbench', 'squad', 'fairytaleqa'),
)


# Whose lengths belong to the model, and whose data is made.
NEEDLE = {'data.needle.lengths', 'data.needle.validation_repeats'}


def load(name, model='llama2-7b'):
  return importlib.import_module(f'configs.{name}').get_config(model)


def flat(config):
  return flat_config(config.to_dict(), ignored=())


@pytest.mark.parametrize('name', [*CONFIGS, 'needle'])
@pytest.mark.parametrize('model', common.MODELS)
def test_a_config_has_the_keys_that_a_run_reads(name, model):
  config = load(name, model)
  assert flat(config).keys() == flat(common.finetuning('any')).keys()
  assert config.name.startswith(name) and config.name.endswith(model)
  assert config.evaluation.metric in METRICS
  Prompt(**config.prompt)
  assert LoraConfig(**config.lora.to_dict()).rank == 8


@pytest.mark.parametrize('name', [*CONFIGS, 'needle'])
def test_models_differ_in_the_model_part_alone(name):
  configs = [flat(load(name, model)) for model in common.MODELS]
  changed = {key for key in configs[0] if configs[0][key] != configs[1][key]}
  allowed = {'name', *common.MODELS['smollm2']}
  assert changed <= (allowed | NEEDLE if name == 'needle' else allowed)
  assert load(name) == load(name, 'llama2-7b')
  with pytest.raises(ValueError, match="'gpt' is no word .*llama2-7b, smol"):
    load(name, 'gpt')


@pytest.mark.parametrize('devices', common.DEVICES)
@pytest.mark.parametrize('name', ['narrativeqa', 'hotpotqa'])
def test_other_devices_train_on_the_same_questions_a_step(name, devices):
  one, other = load(name), load(name, f'llama2-7b,{devices}')
  assert one.name == other.name
  rows = [x.batch.rows * x.training.accumulation for x in (one, other)]
  assert rows[0] == rows[1]
  sizes = other.mesh.axes.to_dict().values()
  parts = math.prod(sizes)
  assert parts == int(devices.rpartition('-')[2])
  assert parts == other.batch.rows
  assert other.compression.rows % parts == 0


def test_docstrings_tell_the_time_that_is_computed(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  from benchmarks import expected_time

  network = read_config('princeton-nlp/AutoCompressor-Llama-2-7b-6k')
  assert set(expected_time.DEVICES) == set(common.DEVICES)
  for name, data in expected_time.DATA.items():
    said = importlib.import_module(f'configs.{name}').__doc__.split()
    for devices in common.DEVICES:
      time = duration(expected_time.seconds(network, data, devices))
      assert f' {time} on {devices}' in ' '.join(said)


def test_the_table_of_times_is_that_of_the_docs(monkeypatch, capsys):
  monkeypatch.syspath_prepend(ROOT)
  from benchmarks import expected_time

  expected_time.main()
  docs = (ROOT / 'docs/tpu.md').read_text('utf-8')
  assert capsys.readouterr().out in docs


@pytest.mark.parametrize('devices', ['', *common.DEVICES])
def test_a_compressor_trains_on_as_many_rows_on_other_devices(devices):
  config = load('compressor_llama2_7b', devices)
  assert config.training.accumulation * config.batch.rows == 32
  parts = math.prod(config.mesh.axes.to_dict().values())
  assert parts == int(devices.rpartition('-')[2] or 1)
  with pytest.raises(ValueError, match="devices 'v9'; use one of v5e-1"):
    load('compressor_llama2_7b', 'v9')


def test_devices_without_a_setting_are_refused():
  with pytest.raises(ValueError, match="'v9' is no word .*devices: v5e-1"):
    load('narrativeqa', 'llama2-7b,v9')


@pytest.mark.parametrize(
  'name, argument, same',
  [
    ('narrativeqa', 'v5e-1', 'llama2-7b,v5e-1'),
    ('needle', 'v5e-8', 'v5e-8,llama2-7b'),
    ('jsonl', 'v5e-8', 'smollm2,v5e-8'),
    ('longbench', 'qasper,80gb-8', 'llama2-7b,80gb-8,qasper'),
    ('combined', 'qmsum,v5e-8,qasper', 'llama2-7b,v5e-8,qmsum,qasper'),
  ],
)
def test_words_of_an_argument_stand_in_any_order(name, argument, same):
  config = load(name, argument)
  assert config == load(name, same)
  devices = next(word for word in argument.split(',') if word[-2] == '-')
  for key, value in common.DEVICES[devices].items():
    if not key.startswith('evaluation.'):
      assert flat(config)[key] == value
  if name != 'jsonl':
    assert config.training.accumulation * config.batch.rows == 8


@pytest.mark.parametrize('name', [*CONFIGS, 'needle', 'combined'])
def test_a_word_adds_the_systems_of_the_papers_table(name):
  config, plain = load(name, 'smollm2,table1'), load(name, 'smollm2')
  assert config.adapters == (*plain.adapters, 'full')
  parts = config.sets.values() if name == 'combined' else [config]
  for part in parts:
    assert part.evaluation.retrieval == ('bm25', 'embedding')


def test_two_words_of_a_kind_are_refused():
  with pytest.raises(ValueError, match="'v5e-8', which has 'v5e-1' already"):
    load('qasper', 'v5e-1,v5e-8')


@pytest.mark.parametrize('name', [*CONFIGS, 'needle'])
def test_hyperparameters_are_the_references(name):
  """The reference's scripts, commit 4f8a550; a batch is 8 questions, or 16."""
  config = load(name)
  assert config.model.name == 'princeton-nlp/AutoCompressor-Llama-2-7b-6k'
  assert config.compression.segment_length == 1536
  assert config.compression.token_cap == 122_880
  assert config.compression.block_characters == 10_000
  assert config.epochs == 3
  optimizer = config.training.optimizer
  assert (optimizer.learning_rate, optimizer.schedule) == (2e-5, 'cosine')
  assert (optimizer.warmup_ratio, optimizer.weight_decay) == (0.04, 0.0)
  assert (optimizer.b1, optimizer.b2, optimizer.clip_norm) == (0.9, 0.999, 1.0)
  assert (config.lora.alpha, config.lora.dropout) == (16.0, 0.05)
  assert config.lora.targets == ('q_proj', 'k_proj', 'v_proj', 'o_proj')
  questions = config.batch.rows * config.batch.questions_per_row
  questions *= config.training.accumulation
  assert questions == (16 if name == 'hotpotqa' else 8)


def test_what_is_of_one_data_set():
  config = load('hotpotqa')
  assert (config.data.train_examples, config.data.seed) == (20_000, 42)
  assert load('qmsum').evaluation.max_new_tokens == 96
  for name, prompt in {
    'quality': 'quality',
    'qasper': 'qasper',
    'qmsum': 'qmsum',
    'narrativeqa': 'narrative_qa',
    'hotpotqa': 'hotpot_qa',
    'longbench': 'narrative_qa',
    'needle': 'narrative_qa',
  }.items():
    assert Prompt(**load(name).prompt) == PROMPTS[prompt], name
  for name in ('qasper', 'qmsum', 'narrativeqa'):
    assert load(name).data.teach_every_answer


@pytest.mark.parametrize('task', [name for name in TASKS if TASKS[name].metric])
def test_longbench_has_a_config_a_task(task):
  config = load('longbench', f'smollm2,{task}')
  assert config.data.part == task
  assert config.evaluation.max_new_tokens == TASKS[task].max_new_tokens
  assert config.evaluation.metric == TASKS[task].metric
  assert config.name == f'longbench_{task}_smollm2'


def test_a_longbench_task_that_cannot_be_scored_is_refused():
  with pytest.raises(ValueError, match="'trec' is no word .*task: narrativeqa"):
    load('longbench', 'smollm2,trec')


def test_adapters_of_elsewhere_are_those_that_can_be_finetuned():
  chosen = common.finetuning('any').evaluation
  assert set(chosen.adapters) == set(FINETUNED_ON)
  assert not any(chosen.adapters.values()) and not chosen.retrieval


@pytest.mark.parametrize('name', CONFIGS)
def test_a_config_loads_its_data(name, tmp_path):
  config = load(name)
  WRITERS[config.data.source](tmp_path, config.data.part)
  config.data.path = str(tmp_path)
  dataset = load_dataset(config.data, config.evaluation.split)
  assert dataset.splits['validation']
  assert ('train' in dataset.splits) == (name != 'longbench')
  assert len({each.group for each in dataset.documents.values()}) == 1


@pytest.mark.parametrize('model', common.MODELS)
def test_ones_own_data_is_used_without_limits(model):
  config = load('jsonl', model)
  assert flat(config).keys() == flat(common.finetuning('any')).keys()
  assert config.model.name == common.MODELS[model]['model.name']
  limits = [name for name in config.data if name.endswith(('_documents',
    '_examples', '_per_document'))]  # fmt: skip
  assert len(limits) == 5
  assert not any(config.data[name] for name in limits)


_PROMPT = {'prompt.prefix', 'prompt.question', 'prompt.answer'}
_ALSO_SMALL = {
  'needle': {'adapters', *_PROMPT},
  'qmsum': {'data.source', 'data.part', 'compression.token_cap'},
  'quality': {'compression.token_cap'},
  'longbench': {
    'compression.token_cap',
    'evaluation.adapters.lloco',
    'evaluation.max_new_tokens',
    *_PROMPT,
  },
}


@pytest.mark.parametrize('name', small.EXPERIMENTS)
def test_small_experiments_are_those_of_the_data_set_but_for_their_size(name):
  ours, theirs = flat(small.get_config(name)), flat(load(name, 'smollm2'))
  assert {key for key in ours if ours[key] != theirs[key]} <= {
    'name',
    'data.train_documents',
    'data.train_examples',
    'data.validation_documents',
    'data.validation_examples',
    'data.needle.lengths',
    'data.needle.validation_repeats',
    'compression.rows',
    'batch.questions_per_row',
    'training.accumulation',
    'training.optimizer.learning_rate',
    'training.checkpoint_every',
    'evaluation.retrieval',
    'evaluation.passage_tokens',
  } | _ALSO_SMALL.get(name, set())
  if name == 'needle':
    return
  assert 0 < ours['data.validation_examples'] <= 200
  if name != 'longbench':
    assert 0 < ours['data.train_examples'] <= 1500
    # Fewer documents would say little about unseen ones.
    assert ours['data.validation_documents'] >= 20


@pytest.mark.parametrize('task', list(TASKS)[:9])
def test_small_tasks_of_longbench_are_answered_by_a_trained_adapter(task):
  config = small.get_config(f'longbench,{task}')
  assert config.name == f'small_longbench_{task}'
  assert config.data.part == task
  teacher = pathlib.Path(config.evaluation.adapters.lloco).parts[1]
  taught = small.get_config(teacher.removeprefix('small_'))
  assert teacher == taught.name
  assert config.prompt == taught.prompt


def test_the_small_combined_experiment_asks_what_its_parts_ask():
  config = small.get_config('combined')
  assert config.name == 'small_combined'
  for name, part in config.sets.items():
    alone = small.get_config(name)
    for key in ('data', 'prompt', 'evaluation'):
      assert part[key] == alone[key]


def test_a_small_experiment_that_is_not_there():
  with pytest.raises(ValueError, match="no small experiment 'x'; use one of"):
    small.get_config('x')
