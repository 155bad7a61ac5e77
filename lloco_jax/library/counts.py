"""What became of the files of a folder that is added."""

import dataclasses

from lloco_jax.progress import duration


@dataclasses.dataclass
class Counts:
  """What became of the files of a folder.

  `refused` and `remarks` are sentences, of which each has been printed.
  `tokens`, `cut_tokens` and `vectors` are of what was added, continued
  or updated.
  """

  added: int = 0
  unchanged: int = 0
  updated: int = 0
  continued: int = 0
  removed: int = 0
  refused: list[str] = dataclasses.field(default_factory=list)
  remarks: list[str] = dataclasses.field(default_factory=list)
  passed_over: dict[str, int] = dataclasses.field(default_factory=dict)
  tokens: int = 0
  cut_tokens: int = 0
  vectors: int = 0
  seconds: float = 0.0

  def refuse(self, sentence: str) -> None:
    """Counts a file as refused, and says why."""
    self.refused.append(sentence)
    print(f'Refused: {sentence}', flush=True)

  def remark(self, sentence: str) -> None:
    """Says what is not in the text of a file."""
    self.remarks.append(sentence)
    print(f'Note: {sentence}', flush=True)

  def text(self) -> str:
    """The summary at the end of a call."""
    said = [
      f'{self.added} added, {self.unchanged} unchanged, {self.updated} '
      f'updated, {self.continued} continued, {self.removed} removed, '
      f'{len(self.refused)} refused; {self.tokens:,} tokens in '
      f'{self.vectors:,} vectors, {duration(self.seconds)}.'
    ]
    if self.cut_tokens:
      said.append(f'The token cap cut off {self.cut_tokens:,} tokens.')
    if self.passed_over:
      kinds = ', '.join(
        f'{count} {kind}' for kind, count in sorted(self.passed_over.items())
      )
      said.append(
        f'Passed over: {kinds}; files of text, Markdown, HTML and PDF are read.'
      )
    return '\n'.join(said)
