-- No further line of the job begins: id, owner (empty: whoever asks). A line that runs may end; no
-- other trace of it stays.
local id, owner = ARGV[3], ARGV[4]
if not is_owner(id, owner) then
  return false
end
also_when_full()
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
