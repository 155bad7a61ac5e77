"""The plan of a config: what each stage takes on devices that need not be
there, and whether it fits."""

from collections.abc import Iterator, Sequence
import dataclasses
import math

from ml_collections import ConfigDict

from lloco_jax.compression.segments import check_compressor
from lloco_jax.data.batches import round_up
from lloco_jax.generation.answering import QUESTION_BUCKETS
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.lora import (
  ATTENTION_PROJECTIONS,
  MLP_PROJECTIONS,
  LoraConfig,
)
from lloco_jax.planning.chips import Chips
from lloco_jax.planning.memory import (
  GIB,
  DoesNotFitError,
  Memory,
  compile_program,
  memory_of,
)
from lloco_jax.planning.stages import (
  STAGES,
  Base,
  Sizes,
  lower_stage,
  make_base,
)
from lloco_jax.sharding import make_placement
from lloco_jax.weights import peft
from lloco_jax.weights.compressor import (
  compressor_folder,
  read_fields,
  summary_fields,
  with_summaries,
)
from lloco_jax.weights.published import read_config

# Stages that eval.py runs, with the base beside what compresses.
_EVALUATED = ('compress', 'prefill', 'decode')
# What a config that finetunes does not say of the training of its compressor:
# substeps as published (Chevalier et al. 2023, section 4).
_SUBSTEP = 2


@dataclasses.dataclass(frozen=True)
class Plan:
  """Of one stage; `memory` is None where the compiler says `refusal`.

  `devices` are those that the config uses; None for all.
  """

  stage: str
  positions: int
  flops: int
  memory: Memory | None
  refusal: str = ''
  devices: int | None = None

  def fits(self, chips: Chips) -> bool:
    """Whether it and what waits beside it take no more than a device has."""
    return bool(self.memory) and self.memory.needed <= chips.memory * GIB


def make_plans(
  config: ConfigDict, chips: Chips, stages: Sequence[str] = (), **sizes
) -> Iterator[Plan]:
  """Plans the stages of a config, in order, by default all that it runs.

  Args:
    config: of an experiment, see configs/common.py.
    chips: to compile for.
    stages: of STAGES.
    sizes: fields of Sizes, in the place of what the config says.

  Raises:
    ValueError: a stage is unknown, the config does not fit its mesh, its model
      cannot compress, or the context exceeds its window.
    OSError: the config of a checkpoint is missing.
  """
  trains_compressor = config.job == 'compressor'
  if 'model' not in config:
    raise ValueError(
      f"The config '{config.name}' takes its model from a library; plan with "
      'configs/jsonl.py and --config.model.name in its place.'
    )
  if not stages:
    others = [name for name in STAGES if name != 'compressor']
    stages = ['compressor'] if trains_compressor else others
  for stage in stages:
    if stage not in STAGES:
      raise ValueError(
        f"There is no stage '{stage}'; choose from {', '.join(STAGES)}."
      )
  if config.get('all_parameters', False):
    raise ValueError(
      'The plan is of LoRA, and config.all_parameters trains the base as well, '
      'in float32 with its gradients and two moments; plan without it.'
    )
  axes = config.mesh.axes.to_dict()
  placement = make_placement(axes, config.mesh.rules, chips.devices)
  used = placement.mesh.size if placement else 1
  # Documents that are answered at a time.
  parts = placement.parts('batch') if placement else 1
  base = make_base(
    _network(config),
    config.model.dtype,
    config.model.quantize or None,
    LoraConfig(**config.lora.to_dict()),
    chips.devices[0],
    placement,
  )
  window = base.config.max_position_embeddings
  if sizes.get('context', 0) > window:
    raise ValueError(
      f'--context is {sizes["context"]}, and the window of {config.model.name} '
      f'{window} positions; give fewer.'
    )
  untouched = ()
  if not trains_compressor and set(stages).intersection(_EVALUATED):
    untouched = _untouched(config, base)
  for stage in stages:
    sized = _sizes(config, base.config, stage, parts)
    chosen = dataclasses.replace(sized, **sizes)
    if stage == 'compress':
      check_compressor(base.config, chosen.segment)
    program = lower_stage(stage, base, chosen, config.remat)
    beside = program.beside + (untouched if stage in _EVALUATED else ())
    told = (stage, program.positions, program.flops)
    try:
      compiled = compile_program(program.lowered)
    except DoesNotFitError as error:
      yield Plan(*told, None, str(error), used)
    else:
      taken = memory_of(compiled, program.arguments, beside)
      yield Plan(*told, taken, devices=used)


