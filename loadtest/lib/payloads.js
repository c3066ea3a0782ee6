// What is sent: v2 requests with texts, or with ids whose sum the simulated model answers.
import { SharedArray } from 'k6/data';
import { normal, seeded } from './random.js';

const VOCABULARY = 30000;
const LONGEST = 512;
const NEAR = 6; // texts of about the same length to choose from
const texts = new SharedArray('texts', () =>
  JSON.parse(open(import.meta.resolve('../data/texts.json')))
    .map((text) => ({ words: text.split(' ').length, text }))
    .sort((a, b) => a.words - b.words),
);
const MIXES = {
  short: (random) => 4 + Math.floor(13 * random()), // headlines
  mixed: (random) => {
    const kind = random();
    if (kind < 0.7) return MIXES.short(random);
    return kind < 0.95 ? 17 + Math.floor(64 * random()) : MIXES.long(random);
  },
  long: (random) => 80 + Math.floor(221 * random()), // whole paragraphs
};

// A function from a random source to a length: words of a text, or ids.
export function lengthsOf(settings, name) {
  if (MIXES[name]) return MIXES[name];
  const [kind, median = '64', sigma = '0.8', more] = name.split(':');
  const mu = Math.log(Number(median));
  const spread = Number(sigma);
  if (kind !== 'lognormal' || more !== undefined || !(mu >= 0) || !(spread >= 0 && spread <= 4)) {
    settings.refuse('LENGTHS', 'short, mixed, long, lognormal or lognormal:MEDIAN:SIGMA');
  }
  return (random) => {
    const length = Math.round(Math.exp(mu + spread * normal(random)));
    return Math.min(LONGEST, Math.max(8, length));
  };
}

// Makes the payload of request `index` of a stream: the same for the same seed.
export class Payloads {
  constructor(settings) {
    this.simulated = settings.choice('TASK', ['text', 'simulated']) === 'simulated';
    this.seed = settings.text('SEED');
  }

  // {id, input: {name, datatype, shape, data}, sums}; `tokens`: exact length, 0: drawn.
  make(stream, index, rows, lengths, tokens = 0) {
    const random = seeded(`payload ${this.seed} ${stream} ${index}`);
    const id = `${stream}-${index}`;
    const length = tokens || lengths(random);
    if (!this.simulated) {
      const data = Array.from({ length: rows }, () => textNear(random, tokens || lengths(random)));
      return { id, input: { name: 'text', datatype: 'BYTES', shape: [rows], data } };
    }
    // Rows of one tensor are of one length.
    const data = Array.from({ length: rows * length }, () => Math.floor(VOCABULARY * random()));
    const sums = Array.from({ length: rows }, (_, row) =>
      data.slice(row * length, (row + 1) * length).reduce((sum, each) => sum + each, 0),
    );
    const input = { name: 'input_ids', datatype: 'INT64', shape: [rows, length], data };
    return { id, input, sums };
  }
}

function textNear(random, words) {
  let low = 0;
  let high = texts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (texts[middle].words < words) low = middle + 1;
    else high = middle;
  }
  const first = Math.min(Math.max(0, low - NEAR / 2), texts.length - NEAR);
  return texts[first + Math.floor(NEAR * random())].text;
}
