-- Where a job stands: id, owner (empty: whoever asks). Then why no line begins, where none does.
local id, owner = ARGV[3], ARGV[4]
if not is_owner(id, owner) then
  return false
end
local fields = status_of(id)
if fields and fields[3] == 'queued' then
  fields[12] = refusal()
end
return fields
