// When requests are sent.
//
// An arrival-rate executor spaces iterations evenly. To send at times of our own, they are
// computed before the start, cut into short buckets, and each bucket becomes a stage that starts
// as many iterations as it has arrivals. An iteration starts up to LEAD_MS before its time and
// sleeps until then, so the gaps are those that were drawn, and the load stays open: no answer
// is waited for.
import { SharedArray } from 'k6/data';
import { exponential, gamma, seeded } from './random.js';

const BUCKET_MS = 100;
const MAX_STAGES = 10000;
const SLACK_MS = 50; // an iteration may be started that late and still be in time
const MAX_ARRIVALS = 1000000;

// A stream's arrivals: [ms from the start, tokens or 0], ascending, shared by all VUs. Only where
// they were made, which is where k6 reads the options, are they there as a plain array as well:
// to walk through a SharedArray takes many times as long.
function sharedArrivals(name, make) {
  let made = null;
  const arrivals = new SharedArray(`arrivals ${name}`, () => {
    made = make();
    return made;
  });
  return { arrivals, made };
}

// The arrivals of one stream.
//
// `phases` are {from_s, to_s, rate}, and `share` is the stream's part of their rates.
export function drawn(settings, name, phases, share) {
  const process = settings.choice('ARRIVALS', ['poisson', 'even', 'gamma']);
  const shape = settings.number('GAMMA_SHAPE', 0.05, 100);
  const expected = phases.reduce((sum, p) => sum + p.rate * share * (p.to_s - p.from_s), 0);
  if (expected > MAX_ARRIVALS) {
    throw new Error(
      `${Math.round(expected)} requests are too many; lower RATE or DURATION to ${MAX_ARRIVALS}`,
    );
  }
  return sharedArrivals(name, () => {
    const random = seeded(`arrivals ${settings.text('SEED')} ${name}`);
    const gaps = {
      poisson: () => exponential(random),
      even: () => 1,
      gamma: () => gamma(random, shape),
    };
    const times = [];
    for (const { from_s, to_s, rate } of phases) {
      if (rate * share > 0) {
        const first = process === 'even' ? 0.5 : gaps[process]();
        let at_s = from_s + first / (rate * share);
        for (; at_s < to_s; at_s += gaps[process]() / (rate * share)) {
          times.push([Math.round(at_s * 1e6) / 1e3, 0]);
        }
      }
    }
    return times;
  });
}

// The arrivals of a tier in a trace, see replay.js.
export function traced(name, entries) {
  return sharedArrivals(name, entries);
}

// A k6 scenario that starts an iteration for each arrival, LEAD before it or less.
export function paced(made, duration_s, hold_s, vus) {
  const bucket_ms = Math.max(BUCKET_MS, Math.ceil((duration_s * 1000) / MAX_STAGES));
  const counts = new Array(Math.ceil((duration_s * 1000) / bucket_ms)).fill(0);
  for (const [at_ms] of made) {
    counts[Math.min(counts.length - 1, Math.floor(at_ms / bucket_ms))] += 1;
  }
  // An executor may end just before its last iteration is due; what is too many is not used.
  counts.push(2);
  const lead_ms = leadOf(duration_s);
  const needed = vus || Math.ceil(10 + 1.2 * most(counts, bucket_ms, lead_ms / 1000 + hold_s));
  return {
    executor: 'ramping-arrival-rate',
    startRate: 0,
    timeUnit: `${bucket_ms}ms`,
    preAllocatedVUs: needed,
    maxVUs: needed,
    stages: counts.flatMap((target) => [
      { target, duration: '0s' },
      { target, duration: `${bucket_ms}ms` },
    ]),
  };
}

export function leadOf(duration_s) {
  return Math.max(BUCKET_MS, Math.ceil((duration_s * 1000) / MAX_STAGES)) + SLACK_MS;
}

// Most arrivals in any window of that length.
function most(counts, bucket_ms, window_s) {
  const width = Math.ceil((window_s * 1000) / bucket_ms) + 1;
  let inWindow = 0;
  let found = 0;
  counts.forEach((count, index) => {
    inWindow += count - (index >= width ? counts[index - width] : 0);
    found = Math.max(found, inWindow);
  });
  return found;
}
