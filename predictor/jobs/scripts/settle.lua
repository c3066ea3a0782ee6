-- Leases end: model, most attempts, then id, index, token, ending, result of each.
-- How many lines got their answer by this.
local model, most_attempts = ARGV[3], tonumber(ARGV[4])
local leases = model_key(model, 'leases')
local answered, wait_again = 0, false
for at = 5, #ARGV, 5 do
  local id, index, token, ending, result = unpack(ARGV, at, at + 4)
  local in_force = call('ZREM', leases, lease_name(id, index, token)) == 1
  if ending == 'answered' then
    if call('HEXISTS', job_key(id, 'begun'), index) == 1 then
      end_line(id, model, index, 'done', result)
      answered = answered + 1
    end
  elseif in_force then
    without_answer(id, model, index, ending, result, most_attempts)
    wait_again = true
  end
end
if wait_again then
  announce(model)
end
return answered
