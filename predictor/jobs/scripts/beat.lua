-- A replica lives: model, replica, life_ms. Waiting and leased lines of the model, parked ones
-- of jobs that are kept, replicas alive, and what Redis says to a line that is to begin.
local model, replica, life_ms = ARGV[3], ARGV[4], tonumber(ARGV[5])
local refused = refusal() -- before this script writes, and may then go on
also_when_full()
local replicas, parked = model_key(model, 'replicas'), model_key(model, 'parked')
call('ZADD', replicas, now + life_ms, replica)
call('ZREMRANGEBYSCORE', replicas, '-inf', now)

for _, ended in ipairs(call('ZRANGEBYSCORE', parked, '-inf', now, 'LIMIT', 0, 1000)) do
  call('ZREM', parked, ended)
  call('DECRBY', model_key(model, 'parked_lines'), ended:match(':(%d+)$'))
end
-- A lease that has run out waits to be taken back, by whoever is woken by this.
local expired = call('ZCOUNT', model_key(model, 'leases'), '-inf', now)
local waiting = expired
for _, id in ipairs(call('ZRANGE', model_key(model, 'queue'), 0, -1)) do
  waiting = waiting + call('LLEN', job_key(id, 'fresh')) + call('ZCARD', job_key(id, 'again'))
end
return {waiting, call('ZCARD', model_key(model, 'leases')) - expired,
  tonumber(call('GET', model_key(model, 'parked_lines')) or 0), call('ZCARD', replicas), refused}
