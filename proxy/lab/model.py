"""What a run of the lab found: the values that are written as JSON and read by table and page.

A report says everything that its reader needs to doubt it: the machine, the versions, the exact
configurations, what was left out and why, every round beside its median. Nothing in it is worked
out when it is shown: what a picture needs is in here.
"""

from dataclasses import dataclass, field
from typing import Literal, final

import msgspec

from proxy.errors import LabError

FORMAT = 1

Better = Literal["less", "more", ""]
Outcome = Literal["measured", "failed", "skipped"]
Verdict = Literal["refused", "cleaned", "passed", "smuggled", "silent"]
Picture = Literal["bars", "distribution", "timeline", "outcomes", "probes", "journey"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where it was measured."""

    cpu: str
    cpus: int
    memory_bytes: int
    system: str
    python: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for. `pace`: "quick", "full" or "tiny" (the sizes of tests)."""

    pace: str
    rounds: int
    round_s: float
    application: str
    page: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationFile:
    """A file that the lab wrote for a stack, or the command that started it ("command")."""

    name: str
    text: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One way to serve the application.

    `layers`: from the visitor inwards, the application last. `skipped`: why it did not run, ""
    when it did.
    """

    key: str
    title: str
    summary: str
    layers: list[str]
    version: str = ""
    configuration: list[ConfigurationFile] = field(default_factory=list)
    skipped: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure of an experiment.

    `unit` is as it is shown: "µs", "ms", "s", "MiB", "KiB", "requests/s", "%", "" for a number.
    """

    key: str
    title: str
    unit: str
    better: Better
    explanation: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A metric of one stack: every round, and their median, least and most."""

    median: float
    least: float
    most: float
    rounds: list[float]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Latencies, in milliseconds, from the time when a request was meant to start.

    `percentiles`: pairs of a percentile (50 to 100) and its latency. `samples`: at most 2,000 of
    `count`, evenly chosen from all in order of size, so that they draw the same curve. A request
    that was given up counts with the time that it waited; other failures are in neither.
    """

    percentiles: list[tuple[float, float]]
    samples: list[float]
    count: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A tenth of a second or so of a timeline: what was *meant to start* in it.

    `at_s` is where it begins, `median_ms` and `worst_ms` are of the good answers, 0 when none.
    """

    at_s: float
    good: int
    errors: int
    median_ms: float
    worst_ms: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at a time of the timeline: "the application is killed"."""

    at_s: float
    text: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A visit from start to end. `step_s` is the length of a moment."""

    step_s: float
    moments: list[Moment]
    marks: list[Mark]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A malformed request and what became of it.

    `sent`: the bytes, escaped for reading. `answer`: the status line, "" when there was none.
    `verdict`: "refused" before the application; "cleaned": the application saw a harmless form;
    "passed": it saw it as it was sent; "smuggled": it saw two requests where the front saw one;
    "silent": the connection was closed, nothing came, or an answer that says nothing about it.
    """

    key: str
    title: str
    sent: str
    answer: str
    verdict: Verdict
    explanation: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of a stack under load; `pss_bytes` is 0 where the system does not tell."""

    name: str
    layer: str
    rss_bytes: int
    pss_bytes: int
    user_s: float
    system_s: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of a request's journey, from `start_ms` after the visitor began to connect.

    `name` is one of `journey.PARTS`, `layer` who took the time.
    """

    name: str
    layer: str
    start_ms: float
    duration_ms: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an experiment found for a stack.

    `reason` says why it failed or was skipped. `answers` counts what the visitor got, by name:
    "good", "wrong status", "wrong body", "503", "refused", "broken off", "timed out". `errors` is
    the sum of what counts as an error in this experiment; a stack with wrong answers has failed,
    and then has no figures. `generator_cpu`: the share of a CPU that the load generator took, of
    1; the highest of all rounds.
    """

    stack: str
    outcome: Outcome
    reason: str = ""
    figures: dict[str, Figure] = field(default_factory=dict)
    requests: int = 0
    errors: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    distribution: Distribution | None = None
    timeline: Timeline | None = None
    probes: list[Probe] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    journey: list[Span] = field(default_factory=list)
    generator_cpu: float = 0.0
    notes: list[str] = field(default_factory=list)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One question. `headline` is the key of the metric that answers it.

    `method`: what was done, in a sentence or two with its sizes. `picture`: what suits it;
    "bars" of the headline with its spread, "outcomes": bars of `answers`, "journey": the parts of
    one request.
    """

    key: str
    number: int
    title: str
    question: str
    method: str
    picture: Picture
    headline: str
    metrics: list[Metric]
    results: list[Result]
    notes: list[str] = field(default_factory=list)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What the load generator can do against a server that does nothing.

    `rate` in requests per second; a round is trusted while the generator took less than
    `trusted_cpu` of a CPU, or the rate stayed below half of `rate`. `conclusion` is a sentence.
    """

    rate: float
    generator_us: float
    trusted_cpu: float
    conclusion: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole run. `took_s` is how long it took, `made_at` in ISO 8601 with its zone."""

    format: int
    made_at: str
    took_s: float
    machine: Machine
    options: Options
    versions: dict[str, str]
    stacks: list[Stack]
    experiments: list[Experiment]
    calibration: Calibration | None = None
    notes: list[str] = field(default_factory=list)


def to_json(report: Report) -> bytes:
    """Write a report, indented, for programs and for keeping."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def from_json(document: bytes) -> Report:
    """Read a report. Raises LabError when it is none."""
    try:
        report = msgspec.json.decode(document, type=Report)
    except msgspec.MsgspecError as error:
        raise LabError(f"this is not a report of `proxyd lab --json`: {error}") from None
    if report.format != FORMAT:
        raise LabError(f"this report has format {report.format}, and this proxyd reads {FORMAT}")
    return report
