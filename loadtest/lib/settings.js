// Settings of a run: environment variables with defaults, checked when k6 starts.
//
// A value for each tier is written `200` (all tiers) or `interactive:200,bulk:none`.

const DEFAULTS = {
  URL: 'http://127.0.0.1:8080', // of the server, without a path
  GRPC: '127.0.0.1:8081', // host:port, for grpc.js
  MODEL: 'topics',
  TASK: 'text', // text: sends texts | simulated: sends ids and checks the sum
  RATE: '10', // requests a second, all tiers together
  DURATION: '30s',
  TIERS: 'interactive', // a name, or shares: interactive:0.8,bulk:0.2
  ROWS: '1', // rows in a request, for each tier
  LENGTHS: 'mixed', // short | mixed | long | lognormal | lognormal:MEDIAN:SIGMA, in words or ids
  ARRIVALS: 'poisson', // poisson | even | gamma
  GAMMA_SHAPE: '0.3', // of the gaps where ARRIVALS=gamma: below 1 means bursts
  SEED: '1', // the same seed sends the same requests at the same times
  TIMEOUT: '10s', // a request that takes longer has failed
  VUS: 'auto', // requests that can be under way together; all are made before the start
  // Thresholds. `none` switches one off.
  SLO_MS: 'interactive:200,bulk:none', // an answer in time counts as good
  P99_MS: 'slo', // slo: the same as SLO_MS
  ERROR_RATE: '0.001', // most of all requests that may fail; a refusal (429) is no failure
  GOODPUT: '0.99', // least part of all requests that is answered within the SLO
  GOODPUT_PER_S: 'none', // least number of such answers in a second
  SUMMARY: '', // the file for the summary as JSON; empty: only text is printed
};
const UNIT_S = { '': 1, s: 1, m: 60, h: 3600 };

export class Settings {
  // `defaults` are those of one script, in place of or beside the common ones.
  constructor(script, defaults = {}) {
    this.script = script;
    this.values = {};
    for (const [name, value] of Object.entries({ ...DEFAULTS, ...defaults })) {
      this.values[name] = (__ENV[name] || value).trim();
    }
    this.values.URL = this.values.URL.replace(/\/+$/, '');
  }

  text(name) {
    return this.values[name];
  }

  choice(name, choices) {
    if (!choices.includes(this.text(name))) this.refuse(name, `one of ${choices.join(', ')}`);
    return this.text(name);
  }

  number(name, least, most) {
    return this.parsed(name, this.text(name), least, most);
  }

  seconds(name) {
    const [, amount, unit] = /^(\d+(?:\.\d+)?)([smh]?)$/.exec(this.text(name)) || [];
    const seconds = Number(amount) * UNIT_S[unit];
    if (!(seconds > 0 && seconds <= 86400)) this.refuse(name, 'a time up to 24h, as 90s, 5m or 1h');
    return seconds;
  }

  // Names and shares, which are made to add up to 1.
  tiers() {
    const parts = this.pairs('TIERS').map(([tier, share]) => [
      tier,
      share === undefined ? 1 : this.parsed('TIERS', share, 0, 1e6),
    ]);
    const total = parts.reduce((sum, [, share]) => sum + share, 0);
    if (!(total > 0)) this.refuse('TIERS', 'shares of which one is above 0');
    return parts.map(([tier, share]) => [tier, share / total]);
  }

  // The number for a tier; null where it is `none` or the tier is not named.
  ofTier(name, tier, least = 0, most = 1e9) {
    if (!this.text(name).includes(':')) return this.orNone(name, this.text(name), least, most);
    const found = this.pairs(name).find(([each]) => each === tier);
    return found ? this.orNone(name, found[1] || '', least, most) : null;
  }

  pairs(name) {
    return this.text(name)
      .split(',')
      .map((part) => part.trim().split(':'));
  }

  orNone(name, value, least, most) {
    return value === 'none' ? null : this.parsed(name, value, least, most);
  }

  parsed(name, value, least, most) {
    const number = Number(value);
    if (value === '' || !(number >= least && number <= most)) {
      this.refuse(name, `a number from ${least} to ${most}`);
    }
    return number;
  }

  refuse(name, wanted) {
    throw new Error(`${name} is '${this.text(name)}'; it must be ${wanted}`);
  }
}

// An address as it may be shown, as predictor/core/shown.py does it: without who logs in, or a query.
export function withoutSecrets(url) {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/).*@/is, '$1***@').replace(/[?#].*$/s, '?***');
}
