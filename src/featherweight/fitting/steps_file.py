"""The steps of NetAdapt in a run directory: read back when an attempt was cut between them."""

from __future__ import annotations

from pathlib import Path

from featherweight.adapting.steps import Step
from featherweight.journal import Journal
from featherweight.networks.storage import load_network
from featherweight.nn.network import Network
from featherweight.records import to_plain

__all__ = ["StepsFile"]


class StepsFile:
    """adapt.jsonl: the steps of NetAdapt, one line each, and the network after the last one."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._journal = Journal(run / "adapt.jsonl")

    def read(self) -> tuple[Step, ...]:
        """Return the steps that were made."""
        return tuple(Step.model_validate(line) for line in self._journal.read())

    def network(self) -> Network | None:
        """Return the network after the last step; `None` = it is the parent."""
        folder = self.folder()
        return None if folder is None else load_network(self._run / folder).classifier

    def folder(self) -> str | None:
        """Return where that network is, relative to the run."""
        folders = [step.folder for step in self.read() if step.folder is not None]
        return folders[-1] if folders else None

    def append(self, step: Step) -> None:
        """Write a step down."""
        self._journal.append(to_plain(step))
