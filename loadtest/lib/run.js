// A load test from its parts: phases one after another, a stream of requests for each tier.
import { sleep } from 'k6';
import exec from 'k6/execution';
import { drawn, leadOf, paced } from './arrivals.js';
import { HttpClient } from './http.js';
import { REFUSED, record } from './measures.js';
import { Payloads, lengthsOf } from './payloads.js';
import { summarised } from './summary.js';
import { thresholdsOf } from './thresholds.js';

const TELLING_VUS = 3; // so many VUs tell of their first failure, else there would be thousands
const TREND_STATS = ['avg', 'min', 'med', 'p(95)', 'p(99)', 'max'];

// Phases one after another, from {name, seconds, rate, lengths}; rate and lengths as set, else.
export function inTurn(settings, phases) {
  let from_s = 0;
  return phases.map(({ name, seconds, rate, lengths }) => {
    const phase = {
      name,
      from_s,
      to_s: from_s + seconds,
      rate: rate === undefined ? settings.number('RATE', 0.001, 1e5) : rate,
      lengths: lengthsOf(settings, lengths || settings.text('LENGTHS')),
    };
    from_s = phase.to_s;
    return phase;
  });
}

// A stream for each tier that has its share of the rate.
export function shared(settings, phases) {
  return settings.tiers().map(([tier, share]) => ({
    tier,
    ...drawn(settings, tier, phases, share),
  }));
}

// What a script exports: options, setup, handleSummary, and `request` as its default.
//
// `client` sends requests, over HTTP where none is given, and `build` makes what it sends.
// `judged: false`: no thresholds but those that make a run valid. `closing` gives a last line.
export function loadTest(settings, phases, streams, extras = {}) {
  const duration_s = phases[phases.length - 1].to_s;
  const lead_ms = leadOf(duration_s);
  const timeout_s = settings.seconds('TIMEOUT');
  const payloads = new Payloads(settings);
  const build = extras.build || ((...parts) => payloads.make(...parts));
  const client = extras.client || new HttpClient(settings);
  const byTier = Object.fromEntries(
    streams.map(({ tier, arrivals, made }) => [
      tier,
      {
        arrivals,
        made,
        rows: settings.ofTier('ROWS', tier, 1, 1024) || 1,
        slo_ms: settings.ofTier('SLO_MS', tier),
      },
    ]),
  );
  const vus = settings.text('VUS') === 'auto' ? 0 : settings.number('VUS', 1, 20000);
  const run = {
    settings,
    phases,
    duration_s,
    tiers: streams.map(({ tier }) => tier),
    // Asked for only where k6 reads options or sums up, which is in no numbered VU.
    planned: __VU ? 0 : streams.reduce((sum, { arrivals }) => sum + arrivals.length, 0),
  };
  if (!__VU && !run.planned) settings.refuse('DURATION', 'longer: no request falls into it');
  const thresholds = thresholdsOf(run, extras.judged !== false);
  let told = false;

  function request() {
    const tier = exec.scenario.name;
    const stream = byTier[tier];
    const index = exec.scenario.iterationInTest;
    if (index >= stream.arrivals.length) return;
    const [at_ms, tokens] = stream.arrivals[index];
    const phase = phases.find((each) => at_ms < each.to_s * 1000) || phases[phases.length - 1];
    const tags = { tier, phase: phase.name };
    const payload = build(tier, index, stream.rows, phase.lengths, tokens);
    const due_ms = exec.scenario.startTime + lead_ms + at_ms;
    if (Date.now() < due_ms) sleep((due_ms - Date.now()) / 1000);
    const lag_ms = Math.max(0, Date.now() - due_ms);
    const answer = client.send(payload, tier, tags);
    record({ ...answer, lag_ms, latency_ms: lag_ms + answer.took_ms }, stream.slo_ms, tags);
    if (answer.problem && answer.outcome !== REFUSED && !told && exec.vu.idInTest <= TELLING_VUS) {
      told = true;
      console.warn(`${tier}: ${answer.outcome}: ${answer.problem.slice(0, 300)}`);
    }
  }

  function options() {
    const scenarios = Object.entries(byTier).map(([tier, { made, slo_ms }]) => {
      const hold_s = slo_ms === null ? duration_s : (2 * slo_ms) / 1000;
      const scenario = paced(made, duration_s, Math.min(timeout_s, hold_s), vus);
      return [tier, { ...scenario, gracefulStop: `${timeout_s + 1}s` }];
    });
    return {
      scenarios: Object.fromEntries(scenarios),
      thresholds: thresholds.asOptions,
      summaryTrendStats: TREND_STATS,
      systemTags: ['scenario', 'name', 'status', 'error_code'],
      userAgent: 'headway-loadtest',
    };
  }

  return {
    // k6 reads options once, in the first of many times that a script is loaded.
    options: streams.every(({ made }) => made) ? options() : {},
    setup: () => client.checkReady(),
    handleSummary: (data) => summarised(run, thresholds, data, extras.closing),
    request,
  };
}
