"""What a run prints of its config."""

import json

from ml_collections import ConfigDict
import pytest

from lloco_jax.runs import announce, workdir_of


def test_a_config_reads_as_it_is_typed(tmp_path, capsys):
  config = ConfigDict({'data': {'source': 'reports', 'words': (1, 2)}})
  announce(config, tmp_path)
  assert capsys.readouterr().out == (
    f'Config, to be saved in {tmp_path}:\n'
    "  data.source = 'reports'\n"
    '  data.words = (1, 2)\n\n'
  )


def test_the_folder_of_a_run(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  config = ConfigDict({'name': 'reports'})
  assert str(workdir_of(config)) == 'runs/reports'
  assert workdir_of(config, '~/mine') == tmp_path / 'mine'
  with pytest.raises(ValueError, match='path is empty'):
    workdir_of(config, '')


def test_of_a_saved_config_only_differences_are_printed(tmp_path, capsys):
  config = ConfigDict({'data': {'source': 'reports', 'words': (1, 2)}})
  path = tmp_path / 'config.json'
  path.write_text(json.dumps({**config.to_dict(), 'fingerprints': {}}))
  announce(config, tmp_path)
  assert capsys.readouterr().out == f'Config: {path}\n\n'
  config.data.source = 'jsonl'
  announce(config, tmp_path)
  assert capsys.readouterr().out == (
    f"Config: {path}, but for:\n  data.source = 'jsonl'\n\n"
  )
