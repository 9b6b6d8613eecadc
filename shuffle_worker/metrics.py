"""What Prometheus reads from a worker. Labels are bounded: never a job's or a shuffle's name.

Figures that the store and the transport count themselves are read at the scrape (`_Figures`); only durations and
outcomes, which nobody else keeps, are counted here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

# (name of the figure, name of the metric, what it is). A figure may be a number or a mapping of one label to numbers.
Figures = Callable[[], Mapping[str, float | Mapping[str, float]]]


class Described:
    """How one figure becomes a metric."""

    def __init__(self, figure: str, metric: str, text: str, label: str = "", counter: bool = False) -> None:
        self.figure = figure
        self.metric = metric
        self.text = text
        self.label = label
        self.family = CounterMetricFamily if counter else GaugeMetricFamily

    def build(self, value: float | Mapping[str, float]) -> Metric:
        family = self.family(f"shuffle_{self.metric}", self.text, labels=[self.label] if self.label else None)
        if isinstance(value, Mapping):
            for name, number in value.items():
                family.add_metric([name], number)
        else:
            family.add_metric([], value)
        return family


class _FigureCollector(Collector):
    def __init__(self, figures: Figures, described: Iterable[Described]) -> None:
        self._figures = figures
        self._described = tuple(described)

    def collect(self) -> Iterator[Metric]:
        figures = self._figures()
        for described in self._described:
            yield described.build(figures[described.figure])


class Metrics:
    """One worker's metrics: `observe` durations, count outcomes, `render` all."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.map_tasks = Counter(
            "shuffle_map_tasks", "Map attempts that ended, by outcome", ["outcome"], registry=self.registry
        )
        self.jobs = Counter(
            "shuffle_jobs", "Jobs coordinated here that ended, by phase", ["phase"], registry=self.registry
        )
        self.partition_seconds = self._histogram("partition", "Hashing and scattering one batch")
        self.send_seconds = self._histogram("send", "Handing one frame to its owner, waiting for credit included")
        self.sink_seconds = self._histogram("sink", "Decoding and writing one run of frames")
        self.read_seconds = self._histogram("read", "Reading and decoding one batch of the source")

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"shuffle_{name}_seconds", text, buckets=_SECONDS, registry=self.registry)

    def add_figures(self, figures: Figures, described: Iterable[Described]) -> None:
        """Serve figures that somebody else counts; called at each scrape."""
        self.registry.register(_FigureCollector(figures, described))

    def render(self) -> str:
        return generate_latest(self.registry).decode()
