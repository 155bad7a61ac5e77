"""What configs start from. Every key that a run reads stands here."""

import dataclasses

import ml_collections

from lloco_jax import sharding
from lloco_jax.data.prompts import BASE_PROMPTS, PROMPTS

# What configs of the paper's experiments take as their argument. Segment
# length and cap belong to the compressor and its window: 28,672 tokens become
# 7,168 vectors of SmolLM2's 8,192 positions, which leaves 1,024 for a question
# and its answer.
MODELS = {
  'llama2-7b': {
    'model.name': 'princeton-nlp/AutoCompressor-Llama-2-7b-6k',
    'model.compressor': '',
    'model.dtype': 'bfloat16',
    # The 4,000 vectors of the longest documents leave 96 positions to
    # questions and answers, which the reference lets run on.
    'model.beyond_window': 512,
    'compression.segment_length': 1536,
    'compression.rows': 4,
    'compression.token_cap': 122_880,
  },
  'smollm2': {
    'model.name': 'smollm2-135m',
    'model.compressor': 'shipped',
    'model.dtype': 'float32',
    'model.beyond_window': 0,
    'compression.segment_length': 64,
    'compression.rows': 8,
    'compression.token_cap': 28_672,
  },
}

# Other devices, as 'v5e-1' or 'llama2-7b,v5e-8'. One v5e has room for an int8
# base and one row, if little is kept for the backward pass and few questions
# are answered at a time; eight share out the base and have a row each, so that
# a step's rows are no longer accumulated.
_EIGHT_ROWS = {'batch.rows': 8, 'compression.rows': 8}
DEVICES = {
  'v5e-1': {
    'model.quantize': 'int8',
    'remat': 'full',
    'compression.rows': 1,
    'evaluation.questions_per_row': 32,
  },
  'v5e-8': {'mesh.axes.fsdp': 8, **_EIGHT_ROWS},
  # What the model's settings are made for.
  '80gb-1': {},
  '80gb-8': {'mesh.axes.data': 8, **_EIGHT_ROWS},
}

# More systems than the paper's main ones: retrieval, and an adapter on the text
# itself.
SYSTEMS = {
  'table1': {
    'adapters': ('lloco', 'no_context', 'truncated', 'full'),
    'evaluation.retrieval': ('bm25', 'embedding'),
  }
}


def model():
  config = ml_collections.ConfigDict()
  # A folder, a .gguf file, a hub name, or 'smollm2-135m'.
  config.name = 'smollm2-135m'
  # '' where the checkpoint is an AutoCompressor itself; 'shipped' for the
  # compressor that comes with the package, 'shipped:texts' for the one that
  # learnt from texts alone; or a folder.
  config.compressor = ''
  config.dtype = 'float32'
  # 'int8' for the projections of the layers: half the memory of bfloat16.
  config.quantize = ''
  # Positions that questions and answers about a context may take behind the
  # window of the checkpoint, which was not trained on them. Text is cut to the
  # window all the same.
  config.beyond_window = 0
  return config


def mesh():
  """The devices of a run: one, unless an axis is more; see sharding.py."""
  config = ml_collections.ConfigDict()
  # 'data' and 'fsdp' share out rows, 'fsdp' the base's weights as well,
  # 'tensor' what is within a layer. One may be -1: the devices that are left.
  config.axes = ml_collections.ConfigDict(sharding.AXES)
  # What each axis of the arrays is cut over.
  config.rules = sharding.RULES
  # Whether this is one of several processes, on several hosts, that share a
  # mesh and the folders of the run.
  config.processes = False
  return config


def training():
  config = ml_collections.ConfigDict()
  # Microbatches a step.
  config.accumulation = 1
  config.seed = 0
  config.checkpoint_every = 50
  config.keep = 2
  config.log_every = 10
  config.tensorboard = True
  config.optimizer = ml_collections.ConfigDict()
  config.optimizer.learning_rate = 2e-4
  config.optimizer.schedule = 'cosine'
  config.optimizer.warmup_ratio = 0.04
  config.optimizer.weight_decay = 0.0
  config.optimizer.b1 = 0.9
  config.optimizer.b2 = 0.999
  config.optimizer.eps = 1e-8
  config.optimizer.clip_norm = 1.0
  return config


def prompt(name='plain'):
  """What follows a context, with the fields of data/prompts.py: `prefix`,
  `question` and `answer`. Shipped compressors were trained with 'plain', the
  released adapters with the one that has their data set's name."""
  return ml_collections.ConfigDict(dataclasses.asdict(PROMPTS[name]))


