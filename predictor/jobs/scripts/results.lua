-- One page of results: id, first index, most indices, most bytes (and one result over).
-- The index to go on from (nil at the end), then index, result, index, result, …
local id, first = ARGV[3], tonumber(ARGV[4])
local most_lines, most_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local total = tonumber(call('HGET', job_key(id), 'total'))
if not total then
  return 0
end
local page, bytes, index = {false}, 0, first
while index < total and index - first < most_lines and bytes < most_bytes do
  local result = call('HGET', results_key(id, index), index)
  if result then
    page[#page + 1], page[#page + 2] = index, result
    bytes = bytes + #result
  end
  index = index + 1
end
if index < total then
  page[1] = index
end
return page
