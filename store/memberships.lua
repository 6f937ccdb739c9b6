-- Whether users are members of groups.
-- KEYS[1]  a key of the shard (any)
-- ARGV     3 per question: tag, user, group
-- Returns  2 per question: version of the group (0: he is not a member), newest seqId
local call = redis.call
local result = {}
for i = 1, #ARGV, 3 do
  local tag, group = ARGV[i], ARGV[i + 2]
  local member = call('ZSCORE', tag .. ':p:' .. group, ARGV[i + 1])
  result[#result + 1] = member and tonumber(call('HGET', tag .. ':i:' .. group, 'version') or 0) or 0
  result[#result + 1] = member and tonumber(call('HGET', tag .. ':m:' .. group, 'q') or 0) or 0
end
return result
