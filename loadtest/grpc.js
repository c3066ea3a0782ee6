// The same rate all the time, over gRPC.
import { GrpcClient } from './lib/grpc.js';
import { inTurn, loadTest, shared } from './lib/run.js';
import { Settings } from './lib/settings.js';

const settings = new Settings('grpc');
const phases = inTurn(settings, [{ name: 'steady', seconds: settings.seconds('DURATION') }]);
const client = new GrpcClient(settings);
const test = loadTest(settings, phases, shared(settings, phases), { client });

export const { options, setup, handleSummary } = test;
export default test.request;
