// Arrivals from a trace, at their times or SPEED times as fast.
//
// TRACE is the path of a JSON file (absolute, or relative to this script):
//
//     [{"at_s": 0.0, "tokens": 64, "tier": "interactive"}, {"at_s": 0.25}, …]
//
// `at_s`: seconds from the start, ascending, 0 or more. `tokens`: length of the request, in ids
// or words; drawn from LENGTHS where there is none. `tier`: the first of TIERS where there is none.
// `python -m loadtest replay` makes such files from others.
import { SharedArray } from 'k6/data';
import { traced } from './lib/arrivals.js';
import { inTurn, loadTest } from './lib/run.js';
import { Settings } from './lib/settings.js';

const settings = new Settings('replay', { TRACE: '', SPEED: '1' });
const speed = settings.number('SPEED', 0.001, 1000);
const [[usual]] = settings.tiers();
if (!settings.text('TRACE')) settings.refuse('TRACE', 'the path of a JSON file, see replay.js');

// Read once for all VUs, inside of SharedArray.
const tiers = new SharedArray('tiers', () => [...new Set(entries().map(({ tier }) => tier))]);
const streams = tiers.map((tier) => ({
  tier,
  ...traced(tier, () =>
    entries()
      .filter((entry) => entry.tier === tier)
      .map(({ at_s, tokens }) => [(at_s * 1000) / speed, tokens]),
  ),
}));
const seconds = Math.max(
  0.001,
  ...streams.map(({ arrivals }) => arrivals[arrivals.length - 1][0] / 1000 + 0.001),
);
const phases = inTurn(settings, [{ name: 'trace', seconds }]);
const test = loadTest(settings, phases, streams);

function entries() {
  let found;
  try {
    found = JSON.parse(open(settings.text('TRACE')));
  } catch (error) {
    settings.refuse('TRACE', `a JSON file that can be read (${error})`);
  }
  let before_s = 0;
  return found.map(({ at_s, tokens = 0, tier = usual }, index) => {
    if (!(at_s >= before_s) || !(tokens >= 0)) {
      settings.refuse('TRACE', `in order of at_s; at_s or tokens of [${index}] is wrong`);
    }
    before_s = at_s;
    return { at_s, tokens: Math.round(tokens || 0), tier: tier || usual };
  });
}

export const { options, setup, handleSummary } = test;
export default test.request;
