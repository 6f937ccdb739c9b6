-- The info of groups, as far as a user is a member.
-- KEYS[1]  a key of the shard (any)
-- ARGV     user, then 2 per group: tag, group
-- Returns  per group: the values of its info, or false when he is not a member
local result = {}
for i = 2, #ARGV, 2 do
  local tag, group = ARGV[i], ARGV[i + 1]
  result[#result + 1] = redis.call('ZSCORE', tag .. ':p:' .. group, ARGV[1]) and redis.call('HMGET', tag .. ':i:' .. group,
    'name', 'avatar', 'owner', 'desc', 'limit', 'mode', 'created', 'updated')
end
return result
