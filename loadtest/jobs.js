// Jobs of many lines. A job counts as one request, from its submission to its last result.
import { JobsClient } from './lib/jobs.js';
import { Payloads } from './lib/payloads.js';
import { inTurn, loadTest, shared } from './lib/run.js';
import { Settings } from './lib/settings.js';

const settings = new Settings('jobs', {
  RATE: '0.2', // jobs a second
  JOB_LINES: '100',
  TIERS: 'bulk',
  TIMEOUT: '120s', // of a job
  SLO_MS: 'none',
  GOODPUT: '1',
  ERROR_RATE: '0',
});
const phases = inTurn(settings, [{ name: 'jobs', seconds: settings.seconds('DURATION') }]);
const count = settings.number('JOB_LINES', 1, 100000);
const payloads = new Payloads(settings);
const test = loadTest(settings, phases, shared(settings, phases), {
  client: new JobsClient(settings),
  build: (stream, index, rows, lengths) => ({
    lines: Array.from({ length: count }, (_, line) =>
      payloads.make(`${stream}-${index}`, line, rows, lengths),
    ),
  }),
});

export const { options, setup, handleSummary } = test;
export default test.request;
