// The end of a run: a short text for a person, and JSON that loadtest/k6/result.py reads.
import { FAILURES, OK, REFUSED } from './measures.js';
import { withoutSecrets } from './settings.js';
import { GIVE_UP_AT, percent } from './thresholds.js';

const NOTED_LAG_MS = 20; // part of every latency
const LATE_SHARE = 0.25; // of the tightest SLO: so late at p99, k6 measures itself

export function summarised(run, thresholds, data, closing) {
  const { settings, duration_s, phases, tiers } = run;
  const groups = (names, tag) =>
    Object.fromEntries(names.map((name) => [name, group(data.metrics, `${tag}:${name}`)]));
  const names = [...new Set(phases.map(({ name }) => name))];
  const summary = {
    script: settings.script,
    settings: { ...settings.values, URL: withoutSecrets(settings.values.URL) },
    seconds: duration_s,
    dropped: valuesOf(data.metrics, 'dropped_iterations').count || 0,
    lag_p99_ms: valuesOf(data.metrics, 'headway_lag')['p(99)'] || 0,
    tiers: groups(tiers, 'tier'),
    phases: Object.entries(groups(names, 'phase')).map(([name, measured]) => {
      const parts = phases.filter((phase) => phase.name === name);
      const lasted_s = parts.reduce((sum, { from_s, to_s }) => sum + to_s - from_s, 0);
      return { name, seconds: lasted_s, rate: measured.requests / lasted_s, measured };
    }),
    thresholds: thresholds.rules.map((rule) => outcomeOf(rule, data.metrics)),
  };
  summary.thresholds.push(...lateness(run, thresholds.rules, summary));
  const last = closing ? `${closing(summary, settings.ofTier('SLO_MS', tiers[0]))}\n` : '';
  const files = { stdout: asText(summary) + last };
  if (settings.text('SUMMARY')) files[settings.text('SUMMARY')] = JSON.stringify(summary, null, 2);
  return files;
}

function group(metrics, tag) {
  const count = (outcome) =>
    valuesOf(metrics, `headway_requests{${tag},outcome:${outcome}}`).count || 0;
  const failures = Object.fromEntries(
    Object.keys(FAILURES)
      .map((outcome) => [outcome, count(outcome)])
      .filter(([, number]) => number > 0),
  );
  const failed = Object.values(failures).reduce((sum, each) => sum + each, 0);
  const latency = valuesOf(metrics, `headway_latency{${tag}}`);
  const mean = (name) => valuesOf(metrics, `headway_${name}{${tag}}`).avg || 0;
  return {
    requests: count(OK) + count(REFUSED) + failed,
    ok: count(OK),
    within_slo: valuesOf(metrics, `headway_within_slo{${tag}}`).count || 0,
    refused: count(REFUSED),
    failed,
    failures,
    mean_ms: latency.avg || 0,
    p50_ms: latency.med || 0,
    p95_ms: latency['p(95)'] || 0,
    p99_ms: latency['p(99)'] || 0,
    queue_mean_ms: mean('queue_us') / 1000,
    service_mean_ms: mean('service_us') / 1000,
    batch_size_mean: mean('batch_size'),
  };
}

function valuesOf(metrics, name) {
  return metrics[name] ? metrics[name].values : {};
}

function outcomeOf({ metric, condition, text, seen, validity = false }, metrics) {
  const found = metrics[metric];
  // What was never observed has no metric: no request at all.
  const ok = found ? found.thresholds[condition].ok : metric === 'dropped_iterations';
  return { text, seen: found ? seen(found.values) : 'none', ok, validity };
}

function asText(summary) {
  const { settings, seconds, tiers, phases, thresholds } = summary;
  const several = phases.length > 1 ? phases : [];
  const rows = [
    ['', 'sent/s', 'in time/s', 'refused', 'failed', 'p50 ms', 'p95 ms', 'p99 ms', 'queue ms'],
    ...Object.entries(tiers).map(([name, measured]) => cells(name, measured, seconds)),
    ...several.map((phase) => cells(phase.name, phase.measured, phase.seconds)),
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const aligned = rows.map((row) =>
    row
      .map((cell, column) => (column ? cell.padStart(widths[column]) : cell.padEnd(widths[0])))
      .join('  '),
  );
  const head = `${summary.script}: ${settings.MODEL} at ${settings.URL}, ${seconds} s`;
  if (Object.values(tiers).every(({ requests }) => requests === 0)) {
    return `\n${head}\nFAILED ${summary.script}: no request was sent; the error beside says why.\n`;
  }
  return [
    '',
    head,
    ...aligned,
    ...failureLines(tiers),
    ...lagLine(summary),
    ...thresholds.map(({ text, seen, ok }) => `${ok ? '    ok' : 'MISSED'}  ${text} (${seen})`),
    verdict(summary),
    '',
  ].join('\n');
}

function verdict({ script, settings, dropped, tiers, thresholds }) {
  const lost = Object.values(tiers).reduce((sum, tier) => sum + (tier.failures.transport || 0), 0);
  if (lost >= GIVE_UP_AT) {
    return `FAILED ${script}: ${lost} requests got no answer; is ${settings.URL} still there?`;
  }
  const missed = thresholds.filter(({ ok }) => !ok);
  if (!missed.length) return `passed ${script}: all ${thresholds.length} thresholds.`;
  const said = missed.map(({ text, seen }) => `${text}; seen ${seen}`).join('. ');
  const hint = dropped ? ', raise VUS or lower RATE' : ', lower RATE or free the machine of k6';
  return missed.some(({ validity }) => validity)
    ? `INVALID ${script}: the load was not what was asked${hint}: ${said}.`
    : `FAILED ${script}: ${said}.`;
}

function cells(name, measured, seconds) {
  const of = (count) => percent(measured.requests ? count / measured.requests : 0);
  return [
    name,
    (measured.requests / seconds).toFixed(1),
    (measured.within_slo / seconds).toFixed(1),
    of(measured.refused),
    of(measured.failed),
    ...[measured.p50_ms, measured.p95_ms, measured.p99_ms, measured.queue_mean_ms].map((ms) =>
      ms.toFixed(1),
    ),
  ];
}

// What makes a run invalid where k6 was too busy: answers seem late by as much as it was itself.
function lateness({ settings, tiers }, rules, { lag_p99_ms, thresholds }) {
  const slos_ms = tiers.map((tier) => settings.ofTier('SLO_MS', tier)).filter((ms) => ms !== null);
  const most_ms = Math.max(NOTED_LAG_MS, LATE_SHARE * Math.min(...slos_ms));
  const missed = rules.some(({ timed }, index) => timed && !thresholds[index].ok);
  if (!slos_ms.length || !missed || lag_p99_ms <= most_ms) return [];
  const text = `k6 itself sends at most ${most_ms.toFixed(0)} ms late at p99`;
  return [{ text, seen: `${lag_p99_ms.toFixed(0)} ms`, ok: false, validity: true }];
}

function lagLine({ lag_p99_ms }) {
  if (lag_p99_ms < NOTED_LAG_MS) return [];
  return [`k6 itself was late, by ${lag_p99_ms.toFixed(0)} ms (p99): its machine is too busy`];
}

function failureLines(tiers) {
  return Object.entries(tiers).flatMap(([tier, { failures }]) =>
    Object.entries(failures).map(([kind, count]) => `${tier}: ${count} ${FAILURES[kind]}`),
  );
}
