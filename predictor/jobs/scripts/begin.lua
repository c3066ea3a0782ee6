-- Begin to receive a job: id, model, tier, owner, keep_ms, staged_ms, most unfinished jobs of a model.
-- Bytes that Redis may take (0: as many as there are), that it has taken, that unfinished jobs will
-- yet take; lines of the model that were answered, and the bytes of those answers. Or 0: too many.
local id, model, tier, owner, keep_ms, staged_ms, most = unpack(ARGV, 3)
if call('ZCARD', model_key(model, 'queue')) >= tonumber(most) then
  return 0
end
call('HSET', job_key(id), 'model', model, 'tier', tier, 'state', 'receiving', 'keep_ms', keep_ms,
  'created_ms', now, 'total', 0, 'done', 0, 'parked', 0, 'next', 0, 'owner', owner)
call('PEXPIRE', job_key(id), staged_ms)

local growth = 0
local growths = call('HGETALL', prefix .. 'growth')
for at = 1, #growths, 2 do
  local total, done, parked = unpack(call('HMGET', job_key(growths[at]), 'total', 'done', 'parked'))
  if total then
    growth = growth + growths[at + 1] * (1 - (done + parked) / total)
  else
    call('HDEL', prefix .. 'growth', growths[at])
  end
end
local info = redis.pcall('INFO', 'memory') -- a user of Redis may lack the right to ask
if type(info) ~= 'string' then
  info = ''
end
local function of_memory(name)
  return tonumber(info:match('%f[%w_]' .. name .. ':(%d+)')) or 0
end
local answers = call('HMGET', model_key(model, 'answers'), 'lines', 'bytes')
return {of_memory('maxmemory'), of_memory('used_memory') - of_memory('mem_not_counted_for_evict'),
  math.ceil(growth), tonumber(answers[1] or 0), tonumber(answers[2] or 0)}
