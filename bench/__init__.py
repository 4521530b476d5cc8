"""orl-bench: a benchmark of differentially private synthesizers of offline-RL datasets.

These names are the plugin API: all that a synthesizer, agent, metric, attack or environment of your own needs; one that reads a file of trajectories
has `bench.envs.d4rl.D4rlFile` too. Everything else may change.
"""

from bench.core.data import Column, Schema, Transitions, Unit, View
from bench.core.errors import InputError
from bench.core.privacy import DPSGD, Budget, Exponential, Gaussian, Ledger, PlanError
from bench.core.protocols import (
    Agent,
    Attack,
    Audit,
    AuditReport,
    AuditSubject,
    Environment,
    Estimate,
    Guarantee,
    LearningCurve,
    LowerBound,
    Metric,
    Pretraining,
    Runtime,
    Sampler,
    State,
    Synthesizer,
    Target,
)
from bench.core.registry import register

__all__ = [
    "DPSGD",
    "Agent",
    "Attack",
    "Audit",
    "AuditReport",
    "AuditSubject",
    "Budget",
    "Column",
    "Environment",
    "Estimate",
    "Exponential",
    "Gaussian",
    "Guarantee",
    "InputError",
    "LearningCurve",
    "Ledger",
    "LowerBound",
    "Metric",
    "PlanError",
    "Pretraining",
    "Runtime",
    "Sampler",
    "Schema",
    "State",
    "Synthesizer",
    "Target",
    "Transitions",
    "Unit",
    "View",
    "register",
]
