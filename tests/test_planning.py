"""The command that plans, as far as it goes without a compiler for TPUs."""

import dataclasses
import functools
import importlib.util
import pathlib

import jax
import numpy as np
import pytest
import tiny

from lloco_jax import __main__ as program
from lloco_jax.nn.lora import LoraConfig
from lloco_jax.planning import chips, memory, report, stages
from lloco_jax.planning.commands import read_config
from lloco_jax.planning.report import Plan, plan_text

CONFIG = 'configs/narrativeqa.py'
COMPRESSOR = pathlib.Path('lloco_jax/compressors/smollm2_135m').absolute()


def run(*arguments):
  program.main(['plan', *arguments])


@pytest.fixture
def without_compiler(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    'find_spec',
    lambda name, *rest: None if name == 'libtpu' else find(name, *rest),
  )


def test_a_missing_compiler_is_told(without_compiler):
  with pytest.raises(SystemExit, match="pip install 'lloco_jax.tpu.'"):
    run(f'--config={CONFIG}', '--topology=v5e:1x1')


@pytest.mark.parametrize(
  'arguments, said',
  [
    (['--topology=v3:1x1'], "no topology 'v3:1x1'; give a chip of v5e"),
    (['--topology=v5e:four'], "no topology 'v5e:four'"),
    (['--topology=v5e:1x1', '--context=0'], '--context is 0'),
    (['--topology=v5e:1x1', '--config.batch.row=2'], "no key 'batch.row'"),
    (['--topology=v5e:1x1', '--config.batch.rows=x'], "no key 'batch.rows' fo"),
    (['--topology=v5e:1x1', '--rows=2'], "'--rows=2' is no argument"),
  ],
)
def test_what_is_wrong_is_told(arguments, said):
  with pytest.raises(SystemExit, match=said):
    run(f'--config={CONFIG}', *arguments)


def test_other_commands_take_no_keys(capsys):
  with pytest.raises(SystemExit):
    program.main(['compare', 'a', 'b', '--config.batch.rows=2'])
  assert 'unrecognized arguments' in capsys.readouterr().err


def test_keys_of_a_config_are_set():
  config = read_config(
    f'{CONFIG}:smollm2',
    [
      '--config.batch.rows=3',
      '--config.remat=full',
      '--config.training.optimizer.learning_rate=1',
    ],
  )
  assert config.model.name == 'smollm2-135m'
  assert config.batch.rows == 3 and config.remat == 'full'
  assert config.training.optimizer.learning_rate == 1.0


def test_bytes_are_those_of_one_device():
  x = jax.device_put(np.zeros((4, 6), np.float32))
  assert memory.shard_bytes({'x': x, 'y': x.astype('bfloat16')}) == 144


def test_what_fits_is_what_is_needed_at_once():
  small = chips.Chips('v5e:1x1', (), 10.0)
  taken = memory.Memory(
    arguments=6 * memory.GIB,
    temporaries=4 * memory.GIB,
    output=2 * memory.GIB,
    aliased=2 * memory.GIB,
  )
  plan = Plan('finetune', 4224, 117_000_000_000_000, taken)
  assert taken.needed == 10 * memory.GIB and plan.fits(small)
  lines = plan_text(plan, small).splitlines()
  assert lines[0] == (
    'finetune on v5e:1x1: 4,224 positions, 117 TFLOP, all devices together'
  )
  assert lines[-1].split() == 'needed 10.00 GiB of 10.00: fits'.split()
  held = Plan(
    'decode', 1, 1, memory.Memory(**vars(taken) | {'beside': memory.GIB})
  )
  assert not held.fits(small)
  assert 'beside' in plan_text(held, small)
  refused = Plan('decode', 1, 1, None, 'it takes 22.1G.')
  assert not refused.fits(small)
  assert 'does not fit: it takes 22.1G.' in plan_text(refused, small)


def test_devices_that_a_config_leaves_idle_are_told():
  taken = memory.Memory(*[memory.GIB] * 5)
  eight = chips.Chips('v5e:2x4', (None,) * 8, 16.0)
  said = plan_text(Plan('decode', 1, 1, taken, devices=1), eight)
  assert 'uses 1 of the 8 devices; --config.mesh.axes.fsdp=-1' in said
  assert 'uses' not in plan_text(Plan('decode', 1, 1, taken, devices=8), eight)


@pytest.mark.parametrize(
  'name, network, vectors',
  [
    # 122,880 tokens in segments of 1,536 to 50 vectors, as in the paper.
    ('llama2-7b', {'summary_length': 50}, 4000),
    # 28,672 in segments of 64 to 16.
    ('smollm2', {'summary_length': 16}, 7168),
    ('smollm2', {'summary_length': 32}, 8192),
    ('smollm2', {'summary_length': 16, 'accumulate_summary': False}, 16),
  ],
)
def test_plans_are_of_the_longest_documents(name, network, vectors):
  config = read_config(f'configs/narrativeqa.py:{name}')
  network = dataclasses.replace(
    tiny.CONFIG, max_position_embeddings=8192, **network
  )
  assert report._sizes(config, network, 'decode').context == vectors


