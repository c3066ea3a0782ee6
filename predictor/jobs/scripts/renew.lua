-- Prolong leases: model, lease_ms, then id, index, token of each. How many were still in force.
local leases, lease_ms = model_key(ARGV[3], 'leases'), tonumber(ARGV[4])
also_when_full()
local renewed = 0
for at = 5, #ARGV, 3 do
  local lease = lease_name(ARGV[at], ARGV[at + 1], ARGV[at + 2])
  if call('ZSCORE', leases, lease) then
    call('ZADD', leases, now + lease_ms, lease)
    renewed = renewed + 1
  end
end
return renewed
