"""MnasNet's controller: a recurrent network draws one choice after the other, and learns by PPO.

Source: Tan et al. 2018, arXiv 1807.11626v3, section 4.2: the controller of NASNet (Zoph et al.
2018, arXiv 1707.07012) with proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347,
equation 7). MnasNet prints no hyperparameters; NASNet's are an LSTM of 100, weights within 0.1,
Adam at 3.5e-4, an entropy weight of 1e-5 and a baseline that averages with 0.95.

Deviations and readings:
    - Adam at 5e-3, ten epochs over every generation, and an entropy weight of 1e-3: NASNet's values
      are for some ten thousand networks, and change nothing in two hundred.
    - Draws that were too slow are known before any training: they teach the controller with the
      reward 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.searching.sampler import (
    GENERATION,
    SAMPLERS,
    Judge,
    Proposal,
    Seen,
    allowed_point,
)
from featherweight.searching.space import Point, Space

__all__ = ["Controller", "ControllerSampler", "clipped_objective"]

_HIDDEN, _EMBEDDING, _WITHIN = 100, 32, 0.1
_CLIP = 0.2
_MOST_SLOW = 20
"""Of the slow draws of one trial that teach: a policy that finds nothing fast draws hundreds."""


class Controller(nn.Module):
    """An LSTM that decides the choices in order; each sees the option taken before it.

    Args:
        sizes: number of options of every choice.
        seed: of the weights. Those that decide begin at 0: every option is equally likely.
    """

    def __init__(self, sizes: Sequence[int], *, seed: int) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.cell = nn.LSTMCell(_EMBEDDING, _HIDDEN)
        self.begin = nn.Parameter(torch.zeros(1, _EMBEDDING))
        self.embeddings = nn.ModuleList(nn.Embedding(size, _EMBEDDING) for size in self.sizes)
        self.deciders = nn.ModuleList(nn.Linear(_HIDDEN, size) for size in self.sizes)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-_WITHIN, _WITHIN, generator=generator)
            for decider in self.deciders:
                for parameter in decider.parameters():
                    parameter.zero_()

    def draw(self, *, generator: torch.Generator) -> Point:
        """Draw one point."""
        point: list[int] = []
        with torch.no_grad():
            state, given = None, self.begin
            for index, decide in enumerate(self.deciders):
                state = self.cell(given, state)
                shares = torch.softmax(decide(state[0]), dim=1)[0]
                point.append(int(torch.multinomial(shares, 1, generator=generator)))
                given = self.embeddings[index](torch.tensor(point[-1:]))
        return tuple(point)

    def log_probabilities(self, points: Sequence[Point]) -> tuple[Tensor, Tensor]:
        """Return the log-probability and the entropy of every point, both of shape (points,)."""
        options = torch.tensor(points, dtype=torch.long)
        state, given = None, self.begin.expand(len(points), -1)
        chosen, entropy = torch.zeros(len(points)), torch.zeros(len(points))
        for index, decide in enumerate(self.deciders):
            state = self.cell(given, state)
            logs = torch.log_softmax(decide(state[0]), dim=1)
            chosen = chosen + logs.gather(1, options[:, index : index + 1])[:, 0]
            entropy = entropy - (logs.exp() * logs).sum(1)
            given = self.embeddings[index](options[:, index])
        return chosen, entropy


def clipped_objective(ratio: Tensor, advantage: Tensor, *, clip: float = _CLIP) -> Tensor:
    """Return what is maximised for every draw: min(r A, clip(r, 1 - e, 1 + e) A).

    Args:
        ratio: probability now over probability when drawn.
        advantage: reward above the baseline.
        clip: e.

    Source: Schulman et al. 2017, arXiv 1707.06347, equation 7.
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


@dataclass
class ControllerSampler:
    """Draws from the controller, which learnt from every complete generation.

    Attributes:
        space: of the points.
        learning_rate, epochs, entropy_weight: of PPO.
        kept: share of the baseline that a generation keeps.
    """

    space: Space
    learning_rate: float = 5e-3
    epochs: int = 10
    entropy_weight: float = 1e-3
    kept: float = 0.95
    _controller: Controller | None = field(default=None, repr=False)
    _optimizer: torch.optim.Optimizer | None = field(default=None, repr=False)
    _learnt: tuple[Seen, ...] = field(default=(), repr=False)
    _baseline: float | None = field(default=None, repr=False)

    def propose(
        self,
        seen: Sequence[Seen],
        *,
        judge: Judge,
        generator: np.random.Generator,
    ) -> Proposal:
        """Return the first draw that is new and fast enough, and what was too slow before it."""
        controller = self._taught(tuple(seen))
        own = torch.Generator().manual_seed(int(generator.integers(2**31)))
        found = allowed_point(
            self.space,
            lambda: controller.draw(generator=own),
            judge=judge,
            generator=generator,
            attempts=200,
        )
        return found._replace(slow=found.slow[:_MOST_SLOW])

    def _taught(self, seen: tuple[Seen, ...]) -> Controller:
        """Return the controller after all generations of `seen`; one that knows some goes on."""
        if self._controller is None or seen[: len(self._learnt)] != self._learnt:
            self._controller = Controller(
                [len(choice.options) for choice in self.space.choices], seed=0
            )
            self._optimizer = torch.optim.Adam(self._controller.parameters(), lr=self.learning_rate)
            self._learnt, self._baseline = (), None
        for _, generation in groupby(seen[len(self._learnt) :], key=_generation):
            self._learn(tuple(generation))
        self._learnt = seen
        return self._controller

    def _learn(self, generation: Sequence[Seen]) -> None:
        controller, optimizer = self._controller, self._optimizer
        assert controller is not None
        assert optimizer is not None
        rewards = np.array([one.score for one in generation])
        mean = float(rewards.mean())
        if self._baseline is None:
            self._baseline = mean
        advantage = torch.tensor(rewards - self._baseline, dtype=torch.float32)
        spread = float(rewards.std())
        advantage = advantage / spread if spread > 1e-9 else torch.zeros_like(advantage)
        self._baseline = self.kept * self._baseline + (1 - self.kept) * mean
        points = [one.point for one in generation]
        with torch.no_grad():
            before, _ = controller.log_probabilities(points)
        for _ in range(self.epochs):
            now, entropy = controller.log_probabilities(points)
            gain = clipped_objective((now - before).exp(), advantage)
            loss = -(gain + self.entropy_weight * entropy).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def _generation(one: Seen) -> int:
    return one.trial // GENERATION


SAMPLERS.add("ppo", ControllerSampler)
