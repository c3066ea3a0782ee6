"""What the GPU benchmarks share: the machine, the checkpoints, one server that stays up."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.bench.capacity import Capacity, CapacitySearch, nearly_all_within
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import generate_load
from loadtest.bench.plan import (
    ClosedLoop,
    Dialect,
    EncoderWork,
    OpenLoop,
    Plan,
    Protocol,
    RunReport,
)
from loadtest.bench.running import Say
from loadtest.bench.servers import RunningServer
from loadtest.bench_gpu.checkpoints import write_bert_apart
from loadtest.bench_gpu.device_findings import DeviceFindings, DeviceRuns, run_on_device
from loadtest.bench_gpu.pace import FULL, TINY, GpuPace
from loadtest.bench_gpu.serving import BATCHING, OurServer

CONNECTIONS = 2048
DRAIN_S = 3.0
WARMING_IN_FLIGHT = 64  # of each generator


@dataclass(frozen=True, slots=True)
class Target:
    """Where load goes."""

    port: int
    model: str
    dialect: Dialect = Dialect.V2


@dataclass(slots=True)
class GpuContext:
    """`tiny`: small models and short runs, on any device. Use it in a `with` block."""

    tiny: bool
    device: str
    gpu: str  # its name
    folder: Path
    workers: int  # edge processes
    generators: int  # processes of the load generator
    say: Say
    rival_sites: Path | None = None  # a folder of packages for each rival
    rival_settings: int = 4  # of each rival, to be tried
    search_limit_s: float | None = None  # instead of the pace's
    _checkpoint: Path | None = None
    _device_findings: DeviceFindings | None = None
    _device_failure: BenchError | None = None
    _capacities: dict[tuple[float, EncoderWork], Capacity[RunReport]] = field(default_factory=dict)
    _ours: OurServer = field(default_factory=OurServer)

    @property
    def rehearses(self) -> bool:
        """Who gives a search its time wants a figure, of a tiny model too."""
        return self.tiny and self.search_limit_s is None

    @property
    def pace(self) -> GpuPace:
        return TINY if self.rehearses else FULL

    @property
    def dtype(self) -> str:
        return "float32" if self.device == "cpu" else "bfloat16"

    @property
    def model_name(self) -> str:
        return "a tiny BERT" if self.tiny else "BERT-base"

    def checkpoint(self) -> Path:
        """The classifier's folder, made by the first benchmark that asks."""
        if self._checkpoint is None:
            self.say("making the checkpoint")
            folder = self.folder / "bert"
            write_bert_apart(folder, tiny=self.tiny)
            self._checkpoint = folder
        return self._checkpoint

    def on_device(self) -> DeviceFindings:
        """What the device does without a server, measured once. Raises BenchError each time."""
        if self._device_failure is not None:
            raise self._device_failure
        if self._device_findings is None:
            self.stop_server()  # it would share the device
            runs = DeviceRuns(
                model_dir=str(self.checkpoint()),
                device=self.device,
                dtype=self.dtype,
                seconds=self.pace.device_s,
                max_batch_size=BATCHING.max_batch_size,
                max_batch_tokens=BATCHING.max_batch_tokens,
            )
            self.say("device and engine: loading, then offline, padded, engine, eager")
            try:
                self._device_findings = run_on_device(runs)
            except BenchError as error:
                self._device_failure = error
                raise
        return self._device_findings

    def server(
        self,
        slo_ms: float,
        *,
        capture: bool = True,
        workers: int | None = None,
        max_slice_ms: float | None = None,
    ) -> RunningServer:
        """Our server with that SLO, and longest slice of bulk, in force; the one that is up is
        kept where it will do."""
        flags = (
            *("--task", "text-classification", "--model_dir", str(self.checkpoint())),
            *("--device", self.device, "--dtype", self.dtype, "--host", "127.0.0.1"),
            *("--workers", str(workers or self.workers)),
            *(() if capture else ("--capture_graphs", "false")),
        )
        return self._ours.serve(flags, slo_ms, self.say, max_slice_ms)

    def stop_server(self) -> None:
        self._ours.stop()

    def open_loop(
        self,
        target: Target,
        rate_per_s: float,
        *,
        slo_ms: float,
        seconds: float,
        work: EncoderWork,
        seed: int = 1,
    ) -> RunReport:
        return generate_load(
            Plan(
                port=target.port,
                model=target.model,
                dialect=target.dialect,
                load=OpenLoop(rate_per_s=rate_per_s, max_connections=CONNECTIONS),
                work=work,
                seconds=seconds,
                drain_s=DRAIN_S,
                slo_ms=slo_ms,
                seed=seed,
                processes=self.generators if rate_per_s > 1000 else 1,
            )
        )

    def closed_loop(
        self,
        server: RunningServer,
        in_flight: int,
        *,
        work: EncoderWork,
        protocol: Protocol = Protocol.HTTP,
    ) -> RunReport:
        http = protocol is Protocol.HTTP
        return generate_load(
            Plan(
                port=server.http_port if http else server.grpc_port,
                model=server.model,
                load=ClosedLoop(in_flight=in_flight),
                protocol=protocol,
                work=work,
                seconds=self.pace.run_s,
                drain_s=DRAIN_S,
                processes=self.generators,
            )
        )

    def capacity(
        self, slo_ms: float, server_slo_ms: float, work: EncoderWork
    ) -> Capacity[RunReport]:
        """The highest rate with 99% answered within the SLO; each is searched once."""
        key = (slo_ms, work)
        if key not in self._capacities:
            server = self.server(server_slo_ms)
            self._capacities[key] = self.search(
                Target(server.http_port, server.model),
                f"capacity at {slo_ms:.0f} ms",
                slo_ms,
                work,
                self.likely_rate_per_s(),
                warming_processes=self.generators,
            )
        return self._capacities[key]

    def search(
        self,
        target: Target,
        label: str,
        slo_ms: float,
        work: EncoderWork,
        start_rate_per_s: float,
        *,
        warming_processes: int = 1,
    ) -> Capacity[RunReport]:
        self._warm(target, work, warming_processes)
        ends_at = time.monotonic() + (self.search_limit_s or self.pace.search_limit_s)

        def probe(rate_per_s: float, attempt: int) -> RunReport:
            report = self.open_loop(
                target,
                rate_per_s,
                slo_ms=slo_ms,
                seconds=self.pace.probe_s,
                work=work,
                seed=1 + attempt,
            )
            p99_ms = report.latency.p99_ms if report.latency else float("nan")
            in_time = report.within_slo / max(1, report.scheduled)
            self.say(f"{label}: {rate_per_s:.0f}/s, p99 {p99_ms:.1f} ms, {in_time:.1%} in time")
            return report

        search = CapacitySearch(
            probe,
            resolution=self.pace.resolution,
            max_probes=self.pace.max_probes,
            out_of_time=lambda: time.monotonic() > ends_at,
        )
        return search.highest(nearly_all_within, start_rate_per_s)

    def _warm(self, target: Target, work: EncoderWork, processes: int) -> None:
        """Some traffic before a search: it asks what a server holds, not how it starts."""
        generate_load(
            Plan(
                port=target.port,
                model=target.model,
                dialect=target.dialect,
                load=ClosedLoop(in_flight=WARMING_IN_FLIGHT * processes),
                processes=processes,
                work=work,
                seconds=self.pace.probe_s,
                drain_s=DRAIN_S,
            )
        )

    def likely_rate_per_s(self) -> float:
        """Where to start looking for a capacity."""
        if self.tiny:
            return 800.0
        found = self._device_findings
        return 0.6 * found.best.rows_per_s if found else 12_000.0
