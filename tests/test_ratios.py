"""Scores against the compression of runs."""

import dataclasses

from made_up_systems import CONTROLS, made_up_systems
import pytest

from lloco_jax.__main__ import main
from lloco_jax.evaluation.ratios import ratio_figure, ratio_text, read_ratios
from lloco_jax.evaluation.results import write_results


def write(folder, ratio, seed=0, metric='f1', systems=None):
  results = write_results(
    folder / 'evaluation',
    systems or made_up_systems(seed=seed),
    metric,
    CONTROLS,
    samples=50,
    tokens_per_vector=ratio,
  )
  return results


@pytest.fixture
def runs(tmp_path):
  for name, ratio, seed in (('far', 30.72, 1), ('near', 7.9, 0)):
    write(tmp_path / name, ratio, seed)
  return [str(tmp_path / name) for name in ('far', 'near')]


def test_runs_stand_by_their_ratio(runs, tmp_path):
  near, far = read_ratios(runs)
  assert (near.run, far.run) == (runs[1], runs[0])
  assert far.tokens_per_vector == 30.72
  expected = write(tmp_path / 'again', 1.0, seed=1)
  assert list(far.scores) == ['LLoCO', 'compressed without finetuning']
  assert far.scores['LLoCO'] == expected.scores['LLoCO']
  said = ratio_text([near, far]).splitlines()
  assert said[0] == 'F1 x100 by tokens a vector:' and len(said) == 5
  assert said[1].split()[:3] == [
    '7.9', runs[1], f"{100 * near.scores['LLoCO'].mean:.1f}",
  ]  # fmt: skip
  main, untuned = ratio_figure([near, far]).axes[0].get_lines()[::3]
  assert main.get_xdata().tolist() == [7.9, 30.72]
  assert untuned.get_ydata()[0] == pytest.approx(
    100 * near.scores['compressed without finetuning'].mean
  )


def test_runs_that_were_asked_other_questions(runs, tmp_path):
  write(tmp_path / 'fewer', 3.0, systems=made_up_systems(documents=10))
  said = ratio_text(read_ratios([*runs, str(tmp_path / 'fewer')]))
  assert 'same: 80 questions are in every run' in said
  assert f'{runs[0]} 96' in said
  assert 'same' not in ratio_text(read_ratios(runs))
  others = [
    dataclasses.replace(
      system,
      answers=tuple(
        dataclasses.replace(answer, example_id=f'other {answer.example_id}')
        for answer in system.answers
      ),
    )
    for system in made_up_systems()
  ]
  write(tmp_path / 'other', 3.0, systems=others)
  with pytest.raises(ValueError, match='share no question'):
    read_ratios([runs[0], str(tmp_path / 'other')])


def test_the_command_draws(runs, tmp_path, capsys):
  output = tmp_path / 'plot.png'
  main(['ratios', *runs, f'--output={output}'])
  assert output.read_bytes().startswith(b'\x89PNG')
  assert f'Plot: {output}' in capsys.readouterr().out
  main(['ratios', *runs, f'--output={tmp_path / "plot.pdf"}'])
  assert (tmp_path / 'plot.pdf').read_bytes().startswith(b'%PDF')
  with pytest.raises(SystemExit, match='of no format.* pdf, .*png'):
    main(['ratios', *runs, f'--output={tmp_path / "plot.doc"}'])
  with pytest.raises(SystemExit, match='is a folder; name a file in it'):
    main(['ratios', *runs, f'--output={tmp_path}'])


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path):
  others = [
    dataclasses.replace(
      system,
      answers=tuple(
        dataclasses.replace(answer, references=('other',))
        for answer in system.answers
      ),
    )
    for system in made_up_systems()
  ]
  write(tmp_path / 'changed', 3.0, systems=others)
  with pytest.raises(ValueError, match="has another references in '.*changed'"):
    read_ratios([*runs, str(tmp_path / 'changed')])
  write(tmp_path / 'other', 3.0, metric='exact_match')
  with pytest.raises(ValueError, match='by f1, .* by exact_match; evaluate'):
    read_ratios([runs[0], str(tmp_path / 'other')])
  write(tmp_path / 'old', None)
  with pytest.raises(ValueError, match='does not say how many tokens'):
    read_ratios([str(tmp_path / 'old')])
