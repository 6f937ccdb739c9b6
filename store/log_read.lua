-- Read the logs of shards for a consumer of a group.
-- KEYS[1]  a key of the shard (any)
-- ARGV     group, consumer, rows in all, then 2 per shard: tag, '>' for new rows or the id after which to read those that
--          were given to this consumer before and are not acknowledged
-- Returns  per shard that has any: tag, rows (id, fields); and the tags of shards without the group, each with false
local group, consumer, left = ARGV[1], ARGV[2], tonumber(ARGV[3])
local result = {}
for i = 4, #ARGV, 2 do
  local answer = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', left, 'STREAMS', ARGV[i] .. ':log', ARGV[i + 1])
  if answer and answer.err then
    if not string.find(answer.err, 'NOGROUP', 1, true) then return answer end
    result[#result + 1], result[#result + 2] = ARGV[i], false
  elseif answer and #answer[1][2] > 0 then
    result[#result + 1], result[#result + 2] = ARGV[i], answer[1][2]
    left = left - #answer[1][2]
    if left <= 0 then break end
  end
end
return result
