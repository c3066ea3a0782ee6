// A job: lines submitted, followed to their end, and every result checked.
import { check, sleep } from 'k6';
import http from 'k6/http';
import { isRight } from './answers.js';
import { checkReady } from './http.js';
import { OK, outcomeOfResponse } from './measures.js';

const LOOK_EVERY_S = 0.5;
const ENDED = ['done', 'cancelled'];

export class JobsClient {
  constructor(settings) {
    this.settings = settings;
    this.url = settings.text('URL');
    this.model = settings.text('MODEL');
    this.limit_s = settings.seconds('TIMEOUT');
  }

  checkReady() {
    checkReady(this.settings);
  }

  // As HttpClient.send, for `payload.lines`. The server's times are means over the lines.
  send({ lines }, tier, tags) {
    const began_ms = Date.now();
    const took = (outcome, problem = '', measured = {}) => ({
      ...measured,
      outcome,
      took_ms: Date.now() - began_ms,
      problem,
    });
    const body = lines.map(({ id, input }) => JSON.stringify({ id, inputs: [input] })).join('\n');
    const submitted = http.post(`${this.url}/v2/models/${this.model}/jobs`, `${body}\n`, {
      ...this.params(tags, 'submit'),
      headers: { 'Content-Type': 'application/x-ndjson', 'x-headway-tier': tier },
    });
    if (submitted.status !== 202) return took(outcomeOfResponse(submitted), told(submitted));
    const job = `${this.url}/v2/jobs/${submitted.json('id')}`;
    const ended = this.followed(job, began_ms + 1000 * this.limit_s, tags);
    if (ended.problem) return took(ended.outcome, ended.problem);
    const answered = http.get(`${job}/results`, this.params(tags, 'results'));
    if (answered.status !== 200) return took(outcomeOfResponse(answered), told(answered));
    const results = answered.body
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const complete = check(
      results,
      {
        'there is a result for each line': (all) => all.length === lines.length,
        'results are in order': (all) => all.every((result, at) => result.index === at),
      },
      tags,
    );
    const right = complete && results.every((result, at) => isRight(result, lines[at], tags));
    return right
      ? took(OK, '', means(results))
      : took('wrong', `${results.length} results for ${lines.length} lines, or wrong ones`);
  }

  // {outcome, problem}; no problem once the job is done.
  followed(job, until_ms, tags) {
    let progress = 0;
    for (;;) {
      const response = http.get(job, this.params(tags, 'status'));
      if (response.status !== 200) {
        return { outcome: outcomeOfResponse(response), problem: told(response) };
      }
      const status = response.json();
      check(status, { 'progress never goes back': (each) => each.progress >= progress }, tags);
      progress = status.progress;
      if (status.state === 'done') return {};
      if (ENDED.includes(status.state)) {
        return { outcome: 'error', problem: `the job was ${status.state}` };
      }
      if (Date.now() > until_ms) {
        http.del(job, null, this.params(tags, 'cancel'));
        return { outcome: 'timeout', problem: `not done within TIMEOUT; at ${progress}` };
      }
      sleep(LOOK_EVERY_S);
    }
  }

  params(tags, name) {
    return { timeout: `${this.limit_s}s`, tags: { ...tags, name } };
  }
}

function told(response) {
  return response.error || `${response.status} ${response.body}`;
}

function means(results) {
  const mean = (name) =>
    results.reduce((sum, { parameters }) => sum + parameters[name], 0) / results.length;
  return {
    queue_us: mean('queue_us'),
    service_us: mean('service_us'),
    batch_size: mean('batch_size'),
  };
}
