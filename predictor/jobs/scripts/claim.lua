-- Lease lines of a model: model, most lines, most bytes (and one line over), lease_ms,
-- most attempts. Milliseconds until the earliest lease in force ends (nil where there is none),
-- then id, index, token, tier, attempts that failed, line, for each.
local model, most_lines, most_bytes = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local lease_ms, most_attempts = tonumber(ARGV[6]), tonumber(ARGV[7])
local leases, queue = model_key(model, 'leases'), model_key(model, 'queue')
local EXPIRED = '"the replica that ran it ended or hung, each time it was tried"'
local SWEEP = 1000 -- leases; the next claim goes on

for _, lease in ipairs(call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, SWEEP)) do
  call('ZREM', leases, lease)
  local id, index = lease:match('^(.-):(%d+):')
  without_answer(id, model, index, 'failed', EXPIRED, most_attempts)
end

local claimed, lines, bytes = {false}, 0, 0
local token = call('INCR', prefix .. 'token')
while lines < most_lines and bytes < most_bytes do
  local id = call('ZRANGE', queue, 0, 0)[1]
  if not id then
    break
  end
  local index, line = call('ZPOPMIN', job_key(id, 'again'))[1], nil
  if index then
    line = call('HGET', job_key(id, 'begun'), index)
  else
    line = call('LPOP', job_key(id, 'fresh'))
    if line then
      index = call('HINCRBY', job_key(id), 'next', 1) - 1
      call('HSET', job_key(id, 'begun'), index, line)
    end
  end
  if line then
    call('ZADD', leases, now + lease_ms, lease_name(id, index, token))
    local failures = call('HGET', job_key(id, 'failures'), index) or 0
    for _, value in ipairs({id, index, token, call('HGET', job_key(id), 'tier'), failures, line}) do
      claimed[#claimed + 1] = value
    end
    lines, bytes = lines + 1, bytes + #line
  else
    call('ZREM', queue, id)
  end
end
local earliest = call('ZRANGE', leases, 0, 0, 'WITHSCORES')
if earliest[2] then
  claimed[1] = math.max(earliest[2] - now, 0)
end
return claimed