def test_keys_are_set_as_in_train_py():
  config = read_config(
    CONFIG,
    [
      '--config.training.tensorboard=false',
      '--config.adapters=lloco',
      '--config.evaluation.retrieval=bm25',
      '--config.data.path=2024',
      '--config.batch.rows=2',
    ],
  )
  assert config.training.tensorboard is False
  assert config.adapters == ('lloco',)
  assert config.evaluation.retrieval == ('bm25',)
  assert config.data.path == '2024'
  assert config.batch.rows == 2


@pytest.mark.parametrize(
  'name, questions, answer',
  [
    ('narrativeqa.py', 64, 50),
    ('narrativeqa.py:v5e-1', 32, 50),
    ('combined.py:v5e-1,qasper,qmsum', 32, 50),
  ],
)
def test_answers_are_planned_with_the_questions_of_a_row(
  name, questions, answer
):
  config, network = read_config(f'configs/{name}'), tiny.CONFIG
  for stage in ('prefill', 'decode'):
    sizes = report._sizes(config, network, stage)
    assert (sizes.questions, sizes.rows) == (questions, 1)
    assert sizes.answer >= answer
    # A mesh of two data shards and, at first, a row each.
    assert report._sizes(config, network, stage, 2).rows == 2
  for evaluation in report._evaluations(config):
    evaluation.rows = 3
  assert report._sizes(config, network, 'decode', 2).rows == 4
  assert report._sizes(config, network, 'finetune').questions == 1


@pytest.mark.parametrize(
  ('change', 'stage', 'sizes', 'message'),
  [
    ({}, 'compress', {}, 'has no summary tokens, so it cannot compress'),
    (
      {},
      'prefill',
      {'context': 97},
      '--context is 97, and the window of .* 96',
    ),
    (
      {'all_parameters': True},
      'compress',
      {},
      'all_parameters trains the base',
    ),
  ],
)
def test_what_cannot_be_planned_is_told(
  tmp_path, change, stage, sizes, message
):
  (tmp_path / 'config.json').write_text(
    '{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 36,'
    '"num_hidden_layers": 2, "num_attention_heads": 4,'
    '"num_key_value_heads": 2, "max_position_embeddings": 96}'
  )
  config = read_config(f'{CONFIG}:smollm2')
  config.model.name, config.model.compressor = str(tmp_path), ''
  with config.unlocked():
    config.update(change)
  one = chips.Chips('v5e:1x1', tuple(jax.devices()[:1]), 1.0)
  with pytest.raises(ValueError, match=message):
    next(report.make_plans(config, one, [stage], **sizes))


def tiny_base(quantization=None):
  network = dataclasses.replace(tiny.CONFIG, summary_length=2)
  device = jax.devices()[0]
  return stages.make_base(
    network, 'float32', quantization, LoraConfig(), device, None, 'xla'
  )


def test_a_prefix_is_there_with_the_smaller_one_that_it_grew_out_of():
  base = tiny_base()
  # Of 12 segments' vectors, where there was room for 8 before.
  sizes = stages.Sizes(context=2 * 9, segment=8)
  program = stages.lower_stage('compress', base, sizes, 'none')
  prefix = memory.shard_bytes(program.arguments[1])
  assert memory.shard_bytes(program.beside) == prefix * 8 // 12


def test_an_evaluation_holds_the_base_as_well():
  """What was merged, of all that is quantised a second copy, or another."""
  config = read_config('configs/jsonl.py')
  config.model.compressor = str(COMPRESSOR)
  untouched = functools.partial(report._untouched, config)
  base, quantised = tiny_base(), tiny_base('int8')
  attention = base.params['layers']['self_attn']
  assert memory.shard_bytes(untouched(base)) == memory.shard_bytes(attention)
  config.model.quantize = 'int8'
  layers = quantised.params['layers']
  both = layers['self_attn'], layers['mlp']
  assert memory.shard_bytes(untouched(quantised)) == memory.shard_bytes(both)
  config.model.compressor = config.model.quantize = ''
  assert untouched(base) == ()


def test_an_unknown_stage_is_told():
  config = read_config(CONFIG)
  with pytest.raises(ValueError, match="no stage 'train'; choose from finetun"):
    next(report.make_plans(config, chips.Chips('v5e:1x1', (), 1.0), ['train']))


@pytest.mark.parametrize(
  'said',
  [
    'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. '
    'Used 22.10G of 15.75G hbm. Exceeded hbm capacity by 6.4G.',
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required '
    'for HLO temporaries (22.10G) exceeds available HBM (15.75G).',
  ],
)
def test_a_refusal_of_the_compiler_is_told(said):
  class Lowered:
    def compile(self):
      raise jax.errors.JaxRuntimeError(said)

  with pytest.raises(memory.DoesNotFitError, match='22.10G of the 15.75G'):
    memory.compile_program(Lowered())
