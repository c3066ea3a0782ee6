-- Goes before every script. ARGV[1] is the prefix of all keys; ARGV[2] the time in Unix
-- milliseconds, or empty for Redis's own clock, on which all replicas agree.
local prefix, now = ARGV[1], tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local call = redis.call
local RESULTS_PER_KEY = 10000 -- a key is forgotten in one go, which must not hold Redis up

local function job_key(id, part)
  return prefix .. 'job:' .. id .. (part and ':' .. part or '')
end

local function model_key(model, part)
  return prefix .. 'model:' .. model .. ':' .. part
end

local function results_key(id, index)
  return job_key(id, 'results:' .. math.floor(index / RESULTS_PER_KEY))
end

local function lease_name(id, index, token)
  return id .. ':' .. index .. ':' .. token
end

-- A full Redis refuses a script whose first write needs room, and lets one go on that has written.
-- Goes before what takes no more than it gives back.
local function also_when_full()
  call('DEL', prefix .. 'nothing')
end

-- What Redis would say to a write that needs room: an error, or nothing. Nothing is written.
local function refusal()
  local answer = redis.pcall('ZADD', prefix .. 'nothing', 'XX', 0, 'nothing')
  return type(answer) == 'table' and answer.err
end

-- The owner that a caller named is the job's, or none was named.
local function is_owner(id, owner)
  return owner == '' or call('HGET', job_key(id), 'owner') == owner
end

local function announce(model)
  call('PUBLISH', prefix .. 'waiting', model)
end

-- model, tier, state, total, done, parked, created, ended, kept until, waiting, leased
local function status_of(id)
  local fields = call('HMGET', job_key(id), 'model', 'tier', 'state', 'total', 'done', 'parked',
    'created_ms', 'ended_ms', 'kept_until_ms')
  if not fields[1] then
    return false
  end
  local again = call('ZCARD', job_key(id, 'again'))
  fields[10] = call('LLEN', job_key(id, 'fresh')) + again
  fields[11] = call('HLEN', job_key(id, 'begun')) - again
  return fields
end

-- The job has ended: it leaves the queue, and is forgotten in its own time.
local function finish(id, model, state)
  local keep_ms = call('HGET', job_key(id), 'keep_ms')
  call('HSET', job_key(id), 'state', state, 'ended_ms', now, 'kept_until_ms', now + keep_ms)
  call('ZREM', model_key(model, 'queue'), id)
  call('HDEL', prefix .. 'growth', id)
  local total, parked = unpack(call('HMGET', job_key(id), 'total', 'parked'))
  if tonumber(parked) > 0 then
    call('ZADD', model_key(model, 'parked'), now + keep_ms, id .. ':' .. parked)
  end
  for first = 0, total - 1, RESULTS_PER_KEY do
    call('PEXPIRE', results_key(id, first), keep_ms)
  end
  for _, part in ipairs({false, 'begun', 'again', 'failures'}) do
    call('PEXPIRE', job_key(id, part), keep_ms)
  end
end

-- A begun line has ended. `result` is JSON: an object answers it, a string says why it is parked.
local function end_line(id, model, index, counter, result)
  call('HDEL', job_key(id, 'begun'), index)
  call('ZREM', job_key(id, 'again'), index)
  call('HDEL', job_key(id, 'failures'), index)
  call('HSET', results_key(id, index), index, result)
  call('HINCRBY', job_key(id), counter, 1)
  local state, kept_until_ms = unpack(call('HMGET', job_key(id), 'state', 'kept_until_ms'))
  if state == 'cancelled' then -- the key may be a new one
    call('PEXPIRE', results_key(id, index), math.max(kept_until_ms - now, 0))
  elseif call('HLEN', job_key(id, 'begun')) == 0 and call('LLEN', job_key(id, 'fresh')) == 0 then
    finish(id, model, 'done')
  end
end

local function park_line(id, model, index, reason)
  call('INCR', model_key(model, 'parked_lines'))
  end_line(id, model, index, 'parked', reason)
end

-- A line that was begun waits again.
local function requeue(id, model, index)
  call('ZADD', job_key(id, 'again'), index, index)
  call('ZADD', model_key(model, 'queue'), call('HGET', job_key(id), 'order'), id)
end

-- What becomes of a line whose lease ended without an answer.
-- `ending` is 'returned', 'failed', which counts as an attempt, or 'refused', which is final.
local function without_answer(id, model, index, ending, reason, most_attempts)
  if call('HEXISTS', job_key(id, 'begun'), index) == 0 then
    return -- somebody else's run of it has ended it
  elseif call('HGET', job_key(id), 'state') ~= 'queued' then
    call('HDEL', job_key(id, 'begun'), index) -- the job was cancelled: not begun again
  elseif ending == 'returned' then
    requeue(id, model, index)
  elseif ending == 'refused'
    or call('HINCRBY', job_key(id, 'failures'), index, 1) >= most_attempts then
    park_line(id, model, index, reason)
  else
    requeue(id, model, index)
  end
end
