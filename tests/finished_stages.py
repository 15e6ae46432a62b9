"""Folders of stages that are done and hold nothing, for those that look."""

from collections.abc import Mapping
from typing import Any

from rest_jax.artifacts import stage_work, storage


def finish(
  folder: storage.PathLike,
  stage: str,
  recorded: Mapping[str, Any] | None = None,
) -> None:
  """Makes the folder of a stage that has finished.

  Args:
    folder: of the stage.
    stage: its name.
    recorded: facts of its manifest.
  """
  with stage_work.work_on(
    folder, stage=stage, kind=None, semantic={}, inputs={}, version=1
  ) as work:
    work.finish(recorded=dict(recorded or {}))
