"""The observer that counts facts for Prometheus."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from predictor.core.facts import (
    Completed,
    Dispatched,
    EdgeRefused,
    EdgesConnected,
    EdgeTimed,
    Fact,
    JobsSeen,
    MemoryExhausted,
    Offered,
    ParametersInForce,
    ParametersRejected,
    ProcessRestarted,
    Settled,
    Snapshot,
    TokensCame,
)
from predictor.core.parameters import MAX_TIERS, TierParameters
from predictor.core.rows import Outcome
from predictor.metrics.devices import DeviceReader, nvml_reader
from predictor.metrics.exposition import EMPTY_SNAPSHOT, Exposition
from predictor.metrics.names import PROTOCOLS, UNKNOWN
from predictor.metrics.tallies import EdgeTally, ModelTally, Slo, Tallies, TierTally

_log = logging.getLogger(__name__)

# Tiers come and go with the parameters, but their series stay. Past this many in the life
# of a process the rest share the label "unknown".
MAX_TIERS_COUNTED = 4 * MAX_TIERS


class PrometheusObserver:
    """Counts facts, and renders all metrics of this process for a scraper.

    All methods belong to the event loop's thread. None of them raises.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        models: Sequence[str],
        tiers: Callable[[], Mapping[str, TierParameters]],
        *,
        read_devices: DeviceReader | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`snapshot` and `tiers` (those in force, by name) are asked at every scrape.

        `models` are the names served. `read_devices` is NVML where None is given;
        `clock` gives Unix time in seconds.
        """
        self._snapshot = snapshot
        self._tiers = tiers
        self._clock = clock
        self._device_free_s: float | None = None
        self._told: set[str] = set()
        self._tallies = Tallies(
            models={model: ModelTally() for model in models},
            jobs={model: JobsSeen(model, 0, 0, 0, replicas=1) for model in models},
        )
        self._exposition = Exposition(
            self._tallies, self._snapshot_now, read_devices or nvml_reader()
        )
        self._add_new_tiers()

    def observe(self, fact: Fact, /) -> None:
        """Count one fact; about a microsecond."""
        try:
            self._count(fact)
        except Exception:  # serving must not depend on counting
            self._failed("a fact could not be counted")

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics, and their content type: OpenMetrics if `accept` asks for it, or text."""
        self._add_new_tiers()
        return self._exposition.render(accept)

    def _count(self, fact: Fact) -> None:
        match fact:  # the most frequent first
            case Settled():
                self._settled(fact)
            case TokensCame():
                self._tokens_came(fact)
            case Offered():
                tier = self._tier(fact.model, fact.tier)
                tier.offered_requests += 1
                tier.offered_rows += fact.rows
                tier.offered_tokens += fact.tokens
                tier.offered_work_s += fact.work_s
                tier.row_tokens.observe(fact.tokens / max(fact.rows, 1), fact.rows)
            case EdgeTimed():
                edge = self._edge(fact.model, fact.protocol)
                edge.decode.observe(fact.decode_s)
                edge.tokenise.observe(fact.tokenise_s)
                edge.encode.observe(fact.encode_s)
            case EdgeRefused():
                self._tier(fact.model, UNKNOWN).outcomes[fact.outcome].requests += 1
            case Dispatched():
                self._model(fact.batch.model).batches[fact.batch.reason] += 1
            case Completed():
                self._completed(fact)
            case MemoryExhausted():
                self._model(fact.model).memory_exhausted += 1
            case _:
                self._count_rare(fact)

    def _count_rare(self, fact: Fact) -> None:
        match fact:
            case ParametersInForce():
                self._tallies.process.parameters_accepted += 1
                self._tallies.process.generation = fact.generation
            case ParametersRejected():
                self._tallies.process.parameters_refused += 1
                self._tallies.process.last_refusal_s = self._clock()
            case EdgesConnected():
                self._tallies.process.edges = fact.edges
            case JobsSeen():
                if fact.model in self._tallies.jobs:
                    self._tallies.jobs[fact.model] = fact
            case ProcessRestarted():
                self._tallies.process.restarts[fact.process] += fact.times

    def _settled(self, fact: Settled) -> None:
        tier = self._tier(fact.model, fact.tier)
        outcome = tier.outcomes[fact.outcome]
        outcome.requests += 1
        outcome.rows += fact.rows
        if fact.deadline_met:
            tier.good_requests += 1
        if fact.outcome is Outcome.OK:
            tier.latency.observe(fact.latency_s)
            tier.queue_wait.observe(fact.queue_s)
            tier.service_time.observe(fact.service_s)

    def _tokens_came(self, fact: TokensCame) -> None:
        for first in fact.firsts:
            tier = self._tier(fact.model, first.tier)
            tier.output_tokens += 1
            tier.first_token.observe(first.seconds)
            tier.prompt_tokens += first.prompt_tokens
            tier.cached_tokens += first.cached_tokens
        for (name, gap_s), times in fact.gaps.items():
            tier = self._tier(fact.model, name)
            tier.output_tokens += times
            tier.inter_token.observe(gap_s, times)

    def _completed(self, fact: Completed) -> None:
        model, batch = self._model(fact.batch.model), fact.batch
        by_tier = batch.tokens_by_tier
        tokens = sum(by_tier.values())
        if batch.pieces:
            prefill = sum([piece.tokens for piece in batch.prefill_pieces])
            model.prefill_tokens += prefill
            model.decode_tokens += tokens - prefill
        for name, part in by_tier.items():
            tier = self._tier(batch.model, name)
            tier.tokens += part
            tier.device_s += fact.service_s * part / max(tokens, 1)
        model.padding_tokens += batch.padding_tokens
        model.busy_s += fact.service_s
        model.batch_rows.observe(batch.size)
        model.batch_tokens.observe(tokens)
        if self._device_free_s is not None:
            # Only what passed while a row of this batch was here already.
            waiting_since_s = min(map(attrgetter("arrival_s"), batch.rows))
            ready_s = max(self._device_free_s, waiting_since_s)
            self._tallies.process.idle_gap.observe(fact.started_s - ready_s)
        self._device_free_s = fact.finished_s

    def _tier(self, model: str, tier: str) -> TierTally:
        tally = self._tallies.tiers.get((model, tier))
        return tally if tally is not None else self._new_tier(model, tier)

    def _new_tier(self, model: str, tier: str) -> TierTally:
        self._add_new_tiers()
        tallies = self._tallies.tiers
        model = model if model in self._tallies.models else UNKNOWN
        for key in ((model, tier), (model, UNKNOWN)):
            if key in tallies:
                return tallies[key]
        return tallies.setdefault((model, UNKNOWN), TierTally())

    def _model(self, model: str) -> ModelTally:
        tally = self._tallies.models.get(model)
        return (
            tally if tally is not None else self._tallies.models.setdefault(UNKNOWN, ModelTally())
        )

    def _edge(self, model: str, protocol: str) -> EdgeTally:
        tally = self._tallies.edges.get((model, protocol))
        if tally is not None:
            return tally
        model = model if model in self._tallies.models else UNKNOWN
        protocol = protocol if protocol in PROTOCOLS else UNKNOWN
        return self._tallies.edges.setdefault((model, protocol), EdgeTally())

    def _add_new_tiers(self) -> None:
        try:
            tiers = self._tiers()
        except Exception:  # the series of new tiers can wait for the next scrape
            self._failed("the tiers could not be read")
            return
        self._tallies.process.slos = {
            name: Slo(tier.slo_s, tier.itl_slo_s) for name, tier in tiers.items()
        }
        known = {tier for _, tier in self._tallies.tiers}
        for tier in tiers:
            if tier not in known and len(known) < MAX_TIERS_COUNTED:
                known.add(tier)
                for model in self._tallies.models:
                    self._tallies.tiers[model, tier] = TierTally()

    def _snapshot_now(self) -> Snapshot:
        try:
            return self._snapshot()
        except Exception:  # what was counted is still worth a scrape
            self._failed("the scheduler's snapshot could not be read")
            return EMPTY_SNAPSHOT

    def _failed(self, what: str) -> None:
        if what not in self._told:  # it may happen 20,000 times a second
            self._told.add(what)
            _log.exception("%s; further errors of this kind are only counted", what)
        self._tallies.process.observer_errors += 1
