-- Begin to receive a job: id, model, tier, keep_ms, staged_ms, most unfinished jobs of a model.
local id, model, tier, keep_ms, staged_ms, most = unpack(ARGV, 3)
if call('ZCARD', model_key(model, 'queue')) >= tonumber(most) then
  return 0
end
call('HSET', job_key(id), 'model', model, 'tier', tier, 'state', 'receiving', 'keep_ms', keep_ms,
  'created_ms', now, 'total', 0, 'done', 0, 'parked', 0, 'next', 0)
call('PEXPIRE', job_key(id), staged_ms)
return 1
