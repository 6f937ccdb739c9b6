-- Do what notes say (store/relate_own.lua) in the shard of the pair's session, where messages are checked against it.
-- Harmless when run again, in any order: the highest version counts.
-- KEYS[1]  a key of the shard (any)
-- ARGV     tag, then 5 per note: session, kind, user, other, version
-- Returns  per note: the version of the friendship that was known before
local call = redis.call
local result = {}
for i = 2, #ARGV, 5 do
  local meta, kind, user, other = ARGV[1] .. ':m:' .. ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local version = tonumber(ARGV[i + 4])
  local friendship = kind == 'add' or kind == 'delete'
  local field = friendship and 'v' or 'w:' .. user
  local known = tonumber(call('HGET', meta, field) or 0)
  if version >= known then
    call('HSET', meta, field, ARGV[i + 4])
    if kind == 'add' then call('HSET', meta, 'f:' .. user, '1', 'f:' .. other, '1') end
    if kind == 'delete' then call('HDEL', meta, 'f:' .. user, 'f:' .. other) end
    if kind == 'block' then call('HSET', meta, 'b:' .. user, '1') end
    if kind == 'unblock' then call('HDEL', meta, 'b:' .. user) end
  end
  result[#result + 1] = friendship and string.format('%.0f', known) or '0'
end
return result
