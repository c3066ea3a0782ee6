// A moderate rate for long. Each quarter has a line of its own, so that a drift shows.
import { inTurn, loadTest, shared } from './lib/run.js';
import { Settings } from './lib/settings.js';

const settings = new Settings('soak', { RATE: '10', DURATION: '1h' });
const seconds = settings.seconds('DURATION') / 4;
const phases = inTurn(
  settings,
  [1, 2, 3, 4].map((quarter) => ({ name: `quarter_${quarter}`, seconds })),
);
const test = loadTest(settings, phases, shared(settings, phases));

export const { options, setup, handleSummary } = test;
export default test.request;
