// The same rate all the time.
import { inTurn, loadTest, shared } from './lib/run.js';
import { Settings } from './lib/settings.js';

const settings = new Settings('steady');
const phases = inTurn(settings, [{ name: 'steady', seconds: settings.seconds('DURATION') }]);
const test = loadTest(settings, phases, shared(settings, phases));

export const { options, setup, handleSummary } = test;
export default test.request;