def plan_text(plan: Plan, chips: Chips) -> str:
  """The plan of a stage, in lines."""
  used = len(chips.devices) if plan.devices is None else plan.devices
  lines = [
    f'{plan.stage} on {chips.topology}: {plan.positions:,} positions, '
    f'{_scaled(plan.flops)}FLOP, all devices together'
  ]
  if used < len(chips.devices):
    lines.append(
      f'  The config uses {used} of the {len(chips.devices)} devices; '
      '--config.mesh.axes.fsdp=-1 uses all.'
    )
  if plan.memory is None:
    return '\n'.join([*lines, f'  does not fit: {plan.refusal}', ''])
  parts = dataclasses.asdict(plan.memory)
  parts['aliased'] *= -1
  if parts['beside'] < GIB / 200:
    del parts['beside']
  lines += [
    f'  {name:<12}{size / GIB:>8.2f} GiB' for name, size in parts.items()
  ]
  verdict = 'fits' if plan.fits(chips) else 'does not fit'
  lines.append(
    f'  {"needed":<12}{plan.memory.needed / GIB:>8.2f} GiB of '
    f'{chips.memory:.2f}: {verdict}'
  )
  return '\n'.join([*lines, ''])


def _network(config):
  """The checkpoint's config, with the summary vectors of its compressor."""
  network = read_config(config.model.name)
  folder = config.model.get('compressor', '')
  if config.job == 'compressor':
    return with_summaries(network, config.summary)
  if not folder:
    return network
  folder = compressor_folder(folder, config.model.name)
  return dataclasses.replace(network, **summary_fields(read_fields(folder)))


def _untouched(config, base: Base) -> tuple:
  """What an evaluation holds of the base beside the compressor."""
  name, kind = config.model.name, config.model.quantize or None
  others = {x.base for x in _evaluations(config)} - {'', name}
  place = base.lora, base.device, base.placement
  held = [
    make_base(read_config(other), config.model.dtype, kind, *place).params
    for other in sorted(others)
  ]
  if not others and config.model.compressor:
    # All that is quantised is made twice, else only what is merged.
    folder = compressor_folder(config.model.compressor, name)
    every = ATTENTION_PROJECTIONS + MLP_PROJECTIONS
    targets = every if kind else peft.named_targets(folder)
    layers = base.params['layers']
    held += [
      layers[part][target]
      for part in layers
      for target in layers[part]
      if target in targets
    ]
  return tuple(held)


def _evaluations(config):
  """Of an experiment, or of each set that one adapter is finetuned on."""
  if config.job == 'combined':
    return [part.evaluation for part in config.sets.values()]
  return [config.evaluation]


def _sizes(config, network: LlamaConfig, stage, parts: int = 1) -> Sizes:
  if config.job == 'compressor':
    return Sizes(
      rows=config.batch.rows,
      segment=config.data.segment_length,
      segments=config.data.segments,
      substep=config.summary.substep,
    )
  rows = {
    'finetune': config.batch.rows,
    'compressor': config.batch.rows,
    'compress': config.compression.rows,
  }
  evaluations = _evaluations(config)
  questions = config.batch.questions_per_row
  if stage in ('prefill', 'decode'):
    most = QUESTION_BUCKETS[-1]
    questions = min(max(x.questions_per_row for x in evaluations), most)
  return Sizes(
    context=_most_vectors(config, network),
    rows=rows.get(stage, round_up(max(x.rows for x in evaluations), parts)),
    questions=questions,
    answer=max(x.max_new_tokens for x in evaluations),
    segment=config.compression.segment_length,
    substep=_SUBSTEP,
  )


def _scaled(number: int) -> str:
  """A number with three digits and the letter of its thousands."""
  power = int(math.log(number, 1000))
  return f'{number / 1000**power:.3g} {" kMGTPE"[power].strip()}'


def _most_vectors(config, network: LlamaConfig) -> int:
  """Of the longest document that the token cap leaves whole."""
  if not network.summary_length:
    return Sizes.context
  chosen = config.compression
  segments = -(-chosen.token_cap // chosen.segment_length)
  if not network.accumulate_summary:
    segments = 1
  most = segments * network.summary_length
  return min(most, network.max_position_embeddings)