def lora():
  config = ml_collections.ConfigDict()
  config.rank = 8
  config.alpha = 16.0
  config.dropout = 0.05
  config.targets = ('q_proj', 'k_proj', 'v_proj', 'o_proj')
  return config


def dataset():
  """Documents and examples."""
  config = ml_collections.ConfigDict()
  # 'reports' are made from the seed. The others are read from the folder
  # `path`: 'jsonl', your own (data/jsonl.py), or official files of 'scrolls',
  # 'quality', 'qmsum', 'squad', 'fairytaleqa', 'hotpotqa', 'longbench', which
  # with '' tensorflow_datasets may have, or come from their address. Of
  # 'needle' it is a file or folder of texts to hide needles in (.txt, .md,
  # .jsonl); '' makes such texts.
  config.source = 'jsonl'
  config.path = ''
  # SCROLLS' or LongBench's task, SQuAD's version, HotpotQA's setting; what a
  # document of FairytaleQA is, of 'stories' and 'sections'; of needles
  # 'random', of cities, or 'fixed', which has no training split.
  config.part = ''
  # Of the reports, of `validation_share`, and of what the limits below take.
  config.seed = 0
  # Where the data has one split alone, for training or not: the share of its
  # documents that validate; the others train. 0 leaves the data as it is.
  config.validation_share = 0.0
  # Finetune on every answer of a question, not on the first alone; limits of
  # training examples are of answers then.
  config.teach_every_answer = False
  # Limits, 0 for all; how many reports are made. Those of validation hold for
  # any split that is evaluated.
  config.train_documents = 0
  config.train_examples = 0
  config.validation_documents = 0
  config.validation_examples = 0
  config.questions_per_document = 0
  # Words of a made report: the range its length is drawn from.
  config.words = (1300, 4900)
  config.needle = ml_collections.ConfigDict()
  # A document for each length (in tokens of the model), each depth of its
  # needle (in percent) and each repeat.
  config.needle.lengths = (1000, 2000, 4000, 8000)
  config.needle.depths = (0, 11, 22, 33, 44, 56, 67, 78, 89, 100)
  config.needle.train_repeats = 1
  config.needle.validation_repeats = 1
  return config


def finetuning(name):
  """An experiment of the paper: compress, finetune, evaluate."""
  config = ml_collections.ConfigDict()
  config.job = 'finetuning'
  # Names the default workdir, runs/NAME.
  config.name = name
  config.mesh = mesh()
  config.model = model()

  config.data = dataset()

  config.compression = ml_collections.ConfigDict()
  config.compression.segment_length = 1536
  # Documents compressed side by side. On a CPU 1 is best for long segments
  # (README, Measured), more for short ones.
  config.compression.rows = 4
  # Text is tokenised in blocks of so many characters (the paper's code takes
  # 10,000); 0 takes it whole.
  config.compression.block_characters = 0
  # Tokens of a document that are read at most (the paper's cap).
  config.compression.token_cap = 122_880
  # Folder of the summaries; '' is the workdir's own.
  config.compression.store = ''

  config.prompt = prompt()
  config.lora = lora()
  # What is finetuned: 'lloco', the controls 'no_context' and 'truncated', and
  # 'full', on as much of the text as fits the window (needs far more memory).
  config.adapters = ('lloco', 'no_context', 'truncated')
  # Folders or hub names of adapters that those begin with; '' begins afresh.
  config.start = ml_collections.ConfigDict(
    {'lloco': '', 'no_context': '', 'truncated': '', 'full': ''}
  )
  config.batch = ml_collections.ConfigDict()
  config.batch.rows = 1
  config.batch.questions_per_row = 1
  config.epochs = 3
  config.remat = 'projections'
  config.training = training()

  config.evaluation = ml_collections.ConfigDict()
  config.evaluation.split = 'validation'
  # A name of METRICS in evaluation/scoring.py.
  config.evaluation.metric = 'exact_match'
  config.evaluation.max_new_tokens = 16
  # Whether the first line of an answer is scored alone: a base that was not
  # taught to end goes on with questions of its own.
  config.evaluation.first_line = True
  # Questions about a document that are answered at a time, behind one copy of
  # it; fewer take less memory.
  config.evaluation.questions_per_row = 64
  # Rows answered at a time; on a mesh the next number that its data axes
  # divide. Several pay where a document has few questions: decoding them takes
  # an accelerator about as long as decoding one.
  config.evaluation.rows = 1
  config.evaluation.bootstrap_samples = 10_000
  # 0 decodes greedily; above, tokens are drawn from the likeliest that make
  # up `top_p`, by the seed.
  config.evaluation.temperature = 0.0
  config.evaluation.top_p = 1.0
  config.evaluation.seed = 0
  # The checkpoint of the systems without summaries or adapter; '' is the base
  # of the compressor. The paper takes Llama 2 7B Chat
  # (meta-llama/Llama-2-7b-chat-hf) and, for windows of 32k,
  # lmsys/longchat-7b-v1.5-32k.
  config.evaluation.base = ''
  # How that base is asked without context, or with text of its
  # documents: as the reference asks it, by a name of BASE_PROMPTS in
  # data/prompts.py; '' is `prompt`.
  config.evaluation.base_prompt = ''
  # Passages found for a question in its documents and read by the untouched
  # base: any of 'bm25', 'embedding' and 'hybrid' (the extra 'retrieval').
  config.evaluation.retrieval = ()
  config.evaluation.passage_tokens = 512
  config.evaluation.passages = 5
  # Folders or hub names of adapters that were trained elsewhere, in the place
  # of the workdir's; '' takes those of the workdir.
  config.evaluation.adapters = ml_collections.ConfigDict(
    {'lloco': '', 'no_context': '', 'truncated': '', 'full': ''}
  )
  return config


