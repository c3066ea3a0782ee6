-- Forget a job that was not received whole.
local id = ARGV[3]
if call('HGET', job_key(id), 'state') == 'receiving' then
  call('UNLINK', job_key(id), job_key(id, 'fresh'))
end
return 1
