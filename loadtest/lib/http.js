// A v2 request over HTTP, and the check of its answer.
import { check } from 'k6';
import http from 'k6/http';
import { isRight } from './answers.js';
import { OK, outcomeOfResponse } from './measures.js';
import { withoutSecrets } from './settings.js';

http.setResponseCallback(http.expectedStatuses(200, 202, 429));

// Throws, with one sentence, unless the model is ready.
export function checkReady(settings) {
  const url = `${settings.text('URL')}/v2/models/${settings.text('MODEL')}/ready`;
  const response = http.get(url, { timeout: '5s', tags: { name: 'ready' } });
  const shown = withoutSecrets(url);
  if (response.status === 0) {
    throw new Error(`${shown} does not answer (${response.error}); start the server or set URL`);
  }
  if (response.status !== 200) {
    throw new Error(`${shown} answers ${response.status}; set MODEL, or wait until it is ready`);
  }
}

export class HttpClient {
  constructor(settings) {
    this.settings = settings;
    this.url = `${settings.text('URL')}/v2/models/${settings.text('MODEL')}/infer`;
    this.timeout = `${settings.seconds('TIMEOUT')}s`;
  }

  checkReady() {
    checkReady(this.settings);
  }

  // {outcome, took_ms, queue_us, service_us, batch_size, problem}
  send(payload, tier, tags) {
    const response = http.post(
      this.url,
      JSON.stringify({ id: payload.id, inputs: [payload.input] }),
      {
        headers: { 'Content-Type': 'application/json', 'x-headway-tier': tier },
        timeout: this.timeout,
        tags: { ...tags, name: 'infer' },
      },
    );
    let outcome = outcomeOfResponse(response);
    check(response, { 'answered or refused': (each) => [200, 429].includes(each.status) }, tags);
    let answer = {};
    if (outcome === OK) {
      answer = parsed(response.body);
      if (!isRight(answer, payload, tags)) outcome = 'wrong';
    }
    return {
      ...(answer.parameters || {}),
      outcome,
      // Waiting for a connection counts: the client waits for it, too.
      took_ms: response.timings.blocked + response.timings.duration,
      problem: outcome === OK ? '' : response.error || `${response.status} ${response.body}`,
    };
  }
}

function parsed(body) {
  try {
    return JSON.parse(body) || {};
  } catch (_) {
    return {};
  }
}