def devices(name):
  """The settings of a name of DEVICES, by key; '' has none.

  Raises:
    ValueError: the name is unknown.
  """
  if name and name not in DEVICES:
    raise ValueError(
      f"There are no settings for the devices '{name}'; use one of "
      f'{", ".join(DEVICES)}.'
    )
  return DEVICES.get(name, {})


def words_of(argument, default='llama2-7b', **others):
  """The words of a config's argument: 'model', 'devices', 'systems' and others.

  They stand between commas, in any order. `others` has what else may be among
  them, by what it is called; of each there may be one, and '' where there is
  none, but of the model, which is `default` then.

  Raises:
    ValueError: a word is unknown, or there are two of a kind.
  """
  known = {
    'model': MODELS,
    'devices': DEVICES,
    'systems': SYSTEMS,
    **others,
  }
  found = {}
  for word in filter(None, argument.split(',')):
    kind = next((kind for kind, words in known.items() if word in words), None)
    if kind is None or kind in found:
      said = '; '.join(
        f'{kind}: {", ".join(words)}' for kind, words in known.items()
      )
      again = f", which has '{found[kind]}' already," if kind else ''
      raise ValueError(
        f"'{word}'{again} is no word for this config, which takes one of each "
        f'({said}), as in llama2-7b,v5e-8.'
      )
    found[kind] = word
  return {'model': default, **dict.fromkeys(list(known)[1:], ''), **found}


def paper(name, argument, source, prompt_name, default='llama2-7b'):
  """An experiment on a data set, with the hyperparameters of the reference.

  They are those of the scripts of github.com/jeffreysijuntan/lloco at commit
  4f8a550, the same for all data sets but where a config says otherwise: 3
  epochs, 8 questions a step, AdamW at 2e-5 with a warm-up of 4% and a cosine,
  LoRA of rank 8. The reference adds up 8 rows over 4 devices; here they are
  accumulated. It also tokenises in blocks of 10,000 characters. Answers are
  decoded greedily, where the reference most likely samples: it passes no
  setting, and Llama 2's own are evaluation.temperature=0.6, top_p=0.9.
  """
  words = words_of(argument, default)
  model = words['model']
  config = finetuning(f'{name}_{model}')
  config.update_from_flattened_dict(MODELS[model])
  config.data.source = source
  config.compression.block_characters = 10_000
  config.prompt = prompt(prompt_name)
  config.batch.rows = 1
  config.batch.questions_per_row = 1
  config.update_from_flattened_dict(devices(words['devices']))
  config.update_from_flattened_dict(SYSTEMS.get(words['systems'], {}))
  config.epochs = 3
  config.training.accumulation = 8 // config.batch.rows
  config.training.optimizer.learning_rate = 2e-5
  config.evaluation.max_new_tokens = 50
  if prompt_name in BASE_PROMPTS:
    # As the reference asks and scores.
    config.evaluation.base_prompt = prompt_name
    config.evaluation.first_line = False
  return config


def combined(name, model, parts):
  """One adapter for several data sets, evaluated on each of them.

  `parts` are experiments by the names of their data sets; their data, prompt
  and evaluation are taken, and all else from the first of them.
  """
  first = next(iter(parts.values()))
  config = ml_collections.ConfigDict(first.to_dict())
  config.job = 'combined'
  config.name = f'{name}_{model}'
  config.sets = ml_collections.ConfigDict()
  for part in ('data', 'prompt', 'evaluation'):
    del config[part]
  for key, experiment in parts.items():
    config.sets[key] = {
      part: experiment[part] for part in ('data', 'prompt', 'evaluation')
    }
  return config


