// Several mixes of lengths, one after another at the same rate.
import { inTurn, loadTest, shared } from './lib/run.js';
import { Settings } from './lib/settings.js';

const settings = new Settings('lengths', {
  MIXES: 'short,mixed,long,lognormal', // values of LENGTHS
  DURATION: '60s', // of all of them
});
const mixes = settings.text('MIXES').split(',');
const phases = inTurn(
  settings,
  mixes.map((mix) => ({
    name: mix.replace(/:/g, '_'),
    seconds: settings.seconds('DURATION') / mixes.length,
    lengths: mix,
  })),
);
const test = loadTest(settings, phases, shared(settings, phases));

export const { options, setup, handleSummary } = test;
export default test.request;
