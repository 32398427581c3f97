"""What proposes the next network; importing one registers it."""

from featherweight.searching.samplers import (
    controller,
    even_draws,
    evolution,
    optuna_samplers,
    predictor,
)

__all__ = ["controller", "even_draws", "evolution", "optuna_samplers", "predictor"]
