// Steps of rising rate, to find the knee: the last of them that is served well.
import { inTurn, loadTest, shared } from './lib/run.js';
import { Settings } from './lib/settings.js';

const settings = new Settings('ramp', {
  FROM: '10', // requests a second
  TO: '100',
  STEPS: '10',
  DURATION: '60s', // of all steps
});
const from = settings.number('FROM', 0.001, 1e5);
const to = settings.number('TO', from, 1e5);
const steps = settings.number('STEPS', 2, 100);
const phases = inTurn(
  settings,
  Array.from({ length: steps }, (_, step) => {
    const rate = from + ((to - from) * step) / (steps - 1);
    const seconds = settings.seconds('DURATION') / steps;
    return { name: `${Number(rate.toFixed(1))}_per_s`, seconds, rate };
  }),
);
// Beyond the knee nothing can be met, so nothing is judged but that the load was sent.
const test = loadTest(settings, phases, shared(settings, phases), { judged: false, closing: knee });

function knee(summary, slo_ms) {
  const served = ({ measured }) =>
    measured.within_slo >= 0.99 * measured.requests && measured.p99_ms <= (slo_ms || Infinity);
  const first = summary.phases.findIndex((step) => !served(step));
  if (first === 0) return 'knee: below the first step; lower FROM';
  const last = summary.phases[first < 0 ? summary.phases.length - 1 : first - 1];
  return first < 0
    ? `knee: beyond the last step, ${last.rate.toFixed(1)}/s; raise TO`
    : `knee: ${last.rate.toFixed(1)}/s is the last step with 99% answered in time`;
}

export const { options, setup, handleSummary } = test;
export default test.request;
