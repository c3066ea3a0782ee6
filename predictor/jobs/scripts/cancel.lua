-- No further line of the job begins. A line that runs may end; no other trace of it stays.
local id = ARGV[3]
local model, state = unpack(call('HMGET', job_key(id), 'model', 'state'))
if state == 'queued' then
  call('UNLINK', job_key(id, 'fresh'))
  for _, index in ipairs(call('ZRANGE', job_key(id, 'again'), 0, -1)) do
    call('HDEL', job_key(id, 'begun'), index)
  end
  call('DEL', job_key(id, 'again'))
  finish(id, model, 'cancelled')
end
return status_of(id)
