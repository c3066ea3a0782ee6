-- The job was received whole: it is queued. id, total, bytes that it will yet take. Nil where part of
-- it is gone.
local id, total, growth = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local model, state, kept = unpack(call('HMGET', job_key(id), 'model', 'state', 'total'))
if state == 'receiving' then
  if call('LLEN', job_key(id, 'fresh')) ~= total then
    return false
  end
  local order = call('INCR', prefix .. 'order')
  call('HSET', job_key(id), 'state', 'queued', 'total', total, 'order', order)
  call('PERSIST', job_key(id))
  call('PERSIST', job_key(id, 'fresh'))
  call('ZADD', model_key(model, 'queue'), order, id)
  call('HSET', prefix .. 'growth', id, growth)
  announce(model)
elseif tonumber(kept) ~= total then
  return false
end
return status_of(id)
