"""The job that answers with every system what was asked, and reports."""

from collections.abc import Mapping
import pathlib
import sys

from ml_collections import ConfigDict

from lloco_jax.compression_job import summaries_of
from lloco_jax.data.examples import Dataset
from lloco_jax.data.prompts import Prompt
from lloco_jax.evaluation import report, results, runner, scoring, systems
from lloco_jax.evaluation.answer_cache import AnswerCache
from lloco_jax.evaluation.plans import check_groups, group_examples
from lloco_jax.evaluation.references import unreachable
from lloco_jax.evaluation_settings import evaluation_settings
from lloco_jax.finetuning.checkpoints import IGNORED
from lloco_jax.finetuning_job import adapter_folder, examples_of, load_data
from lloco_jax.inputs import load_base, load_models
from lloco_jax.nn.lora import Adapter
from lloco_jax.processes import is_first
from lloco_jax.runs import announce, claim, device, versions
from lloco_jax.weights import peft
from lloco_jax.weights.published import read_config


def evaluate(config: ConfigDict, workdir=None) -> results.Results | None:
  """Answers the questions of a split with every system, and reports.

  Of several processes only the first reports; the others return None.

  Raises:
    ValueError: the config or the data is unusable, or the workdir of another.
    FileNotFoundError: an adapter has not been trained.
    ImportError: a package that config.evaluation.retrieval needs is missing.
  """
  settings = evaluation_settings(config.evaluation)
  if 'lloco' not in config.adapters:
    raise ValueError(
      f"config.adapters is {tuple(config.adapters)}; 'lloco' must be among "
      'them, which the others are compared with.'
    )
  dataset = load_data(config)
  examples = examples_of(dataset, config.evaluation.split)
  metric = config.evaluation.metric
  scores = {
    name: scoring.SCORES[name]
    for name in sorted(
      {*runner.COMMON_METRICS, *scoring.reported_scores(metric)}
    )
  }
  runner.check_metrics(scores, examples)
  workdir = announce(config, workdir)
  folders = _adapter_folders(config, workdir, dataset)
  # Weights may take minutes to read.
  for place in folders.values():
    peft.find_adapter(place)
  if config.evaluation.base:
    read_config(config.evaluation.base)
  base, model = load_models(config.model)
  if config.evaluation.base:
    base = load_base(config.model, config.evaluation.base)
  # What its adapters began from may be gone.
  starts = {f'start_{name}' for name in config.start}
  adapters = {
    name: peft.load_adapter(place, model.config, model.fingerprint, model.name)
    for name, place in folders.items()
  }
  prompt, new_tokens = Prompt(**config.prompt), config.evaluation.max_new_tokens
  groups = group_examples(model, examples, prompt, new_tokens)
  beyond = unreachable(
    examples,
    model.tokenizer,
    metric,
    new_tokens,
    config.evaluation.first_line,
  )
  for sentence in beyond:
    print(sentence, flush=True)

  def check(vectors):
    check_groups(groups, vectors, model.window, new_tokens)
    claim(workdir, config, model, dataset, IGNORED | starts)

  summaries = summaries_of(config, workdir, model, dataset, check)
  found = systems.standard_systems(
    adapters, settings.retrievals, settings.base_prompt
  )
  folder = workdir / 'evaluation'
  answers = runner.evaluate(
    model,
    examples,
    dataset.documents,
    summaries,
    found,
    prompt,
    scores,
    new_tokens,
    base=base,
    cache=AnswerCache(folder / 'answers', _how(config)),
    sampling=settings.sampling,
    questions_per_row=config.evaluation.questions_per_row,
    rows=config.evaluation.rows,
    first_line=config.evaluation.first_line,
  )
  if not is_first():
    return None
  read = {name for example in examples for name in example.document_ids}
  outcome = results.write_results(
    folder,
    answers,
    metric,
    [name for name in systems.COMPARED if name in {s.name for s in found}],
    systems.MAIN_SYSTEM,
    samples=config.evaluation.bootstrap_samples,
    tokens_per_vector=summaries.tokens_per_vector(read),
    data=dataset.told,
  )
  path = report.write_report(
    folder,
    outcome,
    {
      'Adapters': {name: str(place) for name, place in folders.items()},
      **_left_out(config, adapters),
      **({'Cut off': cut} if (cut := summaries.what_is_cut(read)) else {}),
      **({'Data': dataset.told} if dataset.told else {}),
      **({'Out of reach': ' '.join(beyond)} if beyond else {}),
      'Config': config.to_dict(),
      'Versions': versions(),
      'Device': device(),
    },
    title=f'Evaluation of {config.name}',
  )
  print(report.terminal_table(outcome, color=sys.stdout.isatty()))
  for sentence in _left_out(config, adapters).values():
    print(sentence)
  print(report.one_question(outcome))
  print(f'Report: {path}')
  return outcome


def _adapter_folders(
  config: ConfigDict, workdir: pathlib.Path, dataset: Dataset
) -> dict[str, str | pathlib.Path]:
  """Where each adapter of the evaluation is.

  One that was trained elsewhere takes the place of the workdir's. Where any
  is, or the data has nothing to train on, those that are nowhere are left out.

  Raises:
    FileNotFoundError: an adapter has not been trained.
    ValueError: LLoCO has no adapter, and none can be trained.
  """
  named = config.evaluation.adapters.to_dict()
  elsewhere = {name: place for name, place in named.items() if place}
  folders = {}
  for name in dict.fromkeys([*config.adapters, *elsewhere]):
    own = adapter_folder(workdir, name)
    if name in elsewhere or (own / peft.CONFIG).is_file():
      folders[name] = elsewhere.get(name, own)
  missing = [name for name in config.adapters if name not in folders]
  trained = bool(dataset.splits.get('train'))
  if missing and trained and not elsewhere:
    raise FileNotFoundError(
      f"The adapter '{missing[0]}' is missing in {workdir}; run train.py with "
      'the same config first, or name the folder of one that was trained '
      f'elsewhere with --config.evaluation.adapters.{missing[0]}=FOLDER.'
    )
  if 'lloco' in missing:
    why = 'is missing' if trained else 'cannot be trained on data without train'
    raise ValueError(
      f"The adapter 'lloco' {why}; name the folder of one that was trained "
      'elsewhere with --config.evaluation.adapters.lloco=FOLDER.'
    )
  return folders


def _how(config: ConfigDict) -> str:
  """What the seconds of answers depend on beside what is asked."""
  asked = config.evaluation
  return f'{device()}: {asked.rows} x {asked.questions_per_row}'


def _left_out(
  config: ConfigDict, adapters: Mapping[str, Adapter]
) -> dict[str, str]:
  """A sentence about the systems without an adapter, under its heading."""
  missing = [name for name in config.adapters if name not in adapters]
  names = systems.systems_of(missing)
  if not names:
    return {}
  said = ', '.join(f'"{name}"' for name in names)
  return {'Left out': f'For want of an adapter left out: {said}.'}
