"""All experiments, in the order of the report."""

from proxy.lab.experiment import Experiment
from proxy.lab.experiments.burst import Burst
from proxy.lab.experiments.dynamic import DynamicPage
from proxy.lab.experiments.files import StaticFiles
from proxy.lab.experiments.idle import IdleConnections
from proxy.lab.experiments.journey import Journey
from proxy.lab.experiments.malformed import MalformedRequests
from proxy.lab.experiments.public import PublicPage
from proxy.lab.experiments.restart import Restart
from proxy.lab.experiments.slow_clients import SlowClients

EXPERIMENTS: tuple[Experiment, ...] = (
    DynamicPage(),
    PublicPage(),
    StaticFiles(),
    SlowClients(),
    IdleConnections(),
    Burst(),
    Restart(),
    MalformedRequests(),
    Journey(),
)
