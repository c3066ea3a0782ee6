// A v2 request over gRPC, and the check of its answer.
import { check } from 'k6';
import encoding from 'k6/encoding';
import grpc from 'k6/net/grpc';
import { isRight } from './answers.js';
import { OK, REFUSED, TRANSPORT } from './measures.js';

const SERVICE = 'inference.GRPCInferenceService';
const OUTCOMES = {
  [grpc.StatusOK]: OK,
  [grpc.StatusResourceExhausted]: REFUSED,
  [grpc.StatusDeadlineExceeded]: 'late',
  [grpc.StatusInvalidArgument]: 'rejected',
  [grpc.StatusNotFound]: 'rejected',
};
// How gRPC's own library says that there is no server, as against one that says UNAVAILABLE.
const NO_SERVER = /connection|transport|reading from server/i;
// k6 looks for it from the script's folder.
const client = new grpc.Client();
client.load(['lib'], 'v2.proto');

export class GrpcClient {
  constructor(settings) {
    this.address = settings.text('GRPC');
    this.model = settings.text('MODEL');
    this.timeout = `${settings.seconds('TIMEOUT')}s`;
    this.connected = false; // each VU has a client, and so a connection, of its own
  }

  // Throws, with one sentence, unless the model is ready.
  checkReady() {
    try {
      this.connect();
    } catch (error) {
      throw new Error(`${this.address} does not answer (${error}); start the server or set GRPC`);
    }
    const response = client.invoke(`${SERVICE}/ModelReady`, { name: this.model });
    if (!response.message || !response.message.ready) {
      throw new Error(`${this.model} is not ready at ${this.address}; set MODEL, or wait`);
    }
  }

  // {outcome, took_ms, queue_us, service_us, batch_size, problem}
  send(payload, tier, tags) {
    const began_ms = Date.now(); // whole milliseconds: k6 gives no timings for gRPC
    let response;
    try {
      this.connect();
      response = client.invoke(`${SERVICE}/ModelInfer`, this.message(payload), {
        metadata: { 'x-headway-tier': tier },
        timeout: this.timeout,
        tags: { ...tags, name: 'infer' },
      });
    } catch (error) {
      return { outcome: TRANSPORT, took_ms: Date.now() - began_ms, problem: `${error}` };
    }
    const took_ms = Date.now() - began_ms;
    let outcome = outcomeOf(response);
    check(response, { 'answered or refused': () => [OK, REFUSED].includes(outcome) }, tags);
    const answer = outcome === OK ? plain(response.message) : {};
    if (outcome === OK && !isRight(answer, payload, tags)) outcome = 'wrong';
    const problem = outcome === OK ? '' : JSON.stringify(response.error || response.message);
    return { ...answer.parameters, outcome, took_ms, problem };
  }

  connect() {
    if (!this.connected) client.connect(this.address, { plaintext: true, timeout: '5s' });
    this.connected = true;
  }

  message({ id, input }) {
    const { data, ...described } = input;
    const contents =
      input.datatype === 'BYTES'
        ? { bytes_contents: data.map((text) => encoding.b64encode(text)) }
        : { int64_contents: data };
    return { model_name: this.model, id, inputs: [{ ...described, contents }] };
  }
}

function outcomeOf({ status, error }) {
  const outcome = OUTCOMES[status];
  if (outcome !== undefined) return outcome;
  if (status !== grpc.StatusUnavailable) return 'error';
  return NO_SERVER.test((error || {}).message) ? TRANSPORT : 'unavailable';
}

// The message in the shape of a JSON answer.
function plain({ id, parameters = {}, outputs = [] }) {
  const integers = Object.entries(parameters).map(([name, value]) => [
    name,
    Number(value.int64Param),
  ]);
  return {
    id,
    parameters: Object.fromEntries(integers),
    outputs: outputs.map(({ name, shape, contents = {} }) => ({
      name,
      shape,
      data: contents.int64Contents || [],
    })),
  };
}
