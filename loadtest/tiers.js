// Urgent requests at RATE beside more bulk work than the device can do.
import { drawn } from './lib/arrivals.js';
import { inTurn, loadTest } from './lib/run.js';
import { Settings } from './lib/settings.js';

const settings = new Settings('tiers', {
  INTERACTIVE: 'interactive', // names of the tiers
  BULK: 'bulk',
  BULK_RATE: '5', // requests a second
  ROWS: 'interactive:1,bulk:32',
  TIMEOUT: '120s', // bulk requests wait; what waits at the end is waited for
  ERROR_RATE: 'interactive:0.001,bulk:none',
  GOODPUT: 'interactive:0.99,bulk:none',
  GOODPUT_PER_S: 'none', // interactive:none,bulk:2 asks that bulk work moves
});
const seconds = settings.seconds('DURATION');
const phases = inTurn(settings, [{ name: 'both', seconds }]);
const flood = [{ ...phases[0], rate: settings.number('BULK_RATE', 0.001, 1e5) }];
const test = loadTest(settings, phases, [
  stream(settings.text('INTERACTIVE'), phases),
  stream(settings.text('BULK'), flood),
]);

function stream(tier, ofTier) {
  return { tier, ...drawn(settings, tier, ofTier, 1) };
}

export const { options, setup, handleSummary } = test;
export default test.request;
