// @grpc/grpc-js, which pings. Arguments: a folder with node_modules, the service as a
// FileDescriptorSet, the address. Prints the sum that each of two long calls answers.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");

const [folder, descriptors, address] = process.argv.slice(2);
const load = createRequire(`${folder}/`);
const grpc = load("@grpc/grpc-js");
const loader = load("@grpc/proto-loader");
const definition = loader.loadFileDescriptorSetFromBuffer(readFileSync(descriptors));
const { GRPCInferenceService } = grpc.loadPackageDefinition(definition).inference;
const client = new GRPCInferenceService(address, grpc.credentials.createInsecure(), {
  "grpc.keepalive_time_ms": 300,
  "grpc.keepalive_permit_without_calls": 1,
});
const request = {
  model_name: "sim",
  inputs: [
    { name: "input_ids", datatype: "INT64", shape: [1, 3], contents: { int64_contents: [1, 2, 3] } },
  ],
};
const call = (left) =>
  client.ModelInfer(request, (error, answer) => {
    if (error) throw error;
    console.log(String(answer.outputs[0].contents.int64_contents[0]));
    if (left) call(left - 1);
    else client.close();
  });
call(1);
