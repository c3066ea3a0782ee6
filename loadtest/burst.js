// Gaps of a gamma distribution, which come in clumps, and every so often a spike.
import { inTurn, loadTest, shared } from './lib/run.js';
import { Settings } from './lib/settings.js';

const settings = new Settings('burst', {
  ARRIVALS: 'gamma',
  DURATION: '60s',
  SPIKE: '3', // times RATE
  SPIKE_EVERY: '10s',
  SPIKE_FOR: '1s',
});
const rate = settings.number('RATE', 0.001, 1e5);
const spike_s = settings.seconds('SPIKE_FOR');
const calm_s = settings.seconds('SPIKE_EVERY') - spike_s;
if (calm_s <= 0) settings.refuse('SPIKE_EVERY', 'more than SPIKE_FOR');
const spikes = Math.max(1, Math.floor(settings.seconds('DURATION') / (calm_s + spike_s)));
const phases = inTurn(
  settings,
  Array.from({ length: spikes }).flatMap(() => [
    { name: 'calm', seconds: calm_s },
    { name: 'spike', seconds: spike_s, rate: rate * settings.number('SPIKE', 0, 1000) },
  ]),
);
const test = loadTest(settings, phases, shared(settings, phases));

export const { options, setup, handleSummary } = test;
export default test.request;
