// What a run must hold, and how that reads.
import { TRANSPORT, keptMetrics } from './measures.js';

// That many requests without an answer end a run: the server is gone.
export const GIVE_UP_AT = 50;

// {asOptions: for k6, judged: [{metric, condition, text, seen}] in order}.
export function thresholdsOf({ settings, phases, duration_s, tiers, planned }, judged) {
  const rules = [
    {
      metric: 'dropped_iterations',
      condition: 'count==0',
      text: 'no request dropped for want of VUs',
      seen: ({ count }) => `${count} dropped`,
      validity: true,
    },
    {
      metric: 'headway_requests',
      condition: `count>=${planned}`,
      text: `all ${planned} requests sent and ended`,
      seen: ({ count }) => `${count} requests`,
      validity: true,
    },
    ...(judged ? tiers.flatMap((tier) => ofTier(settings, tier, duration_s)) : []),
  ];
  const asOptions = {};
  const add = (metric, threshold) => (asOptions[metric] = asOptions[metric] || []).push(threshold);
  rules.forEach(({ metric, condition }) => add(metric, condition));
  add(`headway_requests{outcome:${TRANSPORT}}`, {
    threshold: `count<${GIVE_UP_AT}`,
    abortOnFail: true,
  });
  const names = [...new Set(phases.map(({ name }) => name))];
  keptMetrics(tiers, names).forEach(([metric, condition]) => add(metric, condition));
  return { asOptions, rules };
}

function ofTier(settings, tier, duration_s) {
  const rules = [];
  // `timed`: a generator that is late itself may be why it is missed.
  const add = (metric, condition, text, seen, timed = true) => {
    const rule = { metric: `${metric}{tier:${tier}}`, condition, text: `${tier}: ${text}`, seen };
    rules.push({ ...rule, timed });
  };
  const p99_ms =
    settings.text('P99_MS') === 'slo'
      ? settings.ofTier('SLO_MS', tier)
      : settings.ofTier('P99_MS', tier);
  const errors = settings.ofTier('ERROR_RATE', tier, 0, 1);
  const goodput = settings.ofTier('GOODPUT', tier, 0, 1);
  const perSecond = settings.ofTier('GOODPUT_PER_S', tier);
  if (p99_ms !== null) {
    add(
      'headway_latency',
      `p(99)<=${p99_ms}`,
      `p99 of answers at most ${p99_ms} ms`,
      (values) => `${values['p(99)'].toFixed(1)} ms`,
    );
  }
  if (errors !== null) {
    add(
      'headway_errors',
      `rate<=${errors}`,
      `at most ${percent(errors)} failed`,
      ({ rate }) => percent(rate),
      false,
    );
  }
  if (goodput !== null) {
    add(
      'headway_goodput',
      `rate>=${goodput}`,
      `at least ${percent(goodput)} answered in time`,
      ({ rate }) => percent(rate),
    );
  }
  if (perSecond !== null) {
    add(
      'headway_within_slo',
      `count>=${Math.ceil(perSecond * duration_s)}`,
      `at least ${perSecond}/s answered in time`,
      ({ count }) => `${(count / duration_s).toFixed(1)}/s`,
    );
  }
  return rules;
}

export function percent(ratio) {
  return `${Number((100 * ratio).toFixed(2))}%`;
}
