-- Leases end: model, most attempts, then id, index, token, ending, result of each.
-- How many lines got their answer by this.
local model, most_attempts = ARGV[3], tonumber(ARGV[4])
local leases = model_key(model, 'leases')
local answered, bytes, wait_again = 0, 0, false
also_when_full()
for at = 5, #ARGV, 5 do
  local id, index, token, ending, result = unpack(ARGV, at, at + 4)
  local in_force = call('ZREM', leases, lease_name(id, index, token)) == 1
  if ending == 'answered' then
    if call('HEXISTS', job_key(id, 'begun'), index) == 1 then
      end_line(id, model, index, 'done', result)
      answered, bytes = answered + 1, bytes + #result
    end
  elseif in_force then
    without_answer(id, model, index, ending, result, most_attempts)
    wait_again = true
  end
end
if answered > 0 then -- by which the next job's need is reckoned
  call('HINCRBY', model_key(model, 'answers'), 'lines', answered)
  call('HINCRBY', model_key(model, 'answers'), 'bytes', bytes)
end
if wait_again then
  announce(model)
end
return answered
