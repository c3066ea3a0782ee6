// Whether an answer is the right one. HTTP and gRPC answers look alike here.
import { check } from 'k6';

const MEASURED = ['queue_us', 'service_us', 'batch_size'];

export function isRight(answer, payload, tags) {
  return check(
    answer,
    {
      'the id is echoed': (each) => each.id === payload.id,
      'there is a result for each row': (each) => rowsAnswered(each, payload),
      'the checksum is right': (each) => sumsAreRight(each, payload),
      'queue_us, service_us and batch_size are there': (each) =>
        MEASURED.every((name) => Number.isInteger((each.parameters || {})[name])),
    },
    tags,
  );
}

function rowsAnswered(answer, payload) {
  const [first] = answer.outputs || [];
  return first !== undefined && Number(first.shape[0]) === payload.input.shape[0];
}

// Texts have none.
function sumsAreRight(answer, payload) {
  if (!payload.sums) return true;
  const checksum = (answer.outputs || []).find((output) => output.name === 'checksum');
  return (
    checksum !== undefined &&
    checksum.data.length === payload.sums.length &&
    payload.sums.every((sum, row) => Number(checksum.data[row]) === sum)
  );
}