def library(name):
  """Adapters of the groups of a library (README), on its own pairs."""
  config = ml_collections.ConfigDict()
  config.job = 'library'
  config.name = name
  config.mesh = mesh()
  config.library = ml_collections.ConfigDict()
  # Folder of the library, which has the model and all summaries.
  config.library.path = 'runs/library'
  # '' is every group that has question-answer pairs, in turn.
  config.library.group = ''

  # Name of what the questions are asked with, then and later; see
  # data/prompts.py.
  config.prompt = 'plain'
  config.lora = lora()
  config.batch = ml_collections.ConfigDict()
  config.batch.rows = 1
  config.batch.questions_per_row = 24
  config.epochs = 3
  # Weight of the divergence from the base that reads the text itself; that of
  # the answers in the pairs is the rest to 1.
  config.distillation = 0.0
  config.remat = 'projections'
  config.training = training()
  config.training.optimizer.learning_rate = 1e-3
  return config


def compressor(name):
  """Training of a compressor, on made passages or on texts."""
  config = ml_collections.ConfigDict()
  config.job = 'compressor'
  config.name = name
  config.mesh = mesh()
  config.model = model()

  config.summary = ml_collections.ConfigDict()
  # Summary vectors a segment, and how they come from states (nn/config.py).
  config.summary.length = 16
  config.summary.sharpness = 0.0
  # Whether summary tokens are spread over the segment, or at its end.
  config.summary.interleaved = False
  # Segments that gradients pass through.
  config.summary.substep = 2
  # Weight of the loss by which the text after vectors is predicted.
  config.summary.language = 0.0
  # Weight of the loss by which a vector names its tokens.
  config.summary.naming = 0.0
  # Those are a vector's own 'runs' of the segment, or the segment's 'last'.
  config.summary.named = 'runs'
  # Weight of the divergence from the base that reads the text itself.
  config.summary.distillation = 0.0
  # Power of a token's information that it counts with; 0 weighs all alike.
  config.summary.rarity = 4.0
  # Folder of a compressor to go on from; '' begins with a fresh one.
  config.start = ''

  config.data = ml_collections.ConfigDict()
  # 'passages' are made, with questions; 'questions' are those of `dataset`
  # about its documents that fit a row; 'texts' are the .txt, .md and .jsonl
  # files of the folder `path`, or with 'tfds:pg19' what tensorflow_datasets
  # has prepared, without documents whose names begin with one of
  # `leave_out`. Several, with commas between them, take turns.
  config.data.source = 'passages'
  config.data.dataset = dataset()
  config.data.path = ''
  config.data.leave_out = ()
  # Tokens of a segment; of texts they are drawn from `shortest` up. Or each
  # batch of texts has segments of the next of `segment_lengths` alone, and as
  # many more rows, so that no position is padding.
  config.data.segment_length = 64
  config.data.shortest = 64
  config.data.segment_lengths = ()
  config.data.segments = 2
  config.data.questions = 4
  # Rows whose vectors stand together before the questions about them.
  config.data.passages_per_context = 1
  config.data.repeat_share = 0.0
  config.data.facts_per_hundred_words = (4.0, 6.5)
  config.data.width = 64
  config.data.targets = 16
  config.data.seed = 0

  config.lora = lora()
  # Trains all parameters in LoRA's place; what is left is a checkpoint of its
  # own, an AutoCompressor.
  config.all_parameters = False
  config.batch = ml_collections.ConfigDict()
  config.batch.rows = 16
  config.steps = 1000
  config.remat = 'projections'
  config.training = training()
  # The learning rate of the summary embeddings, as a multiple.
  config.training.optimizer.rates = ml_collections.ConfigDict(
    {'embed_summary': 10.0}
  )

  # What eval.py measures: the loss of the end of held-out passages given the
  # segments before it in full, their vectors, or those of another document.
  config.evaluation = ml_collections.ConfigDict()
  config.evaluation.path = ''
  config.evaluation.leave_out = ()
  # 'shipped' or a folder; '' is what training left in the workdir.
  config.evaluation.compressor = ''
  # Who reads the vectors: 'compressor', as in AutoCompressors and LLoCO, or
  # the untouched 'base'.
  config.evaluation.reader = 'base'
  # Numbers of segments; lengths of them to try, in tokens, () for that of the
  # training.
  config.evaluation.segments = (0, 1, 2, 3, 4)
  config.evaluation.segment_lengths = ()
  config.evaluation.target = 512
  config.evaluation.probes_per_document = 2
  config.evaluation.bootstrap_samples = 10_000
  return config
