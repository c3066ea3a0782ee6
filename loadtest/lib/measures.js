// What is counted of each request, by tier and phase.
import { Counter, Rate, Trend } from 'k6/metrics';

export const OK = 'ok';
export const REFUSED = 'refused'; // 429: the server says that it would be late
export const TRANSPORT = 'transport'; // no answer at all
const TIMED_OUT = 1050; // k6's code
export const FAILURES = {
  late: 'ended by their deadline (504)',
  unavailable: 'not served, the server loads or drains (503)',
  rejected: 'rejected as wrong (4xx)',
  error: 'failed in the server (5xx)',
  timeout: 'not answered within TIMEOUT',
  [TRANSPORT]: 'without an answer: connection refused or reset',
  wrong: 'answered wrongly: the id or the result is not what it must be',
};

const latency = new Trend('headway_latency', true); // of right answers, from the planned time
const queue = new Trend('headway_queue_us');
const service = new Trend('headway_service_us');
const batch = new Trend('headway_batch_size');
const lag = new Trend('headway_lag', true); // how much later than planned it was sent
const requests = new Counter('headway_requests');
const withinSlo = new Counter('headway_within_slo');
const goodput = new Rate('headway_goodput');
const errors = new Rate('headway_errors');

// `answer` is {outcome, latency_ms, queue_us, service_us, batch_size}; the last three of OK alone.
export function record(answer, slo_ms, tags) {
  const ok = answer.outcome === OK;
  const good = ok && (slo_ms === null || answer.latency_ms <= slo_ms);
  requests.add(1, { ...tags, outcome: answer.outcome });
  goodput.add(good, tags);
  errors.add(!ok && answer.outcome !== REFUSED, tags);
  lag.add(answer.lag_ms, tags);
  if (good) withinSlo.add(1, tags);
  if (ok) {
    latency.add(answer.latency_ms, tags);
    queue.add(answer.queue_us, tags);
    service.add(answer.service_us, tags);
    batch.add(answer.batch_size, tags);
  }
}

export function outcomeOfResponse({ status, error_code }) {
  if (status === 200) return OK;
  if (status === 429) return REFUSED;
  if (status === 504) return 'late';
  if (status === 503) return 'unavailable';
  if (status === 0) return error_code === TIMED_OUT ? 'timeout' : TRANSPORT;
  return status < 500 ? 'rejected' : 'error';
}

// What has to be a metric of its own in the summary; k6 keeps those that a threshold names.
export function keptMetrics(tiers, phases) {
  const groups = [...tiers.map((tier) => `tier:${tier}`), ...phases.map((name) => `phase:${name}`)];
  const outcomes = [OK, REFUSED, ...Object.keys(FAILURES)];
  return groups.flatMap((group) => [
    ...outcomes.map((outcome) => [`headway_requests{${group},outcome:${outcome}}`, 'count>=0']),
    [`headway_within_slo{${group}}`, 'count>=0'],
    ...['latency', 'queue_us', 'service_us', 'batch_size'].map((name) => [
      `headway_${name}{${group}}`,
      'avg>=0',
    ]),
  ]);
}
