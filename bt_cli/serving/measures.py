"""What a server counts, in Prometheus's text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from bt_cli.version import __version__

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Measures:
    """Counters of one server, in a registry of its own so that two servers in a process don't share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "bt_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "bt_request_seconds",
            "Seconds to the end of an answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "bt_batch_size",
            "Items worked on in one go.",
            ["kind"],
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.pairs = Counter("bt_pairs_read", "Candidates that the ITM head has read.", registry=self.registry)
        self.called_off = Counter("bt_requests_called_off", "Requests whose caller went.", registry=self.registry)
        self.lane = Gauge("bt_lane_requests", "Requests that run or wait.", ["lane"], registry=self.registry)
        self.rows = Gauge("bt_index_images", "Images of an index.", ["index"], registry=self.registry)
        self.generation = Gauge("bt_index_generation", "Generation of an index.", ["index"], registry=self.registry)
        built = Gauge("bt_build", "The version that runs.", ["version"], registry=self.registry)
        built.labels(__version__).set(1)

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self.registry)
