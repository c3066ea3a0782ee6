-- Keep more lines of a job that is being received: id, lines before these, staged_ms, lines.
-- Sent twice, they are kept once. 0 where what came before is gone.
local id, before, staged_ms = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local fresh, count = job_key(id, 'fresh'), #ARGV - 5
if call('HGET', job_key(id), 'state') ~= 'receiving' then
  return 0
end
local length = call('LLEN', fresh)
if length == before then
  call('RPUSH', fresh, unpack(ARGV, 6))
elseif length ~= before + count then
  return 0
end
call('PEXPIRE', fresh, staged_ms)
call('PEXPIRE', job_key(id), staged_ms)
return 1
